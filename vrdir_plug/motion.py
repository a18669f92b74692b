"""Motion blur, ours: what a straight move of the camera took of an image is given back.

Shapes are (N, channels, height, width); frequencies lie as FFT2 has them, the zeroth first.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, full_precision, idle, linear, zeroed
from .constants import constant
from .fourier import convolved, power
from .response import filtered_with, frequencies, kernels_of, places, squares, tapered
from .zoom import Lengths, lengths_of

SIDE = 64  # of the windows in which the spectrum is taken, in pixels, and of the response
ALONG = 7  # windows along each side of the image
REACH = SIDE // 2 - 1  # of its kernel, pixels
ANGLES = 72  # directions of a line that are looked at
BINS = SIDE // 2  # frequencies along a line, but the zeroth: cycles in SIDE pixels
DIAGONAL = 3 * BINS // 2  # the highest frequency along a line that a pixel grid has, and more
ACROSS = ((0, 5), (6, 14), (15, 31))  # frequencies across the line that are taken together
FLOOR = 3e-8  # half the power of rounding to 8 bits
WIDTH = 48


class Move(NamedTuple):
    """A straight move: its angle in radians from the x axis, of no sense (N,); the logarithms of
    what it leaves of the amplitudes along it and of what they are multiplied by (N, BINS) each; and
    the share of all that which is done (N,)."""

    angle: Tensor
    left: Tensor
    gains: Tensor
    share: Tensor


def moving_windows(images: Tensor) -> Tensor:
    """The luminance of images (N, 3, H, W) in windows (N, ALONG * ALONG, 1, SIDE, SIDE)."""
    grey = images.mean(1, keepdim=True)
    return squares(grey, *(moving_places(n, images.device) for n in images.shape[2:]))


def moving_places(length: int, device: torch.device) -> Tensor:
    """Where the windows lie along a side of the image: (ALONG, SIDE)."""
    return places(length, device, SIDE, ALONG)


class Windows(NamedTuple):
    """What is seen of images in windows: what `tapered` gives, and its power spectrum
    (N, SIDE, SIDE)."""

    planes: Tensor
    spectrum: Tensor


def windows_in(parts: Tensor) -> Windows:
    """Of what `squares` gives of images in float32 (N, windows, 3 or 1, SIDE, SIDE)."""
    planes = tapered(parts)
    return Windows(planes, power(planes))


def windows_on(images: Tensor) -> Windows:
    """Of images (N, 3, H, W) in float32."""
    with full_precision(images):
        return windows_in(moving_windows(images))


@constant
def angles(device: torch.device) -> Tensor:
    return torch.arange(ANGLES, device=device) * (math.pi / ANGLES)


def profiles_of(spectrum: Tensor) -> Tensor:
    """The power spectrum of windows (N, SIDE, SIDE) -> for each direction the logarithm of the
    power at each frequency along it, in the mean of those across: (N, parts of ACROSS, ANGLES,
    BINS)."""
    level = (spectrum + FLOOR).log()
    # the zeroth frequency in the middle, and the first ones again at the end
    level = level.roll((BINS, BINS), (1, 2))
    level = torch.cat([level, level[:, :1]], 1)
    level = torch.cat([level, level[..., :1]], 2)[:, None]
    grid, weights = turned_grid(level.device)
    grid = grid.expand(level.shape[0], -1, -1, -1)
    found = F.grid_sample(level, grid, padding_mode="border", align_corners=True)
    return torch.einsum("nabx,pabx->npab", found[:, 0].unflatten(1, (ANGLES, BINS)), weights)


@constant
def turned_grid(device: torch.device) -> tuple[Tensor, Tensor]:
    """Where in a spectrum, from -1 to 1, the frequencies along each direction and across it lie
    (ANGLES * BINS, BINS, 2); and by what those across are to be multiplied for the means of the
    parts of ACROSS (parts, ANGLES, BINS, BINS)."""
    along = torch.arange(1.0, BINS + 1.0, device=device)[:, None]
    across = torch.arange(-BINS + 1.0, BINS, 2.0, device=device)
    turn = angles(device)[:, None, None]
    x, y = (
        (along * turn.cos() - across * turn.sin()) / BINS,
        (along * turn.sin() + across * turn.cos()) / BINS,
    )
    there = ((x.abs() < 1 + 1e-4) & (y.abs() < 1 + 1e-4)).float()  # but for rounding
    parts = [(across.abs() >= low) & (across.abs() <= high) for low, high in ACROSS]
    weights = there * torch.stack(parts)[:, None, None].float()
    weights = weights / weights.sum(3, keepdim=True).clamp(min=1.0)
    return torch.stack([x, y], 3).flatten(0, 1), weights


class InverseFilter(nn.Module):
    """Takes a blur back that is the same all over an image, by what its windows show: `seen_in`
    says what, and how much of it is done, `kernels` with what it is convolved."""

    reach: int  # of the kernels, pixels
    seen_in: Any
    kernels: Any

    def forward(self, images: Tensor, windows: Windows | None = None) -> Tensor:
        """(N, 3, H, W) in float32, and `windows_on` them where these are known -> images, not
        clamped; where nothing is to be done to any, those that came."""
        with full_precision(images):
            windows = windows or windows_on(images)
            seen = self.seen_in(windows.spectrum, lengths_of(images))
            if idle(seen.share):
                return images
            wide = F.pad(images, (self.reach,) * 4, mode="replicate")
            return filtered_with(wide, self.kernels(windows.planes, seen))


class MotionFilter(InverseFilter):
    """Ours: what a straight move of the camera took of an image along its way is given back.

    The power spectrum shows the way, and what the move left of each frequency along it; a small
    network reads both, the same for every direction, with the direction across it beside it: there
    a photograph shows what it would have without the move. The phase follows from the amplitudes:
    what starts at once and fades, as a move that comes to rest does, has the least phase that they
    allow (Oppenheim and Schafer, Discrete-Time Signal Processing, 1989, 12.1), and so has an even
    one but for a shift. Which of its two ends was first the image tells: the right inverse leaves
    less total variation (Rudin, Osher and Fatemi, Physica D 60, 1992) than that from the other end.
    The gains are those of Wiener's filter, as far as the spectrum shows noise, too. At first there
    is no move.
    """

    reach = REACH
    most = 3.0  # logarithm of what is left, or of a gain
    least, surely = 0.8, 0.95  # chance of a move: nothing is done, all of it

    def __init__(self) -> None:
        super().__init__()
        into = 3 * len(ACROSS) * BINS + 4
        layers = nn.Conv2d(into, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        self.asks: Any = nn.ModuleList([*layers, zeroed(nn.Conv2d(WIDTH, 2 * BINS + 1, 1))])
        self.still = nn.Parameter(torch.tensor(8.0))  # the score of there being no move

    def seen_in(self, spectrum: Tensor, whole: Lengths) -> Move:
        """The move that the power spectrum of the windows of images of this height and width
        shows. One smaller than a window shows none."""
        scores, along = self.asked(profiles_of(spectrum))
        chances = scores.softmax(1)
        best = chances[:, :-1].argmax(1, keepdim=True)
        # between the directions, by the chances of those beside the best
        beside = torch.arange(-2, 3, device=best.device)
        near = chances.gather(1, (best + beside).remainder(ANGLES)) + 1e-12
        angle = best[:, 0] + (near * beside).sum(1) / near.sum(1)
        along = along.gather(1, best[..., None].expand(-1, 1, 2 * BINS))[:, 0]
        left, gains = along.clamp(-self.most, self.most).chunk(2, 1)
        share = (1 - chances[:, -1] - self.least) / (self.surely - self.least)
        large = (torch.minimum(*whole) >= SIDE).float()
        angle = angle * (math.pi / ANGLES)
        return Move(angle, left.clamp(max=0), gains, large * share.clamp(0, 1))

    def asked(self, profiles: Tensor) -> tuple[Tensor, Tensor]:
        """What `profiles_of` gives -> scores of each direction and of there being no move
        (N, ANGLES + 1); what a move this way has left, and the gains for it (N, ANGLES, 2 BINS)."""
        beside = profiles.roll(ANGLES // 2, 2)
        uneven = profiles - profiles.mean(2, keepdim=True)
        known = torch.cat([profiles - beside, uneven, beside / 5 + 1], 1).transpose(1, 2).flatten(2)
        # photographs have more that lies or stands
        turn = 2 * angles(profiles.device)
        turns = torch.stack([turn.cos(), turn.sin(), (2 * turn).cos(), (2 * turn).sin()], 1)
        known = torch.cat([known, turns.expand(known.shape[0], -1, -1)], 2)
        first, second, out = self.asks
        hidden = F.leaky_relu(linear(first, known), LEAK)
        hidden = hidden + F.leaky_relu(linear(second, hidden), LEAK)
        scores, along = linear(out, hidden).split([1, 2 * BINS], 2)
        still = self.still.float().expand(scores.shape[0], 1)
        return torch.cat([scores[..., 0], still], 1), along

    def kernels(self, planes: Tensor, move: Move) -> Tensor:
        """The inverse of a move from that end of it from which what `tapered` gives has the less
        total variation: (N, 2 REACH + 1, 2 REACH + 1), keeping the mean."""
        kernels = inverse(move)
        # a kernel turned round is that of the other end
        turned = kernels.flip(1, 2)
        ends = torch.stack([kernels, turned], 1)
        shifted = F.pad(ends, (0, 1, 0, 1)).roll((-REACH, -REACH), (2, 3))
        first, last = variation_of(convolved(planes[:, None], shifted[:, :, None])).unbind(1)
        chosen = torch.where((first <= last)[:, None, None], kernels, turned)
        middle = F.pad(kernels.new_ones(1, 1), (REACH,) * 4)
        return middle + move.share[:, None, None] * (chosen - middle)


def variation_of(planes: Tensor) -> Tensor:
    """The total variation of (N, 2, windows, SIDE, SIDE): (N, 2)."""
    down, across = (planes.diff(dim=side).abs().sum((2, 3, 4)) for side in (3, 4))
    return down + across


def least_phase(left: Tensor) -> Tensor:
    """The phase of the minimum-phase filter of these logarithms of amplitudes (N, BINS), that at
    frequency zero 0 and the last one's at all above it: (N, DIAGONAL + 1), radians."""
    level = torch.cat([left, left[:, -1:].expand(-1, DIAGONAL - BINS)], 1)
    steps = torch.arange(1, DIAGONAL + 1, device=left.device)
    angle = (steps[:, None] * steps).remainder(2 * DIAGONAL) * (math.pi / DIAGONAL)
    # the cepstrum is even; the least phase has all of it on one side
    weights = torch.ones_like(level[0])
    weights[-1] = 0.5
    cepstrum = (level * weights) @ angle.cos() * (2 / DIAGONAL)
    return F.pad(-(cepstrum * weights) @ angle.sin(), (1, 0))


def inverse(move: Move) -> Tensor:
    """The kernels that take a move back, from one of its ends (N, 2 REACH + 1, 2 REACH + 1), the
    middle in the middle."""
    phase = least_phase(move.left)
    gains = torch.cat([move.gains, move.gains[:, -1:].expand(-1, DIAGONAL - BINS)], 1)
    gains = F.pad(gains, (1, 0)).exp()
    steps = frequencies(phase.device, SIDE)
    x, y = (turn[:, None, None] for turn in (move.angle.cos(), move.angle.sin()))
    along = steps * x + steps[:, None] * y
    low = along.abs().floor()
    # an image with a bad pixel has no angle, and still no place out of bounds
    part, low = along.abs() - low, low.nan_to_num().long().flatten(1)

    def at(values: Tensor) -> Tensor:
        below, above = (values.gather(1, low + n).view_as(part) for n in (0, 1))
        return torch.lerp(below, above, part)

    real, imaginary = at(gains * phase.cos()), -at(gains * phase.sin()) * along.sign()
    return kernels_of(real, imaginary)
