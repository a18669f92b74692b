"""Pairs of convolutions beside the identity, and the way up between levels: what both networks on
the bands of cells, WeatherFilter and Denoiser, are made of.

Shapes are (N, channels, height, width).
"""

import torch.nn.functional as F
from torch import Tensor, nn

from .bands import LEAK, conv, zeroed


class Pair(nn.Module):
    """Two convolutions beside the identity, at which they start."""

    def __init__(self, width: int, bias: bool = True) -> None:
        super().__init__()
        self.first, self.second = conv(width, width, bias=bias), zeroed(conv(width, width, 1, bias))
        nn.init.kaiming_normal_(self.first.weight, LEAK)

    def forward(self, features: Tensor) -> Tensor:
        second: Tensor = self.second(F.leaky_relu(self.first(features), LEAK))
        return features + second


def pairs(count: int, width: int, bias: bool = True) -> nn.Sequential:
    return nn.Sequential(*(Pair(width, bias) for _ in range(count)))


def raised(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """To twice the height and width (Shi et al., CVPR 2016)."""
    return F.pixel_shuffle(layer(F.leaky_relu(features, LEAK)), 2)
