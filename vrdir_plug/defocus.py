"""The blur of a lens out of focus, ours: the disc that it makes of every point is taken back.

Shapes are (N, channels, height, width); frequencies lie as FFT2 has them, the zeroth first.
"""

import math
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, linear, zeroed
from .constants import constant
from .motion import FLOOR, InverseFilter
from .motion import SIDE as SEEN  # of the windows in which the spectrum is taken
from .response import frequencies, kernels_of
from .zoom import Lengths

RINGS = 45  # distances from frequency zero in it, but the zeroth: cycles in SEEN pixels
SIDE = 128  # of the response, in pixels
REACH = SIDE // 2 - 1  # of its kernel, pixels
FARTHEST = 91  # the highest frequency that a pixel grid has, along its diagonal: cycles in SIDE
RADII = tuple(n / 8 for n in range(12, 89))  # of discs, pixels
WHOLES = tuple(range(2, 11))  # of those that software makes of whole pixels
RIM = 0.46  # deviation of the Gaussian by which a disc's rim is soft, pixels
WIDTH = 96


class Disc(NamedTuple):
    """How likely each disc is, and none (N, discs + 1); the noise, in shares of the power of a
    photograph (N,); and how much of what is taken back by these is done (N,)."""

    chances: Tensor
    noise: Tensor
    share: Tensor


def rings_of(spectrum: Tensor) -> Tensor:
    """The power spectrum of windows (N, SEEN, SEEN) -> its mean logarithm at each distance from
    frequency zero (N, RINGS)."""
    return (spectrum + FLOOR).log().flatten(1) @ means_of_rings(spectrum.device)


@constant
def means_of_rings(device: torch.device) -> Tensor:
    """(SEEN * SEEN, RINGS)."""
    along = frequencies(device, SEEN)
    distance = (along[:, None].square() + along.square()).sqrt().round().flatten()
    rings = torch.arange(1, RINGS + 1, device=device)[:, None]
    here = (distance == rings).float()
    return (here / here.sum(1, keepdim=True)).T


@constant
def radii_on(device: torch.device) -> Tensor:
    """The radii of all discs, and 0 for none (discs + 1,). Counted there, not copied from here: no
    GPU waits."""
    smooth = RADII[0] + torch.arange(len(RADII), device=device) / 8
    wholes = WHOLES[0] + torch.arange(len(WHOLES), device=device)
    return torch.cat([smooth, wholes, torch.zeros_like(smooth[:1])])


@constant
def discs_left(device: torch.device) -> Tensor:
    """What each disc leaves of frequencies, below zero where it turns the phase: smooth ones of the
    RADII, then those of WHOLES, then none (discs + 1, SIDE, SIDE)."""
    steps = frequencies(device, SIDE)
    distance = (steps[:, None].square() + steps.square()).sqrt()
    soft = torch.exp(-2 * (math.pi * RIM / SIDE * distance).square())
    smooth = between(ellipses_left(device), distance)
    pixels = torch.arange(-WHOLES[-1], WHOLES[-1] + 1, device=device)
    radii = radii_on(device)[len(RADII) : -1, None, None]
    here = (pixels[:, None].square() + pixels.square() <= radii.square()).float()
    waves = (2 * math.pi / SIDE * steps[:, None] * pixels).cos()
    wholes = waves @ here @ waves.T / here.sum((1, 2), keepdim=True)
    return torch.cat([smooth * soft, wholes * soft, torch.ones_like(soft)[None]])


def ellipses_left(device: torch.device) -> Tensor:
    """What a disc of each of the RADII leaves of 0 to FARTHEST cycles in SIDE pixels along a line:
    by its projection, a half ellipse, at eighths of a pixel (radii, FARTHEST + 1)."""
    steps = torch.arange(-96, 97, device=device) / 8
    radii = radii_on(device)[: len(RADII), None]
    across = (radii.square() - steps.square()).clamp(min=0).sqrt()
    cycles = torch.arange(FARTHEST + 1, device=device) / SIDE
    waves = (2 * math.pi * steps[:, None] * cycles).cos()
    return across @ waves / across.sum(1, keepdim=True)


def between(values: Tensor, places: Tensor) -> Tensor:
    """Values (N, count) at places (h, w) between them: (N, h, w)."""
    low = places.floor().clamp(max=values.shape[1] - 2)
    below, above = (values[:, low.long() + n] for n in (0, 1))
    return torch.lerp(below, above, places - low)


class DefocusFilter(InverseFilter):
    """Ours: an image that was out of focus is brought back into it.

    A lens makes a disc of every point; what that leaves of the power spectrum has dark rings, whose
    distances tell its radius. A small network reads them, and gives each disc a chance, and that
    there is none. The filter is the linear one of the least error by these chances, E[H] /
    (E[H^2] + noise), H what a disc leaves of a frequency (Slepian, Journal of the Optical Society
    of America 57, 1967). It turns the phase back, which a FrequencyResponse does not, and is as
    much finer as 63 pixels are than 15. At first there is no disc.
    """

    reach = REACH
    # at least, of the power; more by the cube of the radius, for inverses reach further
    noise = 3e-4, 3.2e-6
    fine = 1e-3  # the power of a photograph where a disc leaves little
    corners = 3  # rings in the corners of the spectrum, which show noise alone
    little, much = 0.02, 0.06  # noise up to which all is done, and from which nothing
    least, surely = 0.8, 0.95  # chance of a disc: nothing is done, all of it

    def __init__(self) -> None:
        super().__init__()
        into, hidden = nn.Conv2d(3 * RINGS - 1, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        out = zeroed(nn.Conv2d(WIDTH, len(RADII) + len(WHOLES) + 1, 1))
        with torch.no_grad():
            torch.as_tensor(out.bias)[-1] = 8.0
        self.asks: Any = nn.ModuleList([into, hidden, out])

    def seen_in(self, spectrum: Tensor, whole: Lengths) -> Disc:
        """The disc that the power spectrum of the windows of images of this height and width
        shows. One smaller than a window shows none."""
        rings = rings_of(spectrum)
        chances = self.asked(rings).softmax(1)
        share = (1 - chances[:, -1] - self.least) / (self.surely - self.least)
        large = (torch.minimum(*whole) >= SEEN).float()
        noise = rings[:, -self.corners :].mean(1).exp() / self.fine
        share = share.clamp(0, 1) * ((self.much - noise) / (self.much - self.little)).clamp(0, 1)
        least, more = self.noise
        noise = noise + least + more * (chances @ radii_on(rings.device) ** 3)
        return Disc(chances, noise, large * share)

    def asked(self, rings: Tensor) -> Tensor:
        """What `rings_of` gives -> scores of each disc, and of none (N, discs + 1)."""
        # the power of a photograph falls by a power of the frequency
        falling = torch.arange(1, RINGS + 1, device=rings.device).log()
        falling = falling - falling.mean()
        uneven = rings - rings.mean(1, keepdim=True)
        slope = (uneven @ falling) / falling.square().sum()
        uneven = uneven - slope[:, None] * falling
        into, hidden, out = self.asks
        known = torch.cat([uneven / 2, rings.diff(dim=1), rings / 5 + 2], 1)
        found = F.leaky_relu(linear(into, known), LEAK)
        return linear(out, F.leaky_relu(linear(hidden, found), LEAK))

    def kernels(self, planes: Tensor, disc: Disc) -> Tensor:
        """(N, 2 REACH + 1, 2 REACH + 1), keeping the mean: the disc says all of it."""
        left = discs_left(disc.chances.device)
        # what is less likely costs more than recognisers gain of its doubt
        chances = disc.chances.square()
        chances = chances / chances.sum(1, keepdim=True)
        noise, share = (part[:, None, None] for part in disc[1:])
        expected, square = (torch.einsum("nk,kyx->nyx", chances, h) for h in (left, left.square()))
        gains = (1 + noise) * expected / (square + noise)
        return kernels_of(1 + share * (gains - 1))
