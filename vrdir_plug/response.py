"""The frequency response that PixelFilter gives an image, ours: what a blur took is given back.

Shapes are (N, channels, height, width); frequencies lie as FFT2 has them, the zeroth first.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import CELL, LEAK, convolve, cropped, linear, zeroed
from .constants import constant, recorded
from .fourier import convolved, dft, exporting, power, realised, under_hann

SIDE = 32  # of the windows in which the spectrum is taken, in pixels, and of the response
REACH = SIDE // 2 - 1  # of its kernel, pixels
BLOCK = 128  # pixels that a graph filters at once, along each side; with the kernel's reach, more
MOST = 224  # that are filtered at once where no graph is made, and sides are known
WINDOWS = 7  # in which the spectrum is taken, along each side of the image
RINGS = 23  # distances from frequency zero, each of one cycle in SIDE pixels
WIDTH = 12
STRONGEST = 3.5  # times is a frequency's amplitude made at most; recognisers mind more of it


def places(length: int, device: torch.device, side: int = SIDE, count: int = WINDOWS) -> Tensor:
    """Where so many windows lie along a side of the image, from whole cells on, spread over it:
    (count, side). Behind the edge they repeat it."""
    # as a tensor: a size that torch.export keeps free cannot be divided by in ONNX
    last = torch.arange(length, device=device)[-1]
    room = (last - (side - 1)).clamp(min=0)
    steps = torch.arange(count, device=device)
    starts = torch.div(steps * room, (count - 1) * CELL, rounding_mode="floor") * CELL
    return torch.minimum(starts[:, None] + torch.arange(side, device=device), last)


def windows_of(images: Tensor) -> Tensor:
    """Images (N, 3, H, W) -> (N, WINDOWS * WINDOWS, 3, SIDE, SIDE)."""
    return squares(images, *(places(length, images.device) for length in images.shape[2:]))


def squares(images: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """The squares in these rows (n, h) and columns (m, w): images (N, 3, H, W) ->
    (N, n m, 3, h, w)."""
    taken = images.index_select(2, rows.flatten()).index_select(3, columns.flatten())
    taken = taken.unflatten(3, columns.shape).unflatten(2, rows.shape)
    return taken.permute(0, 2, 4, 1, 3, 5).flatten(1, 2)


def tapered(windows: Tensor) -> Tensor:
    """Windows (N, windows, 3, side, side) -> their luminance without its mean, under a Hann window
    (N, windows, side, side)."""
    return under_hann(windows.mean(2))


def power_spectrum(windows: Tensor) -> Tensor:
    """Of the luminance, by Welch's method (IEEE Trans. Audio Electroacoustics 15, 1967): what
    `windows_of` gives -> (N, SIDE, SIDE)."""
    return power(tapered(windows))


@constant
def frequencies(device: torch.device, side: int = SIDE) -> Tensor:
    """Cycles in `side` pixels along one side, the negative ones last (side,)."""
    steps = torch.arange(side, device=device)
    return (steps - side * (steps >= side // 2)).float()


@constant
def wavelets(steps: tuple[int, ...], device: torch.device) -> Tensor:
    """The frequency response (bands, SIDE, SIDE) of the a trous transform's bands, whose levels are
    smoothed by the weights 1, 2, 1 at these distances."""
    angles = frequencies(device) * (2 * math.pi / SIDE)
    levels = [torch.ones(SIDE, SIDE, device=device)]
    for step in steps:
        side = 0.5 + 0.5 * (step * angles).cos()
        levels.append(levels[-1] * (side[:, None] * side))
    return -torch.stack(levels).diff(dim=0)


@constant
def rings_at(device: torch.device) -> Tensor:
    """1 where a frequency lies in a ring around frequency zero (RINGS, SIDE * SIDE), else 0."""
    along = frequencies(device)
    nearest = (along[:, None].square() + along.square()).sqrt().round().flatten()
    return (nearest == torch.arange(RINGS, device=device)[:, None]).float()


class FrequencyResponse(nn.Module):
    """Ours: what each frequency of an image is multiplied by, from its power spectrum.

    Photographs have much the same spectrum, falling evenly from frequency zero in all directions;
    what a blur does to it can be seen, that of a lens in its rings, that of a movement across them.
    A filter that knows no more than amplitudes keeps the phase, so a movement's two ends cannot be
    told apart. At first 1 everywhere.
    """

    most = 2.0  # logarithm of a response
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
        rings = rings_at(spectrum.device)
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
        asked = self.placed(seen, first, second) + 3 * (ringed @ rings).view_as(level)
        # a real kernel asks for as much at a frequency as at its negative
        asked = (asked + asked.flip(1, 2).roll((1, 1), (1, 2))) / 2
        asked = asked * (1 - rings[0].view(SIDE, SIDE))
        return (self.most * (asked / self.most).tanh()).exp()

    def placed(self, seen: Tensor, first: Tensor, second: Tensor) -> Tensor:
        """What each frequency asks for, from those around it (N, 3, SIDE, SIDE) and from what the
        whole spectrum adds to both layers (N, WIDTH)."""
        seen = F.leaky_relu(around(self.looks[0], seen) + first[..., None, None], LEAK)
        seen = seen + F.leaky_relu(around(self.looks[1], seen) + second[..., None, None], LEAK)
        return convolve(self.says, seen)[:, 0]


def around(layer: nn.Conv2d, planes: Tensor) -> Tensor:
    """A 3x3 convolution of planes whose ends meet."""
    planes = torch.cat([planes[..., -1:], planes, planes[..., :1]], 3)
    return convolve(layer, torch.cat([planes[:, :, -1:], planes, planes[:, :, :1]], 2))


def kernels_of(response: Tensor, imaginary: Tensor | None = None) -> Tensor:
    """Responses (N, side, side), with an imaginary part where they turn the phase -> kernels
    (N, side - 1, side - 1) that keep the mean, the middle in the middle."""
    side = response.shape[2]
    cos, sin = dft(side, response.device)
    kernels = cos @ response @ cos - sin @ response @ sin
    if imaginary is not None:
        kernels = kernels - cos @ imaginary @ sin - sin @ imaginary @ cos
    # the middle first -> in the middle, without the taps at side / 2, which are of no side
    reach = side // 2 - 1
    kernels = (kernels / side).roll((reach, reach), (1, 2))[:, :-1, :-1]
    middle = F.pad(kernels.new_ones(1, 1), (reach,) * 4)
    return kernels + middle * (1 - kernels.sum((1, 2), keepdim=True))


def filtered_by(wide: Tensor, response: Tensor) -> Tensor:
    """Images with REACH pixels more on each side (N, 3, H + 2 REACH, W + 2 REACH), and responses
    (N, SIDE, SIDE) -> (N, 3, H, W)."""
    return filtered_with(wide, kernels_of(response))


def filtered_with(wide: Tensor, kernels: Tensor) -> Tensor:
    """Images with `reach` pixels more on each side, convolved with kernels
    (N, 2 reach + 1, 2 reach + 1) that keep the mean -> (N, 3, H, W).

    By the DFT of blocks that overlap (overlap-save), which is as fast for any height and width.
    """
    reach = kernels.shape[1] // 2
    height, width = (length - 2 * reach for length in wide.shape[2:])
    down, across = (block_of(side, 2 * reach + 2) for side in (height, width))
    # a block behind the last one; a graph for all sizes would take a single block for the rule
    spare = 2 if exporting() else 1
    below, right = (
        ((side + block - 1) // block + spare) * block - side - 2 * reach
        for side, block in ((height, down), (width, across))
    )
    # kernels keep the mean: without the most of it there is less to round
    blocks = overlapping(F.pad(wide - 0.5, (0, right, 0, below)), 2, down, 2 * reach + 2)
    blocks = overlapping(blocks, 4, across, 2 * reach + 2).transpose(3, 4)
    # (N, 3, rows, columns, ...); the middle of a kernel comes first
    kernels = F.pad(kernels, (0, across + 1, 0, down + 1)).roll((-reach, -reach), (1, 2))
    blocks = convolved(blocks, kernels[:, None, None, None])
    blocks = blocks[..., reach : reach + down, reach : reach + across]
    return realised(cropped(blocks.transpose(3, 4).flatten(4).flatten(2, 3), height, width) + 0.5)


def block_of(side: int, common: int) -> int:
    """Pixels along a side that are filtered at once, at least as many as blocks have in `common`:
    even parts of it, of which the transforms are fast."""
    if recorded():
        return BLOCK
    parts = -(-side // MOST)
    return max(-(-side // (32 * parts)) * 32, common)


def overlapping(planes: Tensor, dim: int, block: int, common: int) -> Tensor:
    """A dimension of whole blocks -> two: all but the last, each with so many of the one behind."""
    pieces = planes.unflatten(dim, (-1, block))
    count = pieces.shape[dim] - 1
    behind = pieces.narrow(dim, 1, count).narrow(dim + 1, 0, common)
    return torch.cat([pieces.narrow(dim, 0, count), behind], dim + 1)
