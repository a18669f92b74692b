"""What JPEG left of an image, ours: the steps between its blocks tell how strong the noise is that
rounding their frequencies made.

Shapes are (N, channels, height, width).
"""

from typing import NamedTuple

import torch
from torch import Tensor

BLOCK = 8  # pixels along a side of JPEG's squares
EDGE = 0.1  # a larger step is one of the scene, and counts as this
ENOUGH = 400  # steps at a place, about those of 64 x 64 pixels, or nothing is said
SURE = 4.0, 7.0  # deviations by which they are larger: no blocks yet, blocks for sure
SAME = 1e-4  # a smaller deviation is none
NOISE = 1.75  # deviation of the noise, by how much larger they are
MOST = 0.9  # of it is taken away, as of other noise


class Blocking(NamedTuple):
    """Of each image (N,): the variance of the noise, and what share of it is taken away."""

    variance: Tensor
    share: Tensor


def steps_across(grey: Tensor) -> Tensor:
    """Sizes of the steps from each pixel of (N, 1, H, W) to the next in its row, and how many there
    are, summed by the pixel's place among eight: (N, 2, BLOCK)."""
    sizes = grey[:, 0].diff(dim=2).abs().clamp(max=EDGE)
    places = torch.arange(BLOCK, device=grey.device)
    steps = torch.arange(grey.shape[3], device=grey.device)[:-1]
    here = (steps.remainder(BLOCK)[:, None] == places).to(sizes.dtype)
    sums = torch.stack([sizes, torch.ones_like(sizes)], 1).sum(2)
    return sums @ here


def steps_in(images: Tensor) -> Tensor:
    """The same of the luminance of images (N, 3, H, W), across and down: (N, 2, 2, BLOCK)."""
    grey = images.mean(1, keepdim=True)
    return torch.stack([steps_across(grey), steps_across(grey.mT)], 1)


def blocking_of(steps: Tensor) -> Blocking:
    """By `steps_in`: there are blocks where steps at one place of eight are larger than chance has
    it, both across and down, wherever the image was cut."""
    sums, counts = steps.unbind(2)
    means = (sums / counts.clamp(min=1)).sort(2).values
    others, largest = means[..., :-1], means[..., -1]
    more = largest - others.mean(2)
    # what scenes do to all places alike says how far one is off by chance; not a root of squares,
    # whose gradient is no number where nothing changes
    deviation = others.std(2, correction=0)
    sure = (more / (deviation + SAME)).amin(1)
    none, all_of_it = SURE
    share = ((sure - none) / (all_of_it - none)).clamp(0, 1) * (counts.amin((1, 2)) >= ENOUGH)
    return Blocking((NOISE * more.amin(1)).square(), MOST * share)
