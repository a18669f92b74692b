"""Discrete Fourier transforms that run, export and compile: by FFT, or by products of matrices.

Shapes are (N, channels, height, width).
"""

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from .constants import constant, recorded


def exporting() -> bool:
    """Within torch.export; torch before 2.7 does not tell it from torch.compile."""
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def realised(planes: Tensor) -> Tensor:
    """The same. Under torch.compile they lie in memory from here on: what is put together of blocks
    inductor (torch 2.13) reads through all that made it, and fails where that is by steps."""
    if torch.compiler.is_compiling() and not exporting():
        return planes.as_strided(planes.shape, planes.stride())
    return planes


@constant
def dft(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine part (size, size) of the orthonormal DFT matrix cos - i sin."""
    steps = torch.arange(size, device=device)
    # as a tensor: a size that torch.export keeps free cannot be the scalar of a remainder in ONNX
    count = steps[-1] + 1
    # the product is reduced while it is still an exact integer
    angle = (steps[:, None] * steps).remainder(count).float() * (2 * math.pi) / count
    scale = count.float().rsqrt()
    return angle.cos() * scale, angle.sin() * scale


def spectrum_by_products(planes: Tensor) -> Tensor:
    """FFT2 of planes (..., h, w), orthonormal: real and imaginary parts (..., h, 2, w).

    Products are cheap where the planes are small, and export and run where complex numbers do not.
    Real and imaginary part lie side by side: one product for both, one side at a time.
    """
    cos_down, sin_down = dft(planes.shape[-2], planes.device)
    cos, sin = dft(planes.shape[-1], planes.device)
    parts = turned(planes.mT @ torch.cat([cos_down, sin_down], 1))
    return (parts @ block_matrix(cos, -sin, -sin, -cos)).unflatten(-1, (2, -1))


def back_by_products(spectrum: Tensor) -> Tensor:
    """Re IFFT2 of what `spectrum_by_products` gives."""
    cos_down, sin_down = dft(spectrum.shape[-3], spectrum.device)
    cos, sin = dft(spectrum.shape[-1], spectrum.device)
    parts = turned(spectrum.flatten(-2))
    parts = turned(parts @ block_matrix(cos_down, sin_down, -sin_down, cos_down))
    return parts @ torch.cat([cos, -sin])


def block_matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The matrix [a b; c d]."""
    return torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)])


def turned(parts: Tensor) -> Tensor:
    """Two parts side by side, (..., w, 2 h), each transposed: (..., h, 2 w)."""
    return parts.unflatten(-1, (2, -1)).transpose(-3, -1).flatten(-2)


def modulate_by_products(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Re IFFT2(gain(|F|) F), F = FFT2(features)."""
    spectrum = spectrum_by_products(features)
    amplitude = spectrum.square().sum(-2).clamp(min=1e-12).sqrt()
    return back_by_products(spectrum * gain(amplitude).unsqueeze(-2))


def modulate_by_fft(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """The same, faster where h and w are large."""
    spectrum = torch.fft.rfft2(features, norm="ortho")
    amplitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-12).sqrt()
    return torch.fft.irfft2(spectrum * gain(amplitude), s=features.shape[-2:], norm="ortho")


def power(planes: Tensor) -> Tensor:
    """The mean of |FFT2|^2, orthonormal, of planes (N, count, h, w), w even: (N, h, w)."""
    if exporting():
        return spectrum_by_products(planes).square().sum(-2).mean(1)
    half = torch.view_as_real(torch.fft.rfft2(planes, norm="ortho")).square().sum(-1).mean(1)
    # a real plane has as much at a frequency as at its negative
    return realised(torch.cat([half, half[..., 1:-1].flip(1, 2).roll(1, 1)], 2))


@constant
def hann_window(side: int, device: torch.device) -> Tensor:
    """(side, side)."""
    steps = torch.arange(side, device=device) * (2 * math.pi / side)
    hann = 0.5 - 0.5 * steps.cos()
    return hann[:, None] * hann


def under_hann(planes: Tensor) -> Tensor:
    """Planes (..., n, n) without their means, under a Hann window."""
    means = planes.mean((-2, -1), keepdim=True)
    return (planes - means) * hann_window(planes.shape[-1], planes.device)


def convolved(planes: Tensor, kernels: Tensor) -> Tensor:
    """Planes (..., h, w) with kernels of this size whose middle comes first; the ends meet."""
    if exporting():
        size = math.sqrt(kernels.shape[-2] * kernels.shape[-1])
        first, second = spectrum_by_products(planes), spectrum_by_products(kernels) * size
        return back_by_products(torch.stack(product(first.unbind(-2), second.unbind(-2)), -2))
    if not recorded():
        both = torch.fft.rfft2(planes) * torch.fft.rfft2(kernels)
        return torch.fft.irfft2(both, s=planes.shape[-2:])
    # as real numbers: inductor has no code for complex ones
    first, second = (torch.view_as_real(torch.fft.rfft2(field)) for field in (planes, kernels))
    half = torch.stack(product(first.unbind(-1), second.unbind(-1)), -1)
    return torch.fft.irfft2(torch.view_as_complex(half), s=planes.shape[-2:])


def product(first: Sequence[Tensor], second: Sequence[Tensor]) -> list[Tensor]:
    """Of two complex numbers, each a real and an imaginary part."""
    (a, b), (c, d) = first, second
    return [a * c - b * d, a * d + b * c]
