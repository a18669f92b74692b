"""A network behind NoiseFilter that gives detail back and takes what noise was left, ours."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import BANDS, CELL, LEAK, bands_of, conv, image_of, plus_product, zeroed


class Denoiser(nn.Module):
    """Ours: what NoiseFilter took too much of, or too little, by what both images look like around.

    Convolutions beside the identity (Zhang et al., IEEE TIP 26, 2017) on the bands of what the
    filter gives, and of what it took. None has a bias: half of an image and of its noise is
    restored to half of it, so what was learnt of one strength of noise, or in daylight, holds for
    others and in the dark (Mohan et al., ICLR 2020). A part of the noise is `left`, in each band:
    recognisers see more in it than where all is smooth. At first it changes nothing.
    """

    pairs = 4  # of convolutions
    reach = CELL * (2 + 2 * pairs)  # pixels around one that have a say in it

    def __init__(self, width: int) -> None:
        super().__init__()
        self.enter = conv(2 * BANDS, width, bias=False)
        self.body = nn.ModuleList(self.pair(width) for _ in range(self.pairs))
        self.leave = zeroed(conv(width, BANDS, bias=False))
        self.left = nn.Parameter(torch.zeros(BANDS, 1, 1))
        nn.init.kaiming_normal_(self.enter.weight, LEAK)

    @staticmethod
    def pair(width: int) -> nn.Sequential:
        first, second = (conv(width, width, bias=False) for _ in range(2))
        nn.init.kaiming_normal_(first.weight, LEAK)
        return nn.Sequential(first, nn.LeakyReLU(LEAK), zeroed(second))

    def forward(self, images: Tensor, smooth: Tensor) -> Tensor:
        """Images with noise, and as NoiseFilter gives them (N, 3, H, W), float32, H and W divisible
        by 4 -> what to add to the latter, float32."""
        noisy, bands = bands_of(images), bands_of(smooth)
        noise = noisy - bands
        seen = torch.cat([bands, noise], 1)
        features = F.leaky_relu(self.enter(seen.to(self.enter.weight.dtype)), LEAK)
        for pair in self.body:
            features = features + pair(features)
        detail = self.leave(F.leaky_relu(features, LEAK)).float()
        return image_of(plus_product(detail, noise, self.left.float()))
