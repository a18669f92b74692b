"""The corruptions that evaluation applies, by their published definitions.

All but `low_light` are ImageNet-C: Hendrycks and Dietterich, "Benchmarking Neural Network
Robustness to Common Corruptions and Perturbations", ICLR 2019, with the severities of its
`make_imagenet_c.py`. Its released files were also stored as JPEG of quality 85 in the end; that
second loss is not repeated here. `low_light` is ours, defined in the docstring of its function.
Nothing is shared with the training degradations, so no result rests on a common formula.

`CORRUPTIONS[name](image, severity, generator)` takes one RGB image (3, H, W), float in [0, 1], of
any H, W >= 1, a severity from 1 to 5, and a CPU `torch.Generator` that alone decides the
randomness. It returns an image of the same shape and dtype in 8-bit steps (k / 255, k whole), and
raises ValueError for another severity, shape, dtype or range.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image
from torch import Generator, Tensor

Corruption = Callable[[Tensor, int, Generator], Tensor]

# low_light: a small-pixel camera at base gain, in electrons.
FULL_WELL = 5000.0
READ_NOISE = 3.0


def corruption(formula: Callable[..., Tensor], *levels: tuple[float, ...]) -> Corruption:
    def corrupt(image: Tensor, severity: int, generator: Generator) -> Tensor:
        if severity not in range(1, 6):
            raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
        check_image(image)
        pixels = formula(image.detach().cpu().double(), generator, *levels[severity - 1])
        # ImageNet-C truncates to 8 bits. The small lift keeps what arithmetic has put a hair below
        # a whole level, such as the white of a blurred white wall, from losing a whole step.
        return ((pixels.clamp(0, 1) * 255 + 1e-3).floor() / 255).to(image.dtype)

    return corrupt


def check_image(image: Tensor) -> None:
    right = image.ndim == 3 and image.shape[0] == 3 and image.numel() > 0
    if not (right and image.is_floating_point() and image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            "expected one RGB image (3, H, W), float in [0, 1]; got "
            f"{tuple(image.shape)} of {image.dtype} or values outside [0, 1]"
        )


def gaussian_noise(pixels: Tensor, generator: Generator, sigma: float) -> Tensor:
    return pixels + sigma * torch.randn(pixels.shape, generator=generator, dtype=pixels.dtype)


def defocus_blur(pixels: Tensor, _: Generator, radius: int, alias_blur: float) -> Tensor:
    return convolve(pixels, smooth_disk(radius, alias_blur))


def fog(pixels: Tensor, generator: Generator, strength: float, decay: float) -> Tensor:
    height, width = pixels.shape[1:]
    haze = plasma_fractal(max(height, width), decay, generator)[:height, :width]
    brightest = pixels.max()
    return (pixels + strength * haze) * brightest / (brightest + strength)


def low_light(pixels: Tensor, generator: Generator, exposure: float) -> Tensor:
    """Photograph the scene with a fraction of the light, at unchanged gain.

    sRGB is decoded to linear light (IEC 61966-2-1) and scaled by the exposure. Photons arrive as a
    Poisson process (shot noise), the sensor adds normal read noise, and sRGB is encoded again.
    """
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    shot = torch.poisson(linear * exposure * FULL_WELL, generator=generator)
    read = READ_NOISE * torch.randn(shot.shape, generator=generator, dtype=shot.dtype)
    dark = ((shot + read) / FULL_WELL).clamp(0, 1)
    return torch.where(dark <= 0.0031308, 12.92 * dark, 1.055 * dark ** (1 / 2.4) - 0.055)


def contrast(pixels: Tensor, _: Generator, kept: float) -> Tensor:
    mean = pixels.mean(dim=(1, 2), keepdim=True)  # (3, 1, 1)
    return mean + kept * (pixels - mean)


def jpeg_compression(pixels: Tensor, _: Generator, quality: int) -> Tensor:
    levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
    encoded = io.BytesIO()
    Image.fromarray(levels.numpy()).save(encoded, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(encoded))).permute(2, 0, 1) / 255.0  # (3, H, W)


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": corruption(gaussian_noise, (0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "defocus_blur": corruption(defocus_blur, (3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "fog": corruption(fog, (1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "low_light": corruption(low_light, (1 / 4,), (1 / 8,), (1 / 16,), (1 / 32,), (1 / 64,)),
    "contrast": corruption(contrast, (0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    "jpeg_compression": corruption(jpeg_compression, (25,), (18,), (15,), (10,), (7,)),
}


def plasma_fractal(side: int, decay: float, generator: Generator) -> Tensor:
    """Height map in [0, 1] by the diamond-square algorithm, on a torus.

    Every octave halves the spacing. A new point is the mean of its four neighbours plus a uniform
    offset, whose range shrinks by `decay` squared from octave to octave: ImageNet-C divides its
    amplitude by `decay` and applies that amplitude twice.

    Returns (S, S) float64, S the smallest power of two >= max(side, 2): 256 for a 224 px image.
    """
    heights = torch.zeros(1, 1, dtype=torch.float64)
    amplitude = 1.0
    while heights.shape[0] < max(side, 2):
        heights = next_octave(heights, amplitude, generator)
        amplitude /= decay**2
    heights = heights - heights.min()
    return heights / heights.max()


def next_octave(corners: Tensor, amplitude: float, generator: Generator) -> Tensor:
    def offset_mean(total: Tensor) -> Tensor:
        uniform = torch.rand(total.shape, generator=generator, dtype=total.dtype)
        return total / 4 + amplitude * (2 * uniform - 1)

    right, below = corners.roll(-1, 1), corners.roll(-1, 0)
    heights = corners.repeat_interleave(2, 0).repeat_interleave(2, 1)
    heights[1::2, 1::2] = centres = offset_mean(corners + right + below + below.roll(-1, 1))
    heights[::2, 1::2] = offset_mean(corners + right + centres + centres.roll(1, 0))
    heights[1::2, ::2] = offset_mean(corners + below + centres + centres.roll(1, 1))
    return heights


def smooth_disk(radius: int, alias_blur: float) -> Tensor:
    reach = max(radius, 8)
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).double()
    # ImageNet-C cuts the smoothing off at one pixel for small disks, at two for large ones.
    near = torch.arange(-1, 2) if radius <= 8 else torch.arange(-2, 3)
    bell = torch.exp(-(near.double() ** 2) / (2 * alias_blur**2))
    return convolve((disk / disk.sum())[None], torch.outer(bell, bell) / bell.sum() ** 2)[0]


def convolve(planes: Tensor, kernel: Tensor) -> Tensor:
    """Convolve (C, H, W) with an odd, symmetric kernel, mirroring about the border pixels."""
    reach = kernel.shape[0] // 2
    # numpy mirrors as often as a small image needs; torch's own padding refuses to.
    margin = ((0, 0), (reach, reach), (reach, reach))
    padded = torch.from_numpy(np.pad(planes.numpy(), margin, mode="reflect"))
    size = padded.shape[1:]
    # A direct float64 convolution takes a hundred times longer on a CPU.
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    result: Tensor = torch.fft.irfft2(product, s=size)  # (C, H + 2 reach, W + 2 reach)
    return result[:, 2 * reach :, 2 * reach :]
