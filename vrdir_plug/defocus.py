"""The blur of a lens out of focus, ours: the disc that it makes of every point is taken back.

Shapes are (N, channels, height, width); frequencies lie as FFT2 has them, the zeroth first.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, full_precision, idle, linear, zeroed
from .fourier import power
from .motion import FLOOR, moving_windows
from .response import filtered_with, frequencies, kernels_of, tapered
from .zoom import Lengths, lengths_of

SEEN = 64  # pixels of a side of the windows in which the spectrum is taken
RINGS = 45  # distances from frequency zero in it, but the zeroth: cycles in SEEN pixels
SIDE = 128  # of the response, in pixels
REACH = SIDE // 2 - 1  # of its kernel, pixels
FARTHEST = 91  # the highest frequency that a pixel grid has, along its diagonal: cycles in SIDE
RADII = tuple(n / 4 for n in range(6, 45))  # of discs, pixels
RIM = 0.6  # deviation of the Gaussian by which a disc's rim is soft, pixels
WIDTH = 96


def rings_of(planes: Tensor) -> Tensor:
    """What `tapered` gives of windows of SEEN pixels -> the mean logarithm of the power at each
    distance from frequency zero (N, RINGS)."""
    level = (power(planes).mean(1) + FLOOR).log().flatten(1)
    along = frequencies(planes.device, SEEN)
    distance = (along[:, None].square() + along.square()).sqrt().round().flatten()
    rings = torch.arange(1, RINGS + 1, device=planes.device)[:, None]
    here = (distance == rings).float()
    return level @ (here / here.sum(1, keepdim=True)).T


def discs_left(device: torch.device) -> Tensor:
    """What discs of the RADII leave of frequencies of 0 to FARTHEST cycles in SIDE pixels, below
    zero where they turn the phase; the last row is that of no disc: (discs + 1, FARTHEST + 1)."""
    # their projection, a half ellipse, at quarters of a pixel
    steps = torch.arange(-48, 49, device=device) / 4
    radii = torch.tensor(RADII, device=device)[:, None]
    across = (radii.square() - steps.square()).clamp(min=0).sqrt()
    cycles = torch.arange(FARTHEST + 1, device=device) / SIDE
    waves = (2 * math.pi * steps[:, None] * cycles).cos()
    left = across @ waves / across.sum(1, keepdim=True)
    left = left * torch.exp(-2 * (math.pi * RIM * cycles).square())
    return torch.cat([left, torch.ones_like(left[:1])])


class DefocusFilter(nn.Module):
    """Ours: an image that was out of focus is brought back into it.

    A lens makes a disc of every point; what that leaves of the power spectrum has dark rings, whose
    distances tell its radius. A small network reads them, and gives each radius a chance, and that
    there is no disc. The filter is the linear one of the least error by these chances, E[H] /
    (E[H^2] + noise), H what a disc leaves of a frequency (Slepian, Journal of the Optical Society
    of America 57, 1967). It turns the phase back, which a FrequencyResponse does not, and is as
    much finer as 63 pixels are than 15. At first there is no disc.
    """

    noise = 3e-3  # of the power
    least, surely = 0.5, 0.9  # chance of a disc: nothing is done, all of it

    def __init__(self) -> None:
        super().__init__()
        into, hidden = nn.Conv2d(3 * RINGS - 1, WIDTH, 1), nn.Conv2d(WIDTH, WIDTH, 1)
        out = zeroed(nn.Conv2d(WIDTH, len(RADII) + 1, 1))
        with torch.no_grad():
            torch.as_tensor(out.bias)[-1] = 8.0
        self.asks: Any = nn.ModuleList([into, hidden, out])

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) -> the same in float32, not clamped."""
        with full_precision(images):
            images = images.float()
            chances = self.chances(tapered(moving_windows(images)))
            share = self.share(chances, lengths_of(images))
            if idle(share):
                return images
            wide = F.pad(images, (REACH,) * 4, mode="replicate")
            return filtered_with(wide, self.kernels(chances, share))

    def chances(self, planes: Tensor) -> Tensor:
        """Of each radius, and of none (N, radii + 1), by what `tapered` gives."""
        return self.asked(rings_of(planes)).softmax(1)

    def share(self, chances: Tensor, whole: Lengths) -> Tensor:
        """How much is done (N,) to images of this height and width; to those smaller than a window
        nothing."""
        share = (1 - chances[:, -1] - self.least) / (self.surely - self.least)
        return share.clamp(0, 1) * (torch.minimum(*whole) >= SEEN).float()

    def asked(self, rings: Tensor) -> Tensor:
        """What `rings_of` gives -> scores of each radius, and of none (N, radii + 1)."""
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

    def kernels(self, chances: Tensor, share: Tensor) -> Tensor:
        """(N, 2 REACH + 1, 2 REACH + 1), keeping the mean."""
        left = discs_left(chances.device)
        expected, square = chances @ left, chances @ left.square()
        gains = (1 + self.noise) * expected / (square + self.noise)
        gains = 1 + share[:, None] * (gains - 1)
        steps = frequencies(gains.device, SIDE)
        distance = (steps[:, None].square() + steps.square()).sqrt().flatten()
        low = distance.floor().clamp(max=FARTHEST - 1)
        below, above = (gains.index_select(1, low.long() + n) for n in (0, 1))
        response = torch.lerp(below, above, distance - low)
        return kernels_of(response.unflatten(1, (SIDE, SIDE)))
