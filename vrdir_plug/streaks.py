"""Streaks of falling rain and snow, ours: taken away before all else.

Shapes are (N, channels, height, width).
"""

from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import CELL, Judgement, full_precision, idle

REACH = 3  # pixels around that are looked at


def third_least(ordered: list[Tensor], pixel: Tensor, again: list[Tensor]) -> Tensor:
    """Of seven: two sorted triples, and one more."""
    (a, b, c), (d, e, f) = ordered, again
    third = c.minimum(f).minimum(a.maximum(e)).minimum(b.maximum(d))
    second = b.minimum(e).minimum(a.maximum(d))
    return third.minimum(second.maximum(pixel))


def triples(first: Tensor, second: Tensor, third: Tensor) -> list[Tensor]:
    """The same three, sorted in each place."""
    low, high = first.minimum(second), first.maximum(second)
    middle = low.maximum(third)
    return [low.minimum(third), middle.minimum(high), middle.maximum(high)]


def cover(pixels: Tensor, behind: Tensor) -> Tensor:
    """How far what is as bright as 1 hides what is `behind` in these pixels, from 0."""
    return (pixels - behind).clamp(min=0) / (1 - behind).clamp(min=0.1)


def cover_across(grey: Tensor) -> Tensor:
    """(N, 1, H, W) -> the cover of each pixel by what is brighter than those beside it."""
    wide = F.pad(grey, (REACH, REACH, 0, 0), mode="replicate")
    count = wide.shape[3] - 2
    ordered = triples(*(wide.narrow(3, start, count) for start in range(3)))
    left, right = ([t.narrow(3, start, count - 4) for t in ordered] for start in (0, 4))
    return cover(grey, third_least(left, grey, right))


class StreakFilter(nn.Module):
    """Ours: what falls through the air leaves thin, bright, upright streaks, and is taken away.

    A drop hides a part c of the scene J behind it and is as bright as the sky: x = (1 - c) J + c
    (Garg and Nayar, International Journal of Computer Vision 75, 2007). The luminance of J is taken
    to be the third least of seven pixels across (a rank-order filter), which says c; a streak goes
    on above and below, and what hides less than `least` is texture. Whether there are streaks at
    all the image as a whole says: those of rain are bright and upright, thin things of a clean
    scene and noise are dark as often, or lie. At first there are none.
    """

    least, surely, most = 0.06, 0.18, 0.8  # covers: nothing of it, all of it, no more is taken away
    along = 2  # pixels above and below in which a streak goes on
    levels = (0.03, 0.1, 0.3)  # covers that are counted

    def __init__(self) -> None:
        super().__init__()
        self.asks: Any = Judgement(4 * len(self.levels) + 1)

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), H and W divisible by 4 -> the same in float32."""
        with full_precision(images):
            images = images.float()
            return self.mended(images, self.share(self.signs(images).mean((2, 3))))

    def mended(self, images: Tensor, share: Tensor) -> Tensor:
        """Images in float32, of which that share (N,) of all streaks is taken away."""
        if idle(share):
            return images
        found = cover_across(images.mean(1, keepdim=True))
        wide = F.pad(found, (0, 0, self.along, self.along), mode="replicate")
        rows = [wide.narrow(2, n, found.shape[2]) for n in range(2 * self.along + 1)]
        lasting = reduce(torch.add, rows) / len(rows)  # faster than F.avg_pool2d
        sure = (found.minimum(lasting) - self.least) / (self.surely - self.least)
        taken = (share[:, None, None, None] * sure.clamp(0, 1) * found).clamp(max=self.most)
        taken = taken.minimum(images)  # a colour has no less than nothing
        return (images - taken) / (1 - taken)

    def signs(self, images: Tensor) -> Tensor:
        """In the first pixel of each cell, how far cover by what is brighter across, brighter down,
        darker across and darker down reaches each of the levels; and its luminance
        (N, 13, H/4, W/4)."""
        grey = images.mean(1, keepdim=True)
        wide = F.pad(grey, (REACH,) * 4, mode="replicate")
        height, width = grey.shape[2:]
        rows = wide.narrow(2, REACH, height)[..., ::CELL, :]
        columns = wide.narrow(3, REACH, width)[..., ::CELL]
        lines = []
        for n in range(2 * REACH + 1):
            across = rows.narrow(3, n, width)[..., ::CELL]
            lines.append(torch.cat([across, columns.narrow(2, n, height)[..., ::CELL, :]], 1))
        lines = [torch.cat([line, 1 - line], 1) for line in lines]
        behind = third_least(triples(*lines[:REACH]), lines[REACH], triples(*lines[REACH + 1 :]))
        found = cover(lines[REACH], behind)
        reached = [(found / level - 0.5).clamp(0, 1) for level in self.levels]
        return torch.cat([*reached, lines[REACH][:, :1]], 1)

    def chance(self, signs: Tensor) -> Tensor:
        """Of there being streaks (N,), by the means of the signs (N, 13)."""
        return self.asks.chance(self.known_of(signs))

    def share(self, signs: Tensor) -> Tensor:
        """Of the streaks that is taken away (N,): none where they are hardly likely."""
        return self.asks.share(self.known_of(signs))

    def known_of(self, signs: Tensor) -> Tensor:
        """What is bright across, against all else, and the luminance (N, 13)."""
        counts = (signs[:, :-1] + 1e-3).log().unflatten(1, (len(self.levels), 4))
        upright = counts[..., :1]
        known = torch.cat([upright - counts[..., 1:], 0.3 * upright + 1], 2).flatten(1)
        return torch.cat([known, signs[:, -1:]], 1)
