"""Noise that is fine and everywhere, ours: taken away in squares of luminance and colour.

Shapes of images are (N, channels, height, width), those of planes (count, height, width). What is
known of squares lies where they begin.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import CELL, Judgement, cropped, dct, idle, inner
from .constants import constant, recorded

SQUARE = 2 * CELL  # pixels of a side; squares begin at every cell, so four of them see a pixel
HALF = CELL // 2  # pixels down and across, by which a second set of squares lies beside the first
AROUND = 2 * CELL  # pixels around one that tell what it is without noise
LEVELS = 5  # of luminance, evenly from 0 to 1, at which the noise is told


@constant
def cosines(low: int, device: torch.device) -> Tensor:
    """The lowest frequencies of each side in the orthonormal DCT-II of a square, as the filters of
    a convolution (low * low, 1, SQUARE, SQUARE), by vertical and horizontal frequency."""
    rows = dct(SQUARE, device)[:low]
    filters = torch.kron(rows, rows).view(-1, 1, SQUARE, SQUARE)
    # frequencies last, which the inverse is faster from; of one channel `to` would not do it
    return torch.empty_like(filters, memory_format=torch.channels_last).copy_(filters)


@constant
def inverse_cosines(low: int, device: torch.device) -> Tensor:
    """The filters that give the pixels of a cell, (CELL * CELL, low * low, 2, 2), by the squares
    that see it: that above and to the left begins a cell before it, and shows it last."""
    cells = cosines(low, device).unflatten(3, (2, CELL)).unflatten(2, (2, CELL)).flip(2, 4)
    cells = cells[:, 0].permute(2, 4, 0, 1, 3).flatten(0, 1)
    return cells.contiguous(memory_format=torch.channels_last)


@constant
def mixtures(device: torch.device) -> Tensor:
    """The orthonormal DCT-II of the three colours (3, 3): sqrt(3) times the luminance, then two
    differences of colours."""
    return dct(3, device)


def transformed(planes: Tensor, low: int = SQUARE) -> Tensor:
    """Planes (count, H, W), H and W divisible by CELL, their edges repeated -> the lowest
    frequencies of each side (count, low * low, H / 4 + 1, W / 4 + 1) of the squares that begin one
    cell before and at every cell."""
    wide = F.pad(planes[:, None], (CELL,) * 4, mode="replicate")
    return F.conv2d(wide, cosines(low, planes.device), stride=CELL)


def together(squares: Tensor, filters: Tensor) -> Tensor:
    """The convolution with filters of 2x2 positions; as four products in a graph, which would take
    what torch chooses a small convolution by for a rule about sizes."""
    if not recorded():
        return F.conv2d(squares, filters)
    height, width = squares.shape[2] - 1, squares.shape[3] - 1
    parts = (
        torch.einsum(
            "cf,nfhw->nchw", filters[:, :, a, b], squares[:, :, a:, b:][:, :, :height, :width]
        )
        for a in (0, 1)
        for b in (0, 1)
    )
    return sum(parts, torch.zeros(()))


def rebuilt(frequencies: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `transformed`, of squares with weights (count, 1, h, w), by which the mean is
    taken where they overlap: (count, H, W)."""
    low = math.isqrt(frequencies.shape[1])
    cells = together(frequencies * weight, inverse_cosines(low, weight.device))
    cells = cells / (4 * F.avg_pool2d(weight, 2, stride=1))
    # F.pixel_shuffle, which takes twice the time where the channels lie last
    cells = cells.unflatten(1, (CELL, CELL)).permute(0, 3, 1, 4, 2)
    return cells.flatten(3).flatten(1, 2)


@constant
def fine(device: torch.device) -> Tensor:
    """1 for the frequencies of a square above the diagonal, where a photograph has little, else 0:
    (SQUARE * SQUARE,)."""
    steps = torch.arange(SQUARE, device=device)
    return (steps[:, None] + steps >= SQUARE).float().flatten()


def weights_at(grey: Tensor) -> Tensor:
    """How near luminances (N, ...) are to each of the LEVELS (N, LEVELS, ...); sums are 1."""
    levels = torch.arange(LEVELS, device=grey.device).view(-1, *[1] * (grey.ndim - 1))
    away = grey.clamp(0, 1)[:, None] * (LEVELS - 1) - levels
    return (1 - away.abs()).clamp(min=0)


def luminance(means: Tensor) -> Tensor:
    """By the first frequency of squares of the first of `mixtures`."""
    return means / (SQUARE * math.sqrt(3))


def quantile(energy: Tensor, weights: Tensor, part: float, least: float) -> Tensor:
    """Of energies (N, count) above the least, under weights (N, K, count): (N, K)."""
    ordered, order = energy.sort(1)
    weights = weights.gather(2, order[:, None].expand_as(weights)) * (ordered > least)[:, None]
    sums = weights.cumsum(2)
    found = (sums < part * sums[..., -1:]).sum(2)
    return ordered.gather(1, found)


def drawn(values: Tensor, deviation: Tensor) -> Tensor:
    """How far clipping at 0 has drawn up the mean of noise of this deviation, by where it is now: a
    parabola, within 0.03 deviations of what it is for normal noise about 0 or more."""
    ratio = (values / deviation).clamp(min=0)
    return deviation * ratio.minimum(0.277 * (1.6 - ratio).clamp(min=0).square())


class NoiseFilter(nn.Module):
    """Ours: frequencies of a square that noise alone explains are taken away.

    A sliding DCT under a threshold, of luminance and colours (Yu and Sapiro, Image Processing On
    Line 1, 2011); of colours the fine half of each side goes altogether, as no eye has it. How
    strong the noise is at each luminance the image tells: in most photographs a quarter of all
    squares has next to nothing above the diagonal. Texture all over an image looks like noise to
    such a rule, so whether there is any the statistics of the image say. At first there is none.
    """

    quarter, missed = 0.25, 0.85  # of the squares; and what share of the noise that one shows
    nothing = 6e-6  # a few times the power of rounding to 8 bits: a flatter square tells of none
    threshold = 2.5, 2.7  # in deviations, of the luminance and of colours
    soft = 0.4  # in shares of its square, how soft it is
    most = 0.9  # of the noise that is taken away: recognisers want some detail, true or not
    clipped = 1.4  # deviations of the noise, for one that is left of it at an end of the range
    doubt = 0.75  # chance of noise up to which none is taken: texture has more of it now and then

    def __init__(self, known: int) -> None:
        super().__init__()
        self.asks: Any = Judgement(known)

    def chance(self, known: Tensor) -> Tensor:
        """Of there being noise (N,), by what is known of images (N, known)."""
        return self.asks.chance(known)

    def share(self, known: Tensor) -> Tensor:
        """Of the noise that is taken away (N,): none where there may be none."""
        sure = (self.chance(known) - self.doubt) / (1 - self.doubt)
        return self.most * sure.clamp(min=0)

    def levels(self, windows: Tensor) -> Tensor:
        """What `response.windows_of` gives -> variance of the noise of each of the `mixtures` at
        each of the LEVELS of luminance (N, 3, LEVELS)."""
        planes = torch.einsum("oc,nwchv->nowhv", mixtures(windows.device), windows)
        # side by side, in a row for each image and colour
        rows = planes.permute(0, 1, 3, 2, 4).flatten(3).flatten(0, 1)
        frequencies = F.conv2d(rows[:, None], cosines(SQUARE, rows.device), stride=SQUARE)
        frequencies, above = frequencies.flatten(2), fine(rows.device)
        energy = torch.einsum("f,nfp->np", above / above.sum(), frequencies.square())
        # where no square is as bright or dark, what all of them tell
        seen = weights_at(luminance(frequencies[::3, 0])) + 1e-3
        found = quantile(energy, seen.repeat_interleave(3, 0), self.quarter, self.nothing)
        return (found / self.missed).unflatten(0, (-1, 3))

    def mended(self, images: Tensor, variance: Tensor, share: Tensor) -> Tensor:
        """Images (N, 3, H, W) in float32, H and W divisible by 4, without that share (N,) of the
        noise that `levels` tells of."""
        if idle(share):
            return images
        smooth = self.smoothed(images, variance)
        return torch.lerp(images, smooth, share[:, None, None, None])

    def smoothed(self, images: Tensor, variance: Tensor) -> Tensor:
        """Images (N, 3, H, W) without what noise of the variances (N, 3, LEVELS) explains: the mean
        of what two sets of squares say, which leaves less to be seen of their edges."""
        height, width = images.shape[2:]
        # together, for a graph of half the size
        sets = [F.pad(images, (n, CELL - n) * 2, mode="replicate") for n in (0, HALF)]
        both = self.in_squares(torch.cat(sets), torch.cat([variance] * 2))
        first, second = both.unflatten(0, (2, -1)).unbind(0)
        first, second = cropped(first, height, width), inner(second, HALF)
        return self.unclipped((first + second) / 2, variance)

    def in_squares(self, images: Tensor, variance: Tensor) -> Tensor:
        """The same by the squares that begin at every cell."""
        mixed = mixtures(images.device)
        grey, *colours = torch.einsum("oc,nchw->onhw", mixed, images)
        whole, coarse = transformed(grey), transformed(torch.cat(colours), CELL)
        near = weights_at(luminance(whole[:, 0]))
        noise = torch.einsum("nkhw,nok->onhw", near, variance)
        parts = (whole, noise[0]), (coarse, noise[1:].flatten(0, 1))
        planes = [self.kept(*p, t) for p, t in zip(parts, self.threshold, strict=True)]
        return torch.einsum("oc,onhw->nchw", mixed, torch.cat(planes).unflatten(0, (3, -1)))

    def unclipped(self, smooth: Tensor, variance: Tensor) -> Tensor:
        """Smooth images as dark and as bright as they were before the range clipped their noise,
        which had drawn them to its middle (Foi, Signal Processing 89, 2009)."""
        ends = self.clipped * variance[:, 0, :: LEVELS - 1].clamp(min=1e-8).sqrt()
        low, high = ends[:, :, None, None, None].unbind(1)
        return smooth - drawn(smooth, low) + drawn(1 - smooth, high)

    def kept(self, frequencies: Tensor, noise: Tensor, threshold: float) -> Tensor:
        """Squares' frequencies (count, low * low, h, w), variances of the noise in them
        (count, h, w) -> planes of what is above it (count, H, W)."""
        # clamped, too: the exporter to ONNX takes so small a term for none, and 0 / 0 is no number
        limit = (threshold**2 * noise + 1e-9).clamp(min=1e-9)[:, None]
        kept = frequencies.square() / (2 * self.soft * limit) - (1 / self.soft - 1) / 2
        mean = F.pad(limit.new_ones(1, 1, 1), (0, 0, 0, 0, 0, frequencies.shape[1] - 1))
        kept = kept.clamp(0, 1).maximum(mean)
        # the fewer frequencies a square needs, the more of its noise is gone
        return rebuilt(frequencies * kept, 1 / kept.sum(1, keepdim=True))
