"""What lies over a scene, ours: flakes, ice, drops and the blocks of JPEG are taken away.

Shapes are (N, channels, height, width).
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import (
    BANDS,
    CELL,
    LEAK,
    Judgement,
    bands_of,
    conv,
    cropped,
    filled,
    full_precision,
    image_of,
    zeroed,
)
from .constants import constant
from .pairs import pairs, raised

MEANS = (0.5631, 0.541, 0.4925)  # of red, green and blue in photographs with something over them
# deviations of the 16 bands of a colour in such photographs, and of what lies over them
SEEN = (
    *(1.0, 0.16, 0.075, 0.04, 0.16, 0.08, 0.045, 0.027),
    *(0.075, 0.045, 0.032, 0.023, 0.04, 0.027, 0.023, 0.02),
)
OVER = (
    *(0.54, 0.105, 0.056, 0.035, 0.105, 0.062, 0.041, 0.028),
    *(0.056, 0.041, 0.031, 0.023, 0.035, 0.028, 0.023, 0.019),
)
GENTLE = 0.25  # without normalisation a last layer moves too far in a step


@constant
def usual(device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """MEANS (3, 1, 1), SEEN and OVER for three colours (BANDS, 1, 1)."""
    values = (torch.tensor(of, device=device) for of in (MEANS, 3 * SEEN, 3 * OVER))
    means, seen, over = (of.view(-1, 1, 1) for of in values)
    return means, seen, over


class WeatherFilter(nn.Module):
    """Ours: flakes, ice, drops on the lens and JPEG's blocks hide parts of a scene, or add to it;
    what was there is told by what is around.

    A U (Ronneberger, Fischer and Brox, MICCAI 2015) of three levels on the bands of an image, the
    first that of its cells, of so many channels, of half as many more and of twice as many. It says
    what to add to each band, and by how much to multiply it. Whether there is anything to be taken
    away its coarsest level says, which has learnt what to look for. At first nothing is likely.
    """

    stride = 4 * CELL  # pixels of a position of the coarsest level
    # a position of the coarsest level sees furthest: 8 convolutions there, 6 above it, 8 at cells
    reach = CELL * 56  # pixels around one that have a say in it
    doubt = 0.5  # chance up to which nothing is taken away

    def __init__(self, width: int) -> None:
        super().__init__()
        half, double = 3 * width // 2, 2 * width
        self.enter = conv(BANDS, width)
        self.first, self.second, self.third = pairs(1, width), pairs(2, half), pairs(4, double)
        self.down: nn.Module = nn.Conv2d(width, half, 2, 2)
        self.further: nn.Module = nn.Conv2d(half, double, 2, 2)
        self.back, self.up = nn.Conv2d(double, 4 * half, 1), nn.Conv2d(half, 4 * width, 1)
        self.fourth, self.fifth = pairs(1, half), pairs(2, width)
        self.leave = zeroed(conv(width, 2 * BANDS))
        self.asks = Judgement(double)

    def seen(self, images: Tensor) -> list[Tensor]:
        """Images (N, 3, H, W) in float32, H and W divisible by CELL -> bands, and the features of
        each level, of whole positions of the coarsest."""
        means, deviations, _ = usual(images.device)
        bands = bands_of(filled(images, self.stride) - means)
        scaled = (bands / deviations).to(self.enter.weight.dtype)
        fine = self.first(F.leaky_relu(self.enter(scaled), LEAK))
        middle = self.second(self.down(F.leaky_relu(fine, LEAK)))
        coarse = self.third(self.further(F.leaky_relu(middle, LEAK)))
        return [bands, fine, middle, coarse]

    def change(self, bands: Tensor, fine: Tensor, middle: Tensor, coarse: Tensor) -> Tensor:
        """What `seen` gives -> what to add to the images, float32."""
        middle = self.fourth(middle + raised(self.back, coarse))
        fine = self.fifth(fine + raised(self.up, middle))
        more, gain = (GENTLE * self.leave(F.leaky_relu(fine, LEAK)).float()).chunk(2, dim=1)
        return image_of(more * usual(bands.device)[2] + gain * bands)

    @staticmethod
    def told(coarse: Tensor) -> Tensor:
        """Of the features of the coarsest level, whose mean over all positions tells what there
        is: in float32."""
        return F.leaky_relu(coarse.float(), LEAK)

    def share(self, told: Tensor) -> Tensor:
        """Of what lies over the images that is taken away (N,), by what `told` gives, in the mean
        over all positions (N, C)."""
        with full_precision(told):
            return ((self.asks.chance(told) - self.doubt) / (1 - self.doubt)).clamp(min=0)

    def judged(self, seen: Sequence[Tensor]) -> Tensor:
        """`share` (N,) of images, by what `seen` gives."""
        return self.share(self.told(seen[-1]).mean((2, 3)))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W) in float32, H and W divisible by CELL -> what to add to them, of the
        same shape, and how much of that (N,)."""
        seen = self.seen(images)
        return cropped(self.change(*seen), *images.shape[2:]), self.judged(seen)
