"""The frequency response that PixelFilter gives an image, ours: what a blur took is given back.

Shapes are (N, channels, height, width); frequencies lie as FFT2 has them, the zeroth first.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, convolve, cropped, linear, zeroed
from .fourier import dft, multiplied, power

SIDE = 32  # of the windows in which the spectrum is taken, in pixels, and of the response
REACH = SIDE // 2 - 1  # of its kernel, pixels
BLOCK = 128  # pixels that are filtered at once, along each side; with what the kernel reaches, 160
RINGS = 23  # distances from frequency zero, each of one cycle in SIDE pixels
WIDTH = 12


def windows_of(images: Tensor) -> Tensor:
    """Luminance in squares side by side, under a Hann window: (N, squares, SIDE, SIDE). Below and
    to the right the edge is repeated, so that the squares cover the image."""
    wide = F.pad(images, (0, SIDE - 1, 0, SIDE - 1), mode="replicate").mean(1, keepdim=True)
    rows, columns = (side // SIDE for side in wide.shape[2:])
    squares = cropped(wide, rows * SIDE, columns * SIDE)
    squares = (
        squares.unflatten(3, (-1, SIDE)).unflatten(2, (-1, SIDE)).transpose(3, 4).flatten(1, 3)
    )
    steps = torch.arange(SIDE, device=images.device) * (2 * math.pi / SIDE)
    hann = 0.5 - 0.5 * steps.cos()
    return (squares - squares.mean((2, 3), keepdim=True)) * (hann[:, None] * hann)


def power_spectrum(images: Tensor) -> Tensor:
    """Of the luminance, by Welch's method (IEEE Trans. Audio Electroacoustics 15, 1967), with
    windows side by side: images (N, 3, H, W) -> (N, SIDE, SIDE)."""
    return power(windows_of(images)).mean(1)


def frequencies(device: torch.device) -> Tensor:
    """Cycles in SIDE pixels along one side, the negative ones last (SIDE,)."""
    steps = torch.arange(SIDE, device=device)
    return (steps - SIDE * (steps > REACH)).float()


def wavelets(steps: tuple[int, ...], device: torch.device) -> Tensor:
    """The frequency response (bands, SIDE, SIDE) of the a trous transform's bands, whose levels are
    smoothed by the weights 1, 2, 1 at these distances."""
    angles = frequencies(device) * (2 * math.pi / SIDE)
    levels = [torch.ones(SIDE, SIDE, device=device)]
    for step in steps:
        side = 0.5 + 0.5 * (step * angles).cos()
        levels.append(levels[-1] * (side[:, None] * side))
    return -torch.stack(levels).diff(dim=0)


def ring_of(device: torch.device) -> Tensor:
    """1 where a frequency lies in a ring around frequency zero (RINGS, SIDE, SIDE), else 0."""
    along = frequencies(device)
    nearest = (along[:, None].square() + along.square()).sqrt().round()
    return (nearest == torch.arange(RINGS, device=device)[:, None, None]).float()


class FrequencyResponse(nn.Module):
    """Ours: what each frequency of an image is multiplied by, from its power spectrum.

    Photographs have much the same spectrum, falling evenly from frequency zero in all directions;
    what a blur does to it can be seen, that of a lens in its rings, that of a movement across them.
    A filter that knows no more than amplitudes keeps the phase, so a movement's two ends cannot be
    told apart. At first 1 everywhere.
    """

    most = 3.0  # logarithm of a response
    floor = 3e-8  # half the power of rounding to 8 bits

    def __init__(self, known: int):
        super().__init__()
        self.looks: Any = nn.ModuleList(nn.Conv2d(c, WIDTH, 3) for c in (3, WIDTH))
        self.says = zeroed(nn.Conv2d(WIDTH, 1, 1))
        into, out = nn.Conv2d(2 * RINGS + known, 32, 1), nn.Conv2d(32, 2 * WIDTH + RINGS, 1)
        self.asks: Any = nn.ModuleList([into, zeroed(out)])

    def forward(self, spectrum: Tensor, known: Tensor) -> Tensor:
        """Power spectrum (N, SIDE, SIDE) and what else is known of the image (N, known) ->
        responses (N, SIDE, SIDE), even, 1 at frequency zero."""
        rings = ring_of(spectrum.device).flatten(1)  # (RINGS, SIDE * SIDE)
        level = (spectrum + self.floor).log()
        profile = level.flatten(1) @ (rings / rings.sum(1, keepdim=True)).T
        even = (profile @ rings).view_as(level)
        uneven = level - even
        spread = uneven.square().flatten(1) @ (rings / rings.sum(1, keepdim=True)).T
        into, out = self.asks
        hidden = F.leaky_relu(linear(into, torch.cat([profile / 5 + 2.3, spread, known], 1)), LEAK)
        first, second, ringed = linear(out, hidden).split([WIDTH, WIDTH, RINGS], 1)
        far = torch.arange(RINGS, device=rings.device, dtype=rings.dtype) / 8 @ rings
        seen = torch.stack([uneven / 2, far.view(SIDE, SIDE).expand_as(level), even / 5 + 2.3], 1)
        seen = F.leaky_relu(around(self.looks[0], seen) + first[..., None, None], LEAK)
        seen = seen + F.leaky_relu(around(self.looks[1], seen) + second[..., None, None], LEAK)
        asked = convolve(self.says, seen)[:, 0] + 3 * (ringed @ rings).view_as(level)
        # a real kernel asks for as much at a frequency as at its negative
        asked = (asked + asked.flip(1, 2).roll((1, 1), (1, 2))) / 2
        asked = asked * (1 - rings[0].view(SIDE, SIDE))
        return (self.most * (asked / self.most).tanh()).exp()


def around(layer: nn.Conv2d, planes: Tensor) -> Tensor:
    """A 3x3 convolution of planes whose ends meet."""
    planes = torch.cat([planes[..., -1:], planes, planes[..., :1]], 3)
    return convolve(layer, torch.cat([planes[:, :, -1:], planes, planes[:, :, :1]], 2))


def kernels_of(response: Tensor) -> Tensor:
    """Responses (N, SIDE, SIDE) -> kernels (N, 2 REACH + 1, 2 REACH + 1) that keep the mean."""
    cos, sin = dft(SIDE, response.device)
    kernels = (cos @ response @ cos - sin @ response @ sin) / SIDE
    # the middle first -> in the middle, without the taps at SIDE / 2, which are of no side
    kernels = kernels.roll((REACH, REACH), (1, 2))[:, :-1, :-1]
    middle = F.pad(kernels.new_ones(1, 1), (REACH,) * 4)
    return kernels + middle * (1 - kernels.sum((1, 2), keepdim=True))


def response_of(kernels: Tensor, side: int) -> Tensor:
    """Even kernels (N, 2 REACH + 1, 2 REACH + 1) -> their response at more frequencies
    (N, side, side)."""
    taps = torch.arange(-REACH, REACH + 1, device=kernels.device)
    angles = torch.arange(side, device=kernels.device)[:, None] * taps * (2 * math.pi / side)
    cos, sin = angles.cos(), angles.sin()
    return cos @ kernels @ cos.T - sin @ kernels @ sin.T


def filtered_by(wide: Tensor, response: Tensor) -> Tensor:
    """Images with REACH pixels more on each side (N, 3, H + 2 REACH, W + 2 REACH), and responses
    (N, SIDE, SIDE) -> (N, 3, H, W).

    By the DFT of blocks that overlap (overlap-save), which is as fast for any height and width.
    """
    side = BLOCK + 2 * REACH + 2
    height, width = (length - 2 * REACH for length in wide.shape[2:])
    rows, columns = ((length + BLOCK - 1) // BLOCK for length in (height, width))
    below, right = rows * BLOCK + 2 - height, columns * BLOCK + 2 - width
    blocks = overlapping(
        overlapping(F.pad(wide, (0, right, 0, below)), 3, columns, side), 2, rows, side
    )
    blocks = blocks.transpose(3, 4).flatten(1, 3)  # (N, 3 rows columns, side, side)
    blocks = multiplied(blocks, response_of(kernels_of(response), side)[:, None])
    blocks = blocks[..., REACH : REACH + BLOCK, REACH : REACH + BLOCK]
    whole = blocks.unflatten(1, (3, rows, columns)).transpose(3, 4).flatten(4).flatten(2, 3)
    return cropped(whole, height, width)


def overlapping(planes: Tensor, dim: int, count: int, side: int) -> Tensor:
    """A dimension -> two: so many pieces of this length, each BLOCK after the one before."""
    starts = torch.arange(count, device=planes.device) * BLOCK
    places = starts[:, None] + torch.arange(side, device=planes.device)
    return planes.index_select(dim, places.flatten()).unflatten(dim, (count, side))
