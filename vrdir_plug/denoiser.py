"""A network behind NoiseFilter that gives detail back and takes what noise was left, ours."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import (
    BANDS,
    CELL,
    LEAK,
    bands_of,
    conv,
    cropped,
    filled,
    image_of,
    plus_product,
    zeroed,
)
from .pairs import pairs, raised


class Denoiser(nn.Module):
    """Ours: what NoiseFilter took too much of, or too little, by what both images look like around.

    Convolutions beside the identity (Zhang et al., IEEE TIP 26, 2017) on the bands of what the
    filter gives, and of what it took; half way some at half the resolution see further, for strong
    noise hides what a few cells would tell. None has a bias: half of an image and of its noise is
    restored to half of it, so what was learnt of one strength of noise, or in daylight, holds for
    others and in the dark (Mohan et al., ICLR 2020). A part of the noise is `left`, in each band:
    recognisers see more in it than where all is smooth. At first it changes nothing.
    """

    stride = 2 * CELL  # pixels of a position at half the resolution
    # 2 pairs, 3 of twice the scale from any place in a position, 2 pairs, the first and the last
    reach = CELL * (1 + 4 + 13 + 4 + 1)  # pixels around one that have a say in it, at the most

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = conv(2 * BANDS, width, bias=False)
        self.first, self.last = pairs(2, width, bias=False), pairs(2, width, bias=False)
        self.down: nn.Module = nn.Conv2d(width, 2 * width, 2, 2, bias=False)
        self.further = pairs(3, 2 * width, bias=False)
        self.up = zeroed(nn.Conv2d(2 * width, 4 * width, 1, bias=False))
        self.leave = zeroed(conv(width, BANDS, bias=False))
        self.left = nn.Parameter(torch.zeros(BANDS, 1, 1))
        nn.init.kaiming_normal_(self.enter.weight, LEAK)
        nn.init.kaiming_normal_(self.down.weight, LEAK)

    def forward(self, images: Tensor, smooth: Tensor) -> Tensor:
        """Images with noise, and as NoiseFilter gives them (N, 3, H, W), float32, H and W divisible
        by 4 -> what to add to the latter, float32."""
        height, width = images.shape[2:]
        noisy, bands = (bands_of(filled(i, self.stride)) for i in (images, smooth))
        noise = noisy - bands
        seen = torch.cat([bands, noise], 1)
        features = F.leaky_relu(self.enter(seen.to(self.enter.weight.dtype)), LEAK)
        features = self.first(features)
        coarse = self.further(self.down(F.leaky_relu(features, LEAK)))
        features = self.last(features + raised(self.up, coarse))
        detail = self.leave(F.leaky_relu(features, LEAK)).float()
        return cropped(image_of(plus_product(detail, noise, self.left.float())), height, width)
