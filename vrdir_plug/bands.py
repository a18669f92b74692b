"""What the network works on: the bands of cells of 4x4 pixels, and their statistics.

Shapes are (N, channels, height, width).
"""

import math
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .constants import constant, recorded


def conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution that starts at zero, so that what it adds starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


CELL = 4  # ours works on the 4x4 frequencies of cells of 4 x 4 pixels, one cell a position
BANDS = 3 * CELL**2


@constant
def dct(length: int, device: torch.device | None = None) -> Tensor:
    """The orthonormal DCT-II (length, length), a row for each frequency."""
    steps = torch.arange(length, device=device, dtype=torch.float32)
    rows = (math.pi / length * (steps + 0.5) * steps[:, None]).cos() / math.sqrt(length / 2)
    return torch.cat([rows[:1] / math.sqrt(2), rows[1:]])


@constant
def band_filters(device: torch.device | None = None) -> Tensor:
    """Orthonormal 4x4 DCT-II of a cell, as the filters of a convolution (16, 1, 4, 4), by vertical
    and horizontal frequency: the first one gives four times the mean of the cell."""
    rows = dct(CELL, device)
    return torch.kron(rows, rows).view(-1, 1, CELL, CELL)


@constant
def difference_filters(device: torch.device | None = None) -> Tensor:
    """Steps from pixel to pixel of a cell: three across, three down (6, 1, 4, 4)."""
    across = torch.eye(CELL, device=device).diff(dim=0)[:, None, None]
    across = across * torch.eye(CELL, device=device)[1, :, None]
    return torch.cat([across, across.mT])


@constant
def slope_filters(device: torch.device | None = None) -> Tensor:
    """Slopes in the four corners of a cell: across, then down (8, 1, 4, 4)."""
    places = torch.eye(CELL - 1, device=device)[::2]
    steps, means = (F.pad(places, (1, 0)) + sign * F.pad(places, (0, 1)) for sign in (-1, 1))
    slopes = torch.cat([torch.kron(means, steps), torch.kron(steps, means)]) / 2
    return slopes.view(-1, 1, CELL, CELL)


@constant
def colour_filters(device: torch.device) -> Tensor:
    """`band_filters` for each of three colours (48, 1, 4, 4)."""
    return band_filters(device).repeat(3, 1, 1, 1)


@constant
def cell_filters(device: torch.device, dtype: torch.dtype) -> Tensor:
    """The inverse of `colour_filters`: of the bands of a cell its pixels (48, 48, 1, 1)."""
    filters = band_filters(device).to(dtype).flatten(1)
    return torch.block_diag(*[filters] * 3).T[..., None, None]


def bands_of(images: Tensor, stride: int = CELL) -> Tensor:
    """Images (N, 3, H, W), H and W divisible by 4 -> the 16 bands of each colour in turn
    (N, 48, H/4, W/4), float32; with a larger stride, those of some of the cells."""
    with full_precision(images):
        images = images.float().contiguous(memory_format=torch.channels_last)
        return F.conv2d(images, colour_filters(images.device), stride=stride, groups=3)


def image_of(bands: Tensor) -> Tensor:
    """The inverse, in the bands' precision."""
    with full_precision(bands):
        # as one product: in groups, or as one for each colour, it takes longer
        cells = F.conv2d(bands, cell_filters(bands.device, bands.dtype))
        # F.pixel_shuffle, which takes twice the time where the channels lie last
        cells = cells.unflatten(1, (3, CELL, CELL)).permute(0, 1, 4, 2, 5, 3)
        return cells.flatten(4).flatten(2, 3)


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Spectra and statistics overflow or round away in half precision: leave autocast for them."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample and channel over H, W, in float32: two (N, C) tensors."""
    return from_moments(*moments(features))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the features and of their squares over H, W, in float32: two (N, C) tensors."""
    features = features.float()
    # from the squares, in one pass each: several times faster than torch.std on CPU
    return features.mean((2, 3)), features.square().mean((2, 3))


def from_moments(mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, of the means of a number and of its square."""
    return mean, (square - mean.square()).clamp(min=1e-10).sqrt()


SPECTRUM = BANDS + 3  # numbers of an image that `spectrum` returns


def log_amplitude(energy: Tensor) -> Tensor:
    """About 0 on average, or the first layers learn slowly."""
    return (energy.clamp(min=1e-8).sqrt() + 1e-3).log() + 2


def spectrum_of(mean: Tensor, deviation: Tensor) -> Tensor:
    """Colour means and log amplitudes of an image's bands, from their statistics (N, 48).

    These (N, SPECTRUM) of the amplitude spectrum tell noise, blur, haze and darkness apart; E's
    features hardly do, for E learns not to mind.
    """
    means = mean[:, :: CELL**2] / CELL
    return torch.cat([means, log_amplitude(deviation.square())], 1)


def spectrum_in(bands: Tensor, energy: Tensor) -> Tensor:
    """The same from bands and their squares (N, 48, h, w)."""
    return spectrum_of(*from_moments(bands.mean((2, 3)), energy.mean((2, 3))))


def resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Averages on a small grid, smoothly: (N, C, h, w) -> (N, C, *size)."""
    return F.interpolate(features, size, mode="bilinear", antialias=True)


def linear(layer: nn.Conv2d, vectors: Tensor) -> Tensor:
    """A 1x1 convolution on (N, C), in the vectors' precision."""
    bias = torch.as_tensor(layer.bias).to(vectors.dtype)
    return F.linear(vectors, layer.weight.flatten(1).to(vectors.dtype), bias)


# Behind a plain ReLU whole levels of the U died in training, and nothing brought them back.
LEAK = 0.1


class Judgement(nn.ModuleList):
    """Whether images have something that can be taken away, by what is known of them (N, known).
    At first nothing is likely."""

    def __init__(self, known: int) -> None:
        into, out = nn.Conv2d(known, 16, 1), zeroed(nn.Conv2d(16, 1, 1))
        nn.init.constant_(torch.as_tensor(out.bias), -0.5)
        super().__init__([into, out])

    def chance(self, known: Tensor) -> Tensor:
        """Of there being any (N,)."""
        layers: Any = self
        into, out = layers
        return (4 * linear(out, F.leaky_relu(linear(into, known), LEAK))[:, 0]).sigmoid()

    def share(self, known: Tensor) -> Tensor:
        """Of it that is taken away (N,): none where it is hardly likely."""
        return (2 * self.chance(known) - 0.5).clamp(0, 1)


def idle(share: Tensor) -> bool:
    """Whether nothing is to be done to any of the images, by shares (N,): seen on the CPU only,
    where nothing waits for it."""
    return share.device.type == "cpu" and not recorded() and not share.any()


def plus_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """first + second third, in one pass where no gradient is asked for: its own would be slower."""
    if torch.is_grad_enabled():
        return first + second * third
    return torch.addcmul(first, second, third)


def convolve(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """The layer in the features' precision, whatever that of its weights."""
    bias = torch.as_tensor(layer.bias).to(features.dtype)
    return F.conv2d(features, layer.weight.to(features.dtype), bias, padding=layer.padding)


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """The upper left height x width of images."""
    if not torch.compiler.is_compiling():
        return images[..., :height, :width]
    # a slice's strides make torch.export take the example's size for the rule
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    return images.index_select(2, rows).index_select(3, columns)


def filled(images: Tensor, stride: int) -> Tensor:
    """Edge pixels repeated to the right and below up to the next multiple of `stride`."""
    # not -side % stride: inductor has no rule for the remainder of a negative size
    below, right = ((s + stride - 1) // stride * stride - s for s in images.shape[-2:])
    return F.pad(images, (0, right, 0, below), mode="replicate")


def inner(planes: Tensor, margin: int) -> Tensor:
    """Without so many rows and columns on each side."""
    return planes[..., margin : planes.shape[-2] - margin, margin : planes.shape[-1] - margin]
