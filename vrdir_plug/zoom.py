"""Zoom blur, ours: what a movement towards the scene took of an image is given back.

Shapes are (N, channels, height, width).
"""

import math
from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, full_precision, idle, linear, zeroed
from .fourier import power, under_hann
from .response import STRONGEST

TURN = 320  # rays from the middle of an image
STEP = 2 * math.pi / TURN  # between them; and between the logarithms of the radii that are seen
SIDE = 64  # radii, and rays of a window in which the spectrum is taken
BINS = SIDE // 2  # frequencies of a side, but the zeroth: cycles in SIDE steps
ACROSS = ((0, 4), (5, 10), (11, 20))  # frequencies of the other side that are taken together
FLOOR = 3e-7  # half the power of rounding to 8 bits, of what is taken together
REACH = 16  # steps along its ray from which a pixel is made

Lengths = tuple[Tensor, Tensor]


def lengths_of(images: Tensor) -> Lengths:
    """Height and width, as tensors: a size that torch.export keeps free cannot be divided by in
    ONNX."""
    height, width = (torch.arange(n, device=images.device)[-1] + 1 for n in images.shape[2:])
    return height, width


def log_polar(images: Tensor, whole: Lengths) -> Tensor:
    """The luminance on rays (N, TURN, SIDE) from the middle of the whole, of which images
    (N, 3, H, W) are the upper left and whose edge is repeated; the outermost last, at the nearer
    edge."""
    rays = STEP * torch.arange(TURN, device=images.device)[:, None]
    radii = (STEP * (torch.arange(SIDE, device=images.device) - SIDE + 0.5)).exp()
    radii = radii * torch.minimum(*whole) / 2
    across, down = whole[1] / 2 + radii * rays.cos(), whole[0] / 2 + radii * rays.sin()
    height, width = lengths_of(images)
    grid = torch.stack([2 * across / width - 1, 2 * down / height - 1], 2)
    grid = grid.expand(images.shape[0], -1, -1, -1)
    seen = F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return seen.mean(1)


def ray_power(rays: Tensor) -> Tensor:
    """The power spectrum of what `log_polar` gives, by Welch's method (N, SIDE, SIDE): frequencies
    across the rays, then along them."""
    windows = torch.cat([rays, rays[:, :BINS]], 1).unfold(1, SIDE, BINS).mT
    return power(under_hann(windows))


def profiles_of(spectrum: Tensor) -> Tensor:
    """What `ray_power` gives -> (N, 2, parts of ACROSS, BINS): logarithms of the power at each
    frequency along the rays, and at each frequency across them."""
    steps = torch.arange(SIDE, device=spectrum.device)
    steps = torch.minimum(steps, SIDE - steps)
    parts = torch.stack([((steps >= low) & (steps <= high)).float() for low, high in ACROSS])
    both = torch.stack([spectrum, spectrum.mT], 1)
    return (parts @ both)[..., 1 : BINS + 1].clamp(min=FLOOR).log()


def profiles_in(images: Tensor, whole: Lengths | None = None) -> Tensor:
    """`profiles_of` images (N, 3, H, W), the upper left of the whole where they are not all."""
    return profiles_of(ray_power(log_polar(images, whole or lengths_of(images))))


class ZoomFilter(nn.Module):
    """Ours: what a zoom blur took of an image along the rays from its middle is given back.

    With the logarithm of the radius and the angle as coordinates (the log-polar map) such a blur is
    the same everywhere, along one side; and a photograph, which has no direction there, shows on
    the other side what it would have. So amplitudes are made equal, as by FrequencyResponse, from
    both spectra, and a pixel is mended by others on its ray: by enlarged and diminished copies of
    the luminance. What loses little is left as it is. At first that is all.
    """

    most = math.log(STRONGEST)  # logarithm of a frequency's gain
    least, surely = 0.35, 0.5  # mean logarithms of the gains: nothing is done, all of it

    def __init__(self) -> None:
        super().__init__()
        into = nn.Conv2d((len(ACROSS) + 1) * BINS, 32, 1)
        self.asks: Any = nn.ModuleList([into, zeroed(nn.Conv2d(32, BINS, 1))])

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """(N, 3, H, W) -> the same in float32, not clamped; and what `gains` gives."""
        with full_precision(images):
            gains = self.gains(profiles_in(images))
            return self.mended(images.float(), gains), gains

    def gains(self, profiles: Tensor) -> Tensor:
        """What `profiles_of` gives -> logarithms of what each frequency along the rays is
        multiplied by (N, BINS)."""
        asked = self.asked(profiles).clamp(0.0, self.most)
        sure = (asked.mean(1, keepdim=True) - self.least) / (self.surely - self.least)
        return sure.clamp(0, 1) * asked

    def asked(self, profiles: Tensor) -> Tensor:
        """What `profiles_of` gives -> what is asked for (N, BINS), before what is too much or too
        little for a gain is cut."""
        along, across = profiles.unbind(1)
        known = torch.cat([along - across, across[:, :1] / 5 + 1], 1).flatten(1)
        into, out = self.asks
        return linear(out, F.leaky_relu(linear(into, known), LEAK))

    def mended(self, images: Tensor, gains: Tensor) -> Tensor:
        """Images (N, 3, H, W) in float32, what `gains` gives -> images, not clamped."""
        if idle(gains):
            return images
        grey = images.mean(1, keepdim=True)
        places = [torch.arange(n, device=images.device) for n in images.shape[2:]]
        return images + along_rays(grey, places, lengths_of(images), gains) - grey


def taps_of(gains: Tensor) -> Tensor:
    """Logarithms of gains (N, BINS) -> a filter of that response (N, 2 REACH + 1), even, under a
    Hann window, that keeps the mean."""
    steps = torch.arange(REACH + 1, device=gains.device)
    bins = torch.arange(BINS + 1, device=gains.device)
    waves = (bins[:, None] * steps * (2 * math.pi / SIDE)).cos()
    weights = torch.ones_like(bins) * 2.0
    weights[0] = weights[-1] = 1
    response = F.pad(gains, (1, 0)).exp() * weights
    half = response @ waves * (0.5 + 0.5 * (steps * (math.pi / (REACH + 1))).cos())
    taps = torch.cat([half[:, 1:].flip(1), half], 1) / SIDE
    middle = F.pad(taps.new_ones(1, 1), (REACH, REACH))
    return taps + middle * (1 - taps.sum(1, keepdim=True))


def along_rays(plane: Tensor, pixels: Sequence[Tensor], whole: Lengths, gains: Tensor) -> Tensor:
    """A plane (N, 1, H, W) filtered along the rays from the middle of the whole, as for
    `log_polar`, by what `ZoomFilter.gains` gives; in some rows and columns: (N, 1, h, w).

    It is a weighted sum of enlarged and diminished copies.
    """
    total = torch.zeros(())
    for step, weight in zip(range(-REACH, REACH + 1), taps_of(gains).unbind(1), strict=True):
        scale = math.exp(step * STEP)
        rows, columns = (
            (1 - scale) * (n - 1) / 2 + scale * at for at, n in zip(pixels, whole, strict=True)
        )
        copy = between(between(plane, rows).mT.contiguous(), columns)  # (N, 1, w, h)
        total = total + weight[:, None, None, None] * copy
    return total.mT


def between(planes: Tensor, rows: Tensor) -> Tensor:
    """Planes (N, 1, H, W), whose edge is repeated, between their rows: (N, 1, rows, W).

    Whole rows are read, which ONNX Runtime does ten times as fast as single pixels.
    """
    low, last = rows.floor(), planes.shape[2] - 1
    first, second = (planes.index_select(2, (low.long() + n).clamp(0, last)) for n in (0, 1))
    return torch.lerp(first, second, (rows - low)[:, None])
