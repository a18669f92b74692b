"""Noise that is fine and everywhere, ours: taken away in squares of the luminance.

Shapes of images are (N, channels, height, width). Squares and their frequencies lie first,
(SQUARE, SQUARE, ...): so a transform is one product.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import CELL, Judgement, idle

SQUARE = 2 * CELL  # pixels of a side; squares begin at every cell, so four of them see a pixel
LEVELS = 5  # of luminance, evenly from 0 to 1, at which the noise is told


def cosines(device: torch.device) -> tuple[Tensor, Tensor]:
    """The first halves of the rows of the orthonormal DCT-II of SQUARE, (CELL, CELL) each: those of
    even frequencies, whose second halves mirror them, and of odd ones, where the sign changes."""
    steps = torch.arange(SQUARE, device=device)
    rows = (math.pi / SQUARE * (steps[:CELL] + 0.5) * steps[:, None]).cos() / math.sqrt(CELL)
    rows = torch.cat([rows[:1] / math.sqrt(2), rows[1:]])
    return rows[::2], rows[1::2]


def down(squares: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """Squares (SQUARE, ...) -> their DCT along the first side, even frequencies before odd ones."""
    first, second = squares.flatten(1).split(CELL)
    second = second.flip(0)
    return torch.cat([even @ (first + second), odd @ (first - second)]).view(squares.shape)


def up(frequencies: Tensor, even: Tensor, odd: Tensor) -> Tensor:
    """The inverse of `down`."""
    mirrored, turned = frequencies.flatten(1).split(CELL)
    mirrored, turned = even.T @ mirrored, odd.T @ turned
    whole = torch.cat([mirrored + turned, (mirrored - turned).flip(0)])
    return whole.view(frequencies.shape)


def transformed(squares: Tensor) -> Tensor:
    """Squares (SQUARE, SQUARE, ...) -> their DCT, that across first: (SQUARE, SQUARE, ...)."""
    rows = cosines(squares.device)
    return down(down(squares, *rows).transpose(0, 1), *rows)


def rebuilt(frequencies: Tensor) -> Tensor:
    """The inverse of `transformed`."""
    rows = cosines(frequencies.device)
    return up(up(frequencies, *rows).transpose(0, 1), *rows)


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


def coarse(planes: Tensor) -> Tensor:
    """Smooth planes through the means of cells: (N, C, H, W), H and W divisible by CELL."""
    return F.interpolate(F.avg_pool2d(planes, CELL), scale_factor=CELL, mode="bilinear")


def quantile(energy: Tensor, weights: Tensor, part: float, least: float) -> Tensor:
    """Of energies (N, count) above the least, under weights (N, K, count): (N, K)."""
    ordered, order = energy.sort(1)
    weights = weights.gather(2, order[:, None].expand_as(weights)) * (ordered > least)[:, None]
    sums = weights.cumsum(2)
    found = (sums < part * sums[..., -1:]).sum(2)
    return ordered.gather(1, found)


class NoiseFilter(nn.Module):
    """Ours: frequencies of a square of the luminance that noise alone explains are taken away.

    A sliding DCT under a threshold (Yu and Sapiro, Image Processing On Line 1, 2011). How strong
    the noise is at each luminance the image tells: in most photographs a quarter of all squares
    has next to nothing above the diagonal. Of colours only what cells have in common is kept where
    noise is. Texture all over an image looks like noise to such a rule, so whether there is any the
    statistics of the image say. At first there is none.
    """

    quarter, missed = 0.25, 0.85  # of the squares; and what share of the noise that one shows
    nothing = 2e-6  # half the power of rounding to 8 bits: a flatter square tells of no noise
    threshold, soft = 2.1, 0.4  # in deviations; in shares of its square, how soft it is
    most = 0.85  # of the noise that is taken away: recognisers want some detail, true or not
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

    def levels(self, windows: Tensor) -> tuple[Tensor, Tensor]:
        """What `response.windows_of` gives -> variance of the noise of the luminance at each of the
        LEVELS (N, LEVELS), and the share of noise in what is fine in colours (N,)."""
        grey = windows.mean(2)
        frequencies = transformed(side_by_side(grey))
        above = fine(grey.device)
        energy = torch.einsum("uv,uvnp->np", above / above.sum(), frequencies.square())
        seen = weights_at(frequencies[0, 0] / SQUARE)
        colour = (windows - grey[:, :, None]).flatten(1, 2)
        detail = F.avg_pool2d((colour - coarse(colour)).square(), SQUARE)
        detail = detail.unflatten(1, (*grey.shape[1:2], 3)).mean(2).flatten(1)
        noise = torch.einsum("nkp,nk->np", seen, self.variance(detail, seen))
        coloured = noise.mean(1) / detail.mean(1).clamp(min=1e-9)
        return self.variance(energy, seen), coloured.clamp(max=1)

    def variance(self, energy: Tensor, seen: Tensor) -> Tensor:
        """Of the noise at each of the LEVELS (N, LEVELS), of energies (N, squares) at luminances
        whose weights are `seen` (N, LEVELS, squares)."""
        # where no square is as bright or dark, what all of them tell
        return quantile(energy, seen + 1e-3, self.quarter, self.nothing) / self.missed

    def mended(self, images: Tensor, variance: Tensor, coloured: Tensor, share: Tensor) -> Tensor:
        """Images (N, 3, H, W) in float32, H and W divisible by 4, without that share (N,) of the
        noise that `levels` tells of."""
        if idle(share):
            return images
        grey = images.mean(1, keepdim=True)
        colour = images - grey
        share = share[:, None, None, None]
        colour = torch.lerp(colour, coarse(colour), share * coloured[:, None, None, None])
        return colour + torch.lerp(grey, self.smoothed(grey[:, 0], variance)[:, None], share)

    def smoothed(self, grey: Tensor, variance: Tensor) -> Tensor:
        """A plane (N, H, W) without what noise of the variances (N, LEVELS) explains."""
        frequencies = transformed(at_cells(grey))
        noise = torch.einsum("nkhw,nk->nhw", weights_at(frequencies[0, 0] / SQUARE), variance)
        limit = self.threshold**2 * noise + 1e-9
        kept = frequencies.square() / (2 * self.soft * limit) - (1 / self.soft - 1) / 2
        mean = F.pad(grey.new_ones(1, 1), (0, SQUARE - 1) * 2)[..., None, None, None]
        kept = kept.clamp(0, 1).maximum(mean)
        # the fewer frequencies a square needs, the more of its noise is gone
        weight = 1 / kept.sum((0, 1))
        cells = added(rebuilt(frequencies * kept * weight))
        weight = weight[:, 1:] + weight[:, :-1]
        cells = cells / (weight[..., 1:] + weight[..., :-1])
        return cells.permute(2, 3, 0, 4, 1).flatten(3).flatten(1, 2)
