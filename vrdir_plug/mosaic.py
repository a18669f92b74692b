"""Large pixels, ours: what was enlarged by repeating pixels is interpolated instead.

Shapes are (N, channels, height, width).
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from .bands import full_precision, idle

MOST = 16  # pixels along a side of a block; longer ones are margins
LEAST = 1.5  # mean length of the blocks, from which an image is made of them
SAME = 1e-4  # difference of two columns that are the same one


class Blocks(NamedTuple):
    """Of each column (N, W), the first and the last one of its block."""

    first: Tensor
    last: Tensor

    @property
    def length(self) -> Tensor:
        return self.last - self.first + 1


def steps_of(images: Tensor) -> Tensor:
    """How far each column of (N, 3, H, W) but the first is from the one before it, where it is
    farthest (N, W - 1)."""
    return images.diff(dim=3).abs().amax((1, 2))


def blocks_of(steps: Tensor) -> Blocks:
    """Columns that repeat the one before them make blocks, those of more than MOST several."""
    new = (steps > SAME).float()
    begins, ends = F.pad(new, (1, 0), value=1.0), F.pad(new, (0, 1), value=1.0)
    index = torch.arange(begins.shape[1], device=steps.device).float()
    # not F.max_pool1d: torch.export would take the example's width for the rule
    first = F.pad(begins * index, (MOST - 1, 0)).unfold(1, MOST, 1).amax(2)
    # from the other end, counted backwards
    last = F.pad(ends * index.flip(0), (0, MOST - 1)).unfold(1, MOST, 1).amax(2)
    return Blocks(first, index[-1] - last)


def mosaics(*sides: Blocks) -> Tensor:
    """Which images are made of blocks on both sides (N,)."""
    counts = torch.stack([(1 / side.length).mean(1) for side in sides])
    return counts.amax(0) <= 1 / LEAST


def at(columns: Tensor, values: Tensor) -> Tensor:
    """Values (N, W) of columns (N, W), of the outermost for those beyond them."""
    return values.gather(1, columns.long().clamp(0, values.shape[1] - 1))


def cubic(share: Tensor) -> list[Tensor]:
    """The weights of four neighbours at a share of the way from the second to the third (Keys, IEEE
    Trans. Acoustics, Speech and Signal Processing 29, 1981)."""
    square, cube = share.square(), share**3
    return [
        (2 * square - cube - share) / 2,
        (3 * cube - 5 * square + 2) / 2,
        (4 * square - 3 * cube + share) / 2,
        (cube - square) / 2,
    ]


def interpolated(images: Tensor, blocks: Blocks, found: Tensor) -> Tensor:
    """Columns of images (N, 3, H, W), where mosaics are found (N,), between the middles of blocks
    by cubic convolution; as many as there are in the blocks, the last one repeated."""
    first, last = blocks
    index = torch.arange(first.shape[1], device=images.device).expand_as(first).float()
    middle, length = (first + last) / 2, blocks.length
    # the block whose middle comes before the column, and those around it
    before = torch.where(index < middle, first - 1, index).clamp(min=0)
    after = at(before, last) + 1
    places = [at(before, first) - 1, before, after, at(after, last) + 1]
    start, stop = at(before, middle), at(after, middle)
    longest = torch.stack([at(place, length) for place in (index, before, after)]).amax(0)
    usual = 1 / (1 / length).mean(1, keepdim=True)
    inside = (longest <= 2 * usual + 1) & (stop > start) & (index > start) & found[:, None]
    share = torch.where(inside, (index - start) / (stop - start).clamp(min=1), 0.0)
    places[1] = torch.where(inside, before, index)
    total = torch.zeros(())
    for place, weight in zip(places, cubic(share), strict=True):
        place = place.long().clamp(0, images.shape[3] - 1)[:, None, None]
        taken = images.gather(3, place.expand(*images.shape[:3], -1))
        total = total + weight[:, None, None] * taken
    return total


def sides_of(images: Tensor) -> tuple[Blocks, Blocks]:
    """Images (N, 3, H, W) in float32 -> their blocks across and down."""
    return blocks_of(steps_of(images)), blocks_of(steps_of(images.mT))


def mosaic_in(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) in float32 -> which of them are made of such blocks (N,)."""
    return mosaics(*sides_of(images))


def without_mosaic(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) -> the same in float32, not clamped, without the blocks that an
    enlargement by whole pixels leaves, of any size and from 1.5 times on.

    They are found where columns, and rows, are the same as those before them, bit for bit; after
    JPEG, noise or another change of size they are not. Nothing is done to other images, nor to
    margins.
    """
    with full_precision(images):
        images = images.float()
        across, down = sides_of(images)
        found = mosaics(across, down)
        if idle(found):
            return images
        return interpolated(interpolated(images, across, found).mT, down, found).mT
