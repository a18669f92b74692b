"""Noise that is fine and everywhere, ours: taken away in squares of luminance and colour.

Shapes of images are (N, channels, height, width), those of planes (count, height, width). Squares
and their frequencies lie first, (SQUARE, SQUARE, ...): so a transform is one product.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import CELL, Judgement, cropped, dct, idle, inner
from .constants import constant

SQUARE = 2 * CELL  # pixels of a side; squares begin at every cell, so four of them see a pixel
HALF = CELL // 2  # pixels down and across, by which a second set of squares lies beside the first
AROUND = 2 * CELL  # pixels around one that tell what it is without noise
LEVELS = 5  # of luminance, evenly from 0 to 1, at which the noise is told


@constant
def cosines(device: torch.device, kept: int = CELL) -> tuple[Tensor, Tensor]:
    """The first halves of the rows of the orthonormal DCT-II of SQUARE, (kept, CELL) each: those of
    the lowest even frequencies, whose second halves mirror them, and of the lowest odd ones, where
    the sign changes."""
    rows = dct(SQUARE, device)[:, :CELL]
    return rows[::2][:kept], rows[1::2][:kept]


@constant
def mixtures(device: torch.device) -> Tensor:
    """The orthonormal DCT-II of the three colours (3, 3): sqrt(3) times the luminance, then two
    differences of colours."""
    return dct(3, device)


def down(squares: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """Squares (SQUARE, ...) -> their DCT along the first side, even frequencies before odd ones."""
    first, second = squares.flatten(1).split(CELL)
    second = second.flip(0)
    found = torch.cat([even @ (first + second), odd @ (first - second)])
    return found.unflatten(1, squares.shape[1:])


def up(frequencies: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """The inverse of `down`, of frequencies that are not there as if they were 0."""
    mirrored, turned = frequencies.flatten(1).split(len(even))
    mirrored, turned = even.T @ mirrored, odd.T @ turned
    whole = torch.cat([mirrored + turned, (mirrored - turned).flip(0)])
    return whole.unflatten(1, frequencies.shape[1:])


def transformed(squares: Tensor, kept: int = CELL) -> Tensor:
    """Squares (SQUARE, SQUARE, ...) -> their DCT, that across first, of which the lowest 2 kept
    frequencies of each side: (2 kept, 2 kept, ...)."""
    rows = cosines(squares.device, kept)
    return down(down(squares, *rows).transpose(0, 1), *rows)


def rebuilt(frequencies: Tensor) -> Tensor:
    """The inverse of `transformed`: (SQUARE, SQUARE, ...)."""
    rows = cosines(frequencies.device, len(frequencies) // 2)
    return up(up(frequencies, *rows).transpose(0, 1), *rows)


@constant
def fine(device: torch.device) -> Tensor:
    """1 for the frequencies of a square above the diagonal, where a photograph has little, else 0:
    (SQUARE, SQUARE)."""
    steps = torch.arange(SQUARE, device=device)
    steps = torch.cat([steps[::2], steps[1::2]])
    return (steps[:, None] + steps >= SQUARE).float()


def side_by_side(planes: Tensor) -> Tensor:
    """Planes (N, count, H, W) -> squares that do not overlap (SQUARE, SQUARE, N, count * ...)."""
    squares = planes.unflatten(3, (-1, SQUARE)).unflatten(2, (-1, SQUARE))
    return squares.permute(3, 5, 0, 1, 2, 4).flatten(3)


def at_cells(planes: Tensor) -> Tensor:
    """Planes (N, H, W), H and W divisible by CELL, their edges repeated -> squares that begin one
    cell before and at every cell (SQUARE, SQUARE, N, H / 4 + 1, W / 4 + 1)."""
    wide = F.pad(planes[:, None], (CELL,) * 4, mode="replicate")[:, 0]
    cells = wide.unflatten(2, (-1, CELL)).unflatten(1, (-1, CELL)).permute(2, 4, 0, 1, 3)
    rows = torch.cat([cells[..., :-1, :], cells[..., 1:, :]])
    return torch.cat([rows[..., :-1], rows[..., 1:]], 1)


def added(squares: Tensor) -> Tensor:
    """Sums of what overlaps: what `at_cells` gives -> cells (CELL, CELL, N, H / 4, W / 4)."""
    first, second = squares.split(CELL)
    rows = first[..., 1:, :] + second[..., :-1, :]
    first, second = rows.split(CELL, 1)
    return first[..., 1:] + second[..., :-1]


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
        frequencies = transformed(side_by_side(planes.flatten(0, 1)))
        above = fine(windows.device)
        energy = torch.einsum("uv,uvnp->np", above / above.sum(), frequencies.square())
        # where no square is as bright or dark, what all of them tell
        seen = weights_at(luminance(frequencies[0, 0, ::3])) + 1e-3
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
        whole = transformed(at_cells(grey))
        coarse = transformed(at_cells(torch.cat(colours)), CELL // 2)
        near = weights_at(luminance(whole[0, 0]))
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
        """Squares' frequencies (2 kept, 2 kept, count, h, w), variances of the noise in them
        (count, h, w) -> planes of what is above it (count, H, W)."""
        # clamped, too: the exporter to ONNX takes so small a term for none, and 0 / 0 is no number
        limit = (threshold**2 * noise + 1e-9).clamp(min=1e-9)
        kept = frequencies.square() / (2 * self.soft * limit) - (1 / self.soft - 1) / 2
        mean = F.pad(limit.new_ones(1, 1), (0, len(frequencies) - 1) * 2)[..., None, None, None]
        kept = kept.clamp(0, 1).maximum(mean)
        # the fewer frequencies a square needs, the more of its noise is gone
        weight = 1 / kept.sum((0, 1))
        cells = added(rebuilt(frequencies * kept * weight))
        weight = weight[:, 1:] + weight[:, :-1]
        cells = cells / (weight[..., 1:] + weight[..., :-1])
        return cells.permute(2, 3, 0, 4, 1).flatten(3).flatten(1, 2)
