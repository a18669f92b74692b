"""Classify photographs with torchvision: python examples/classify.py PHOTO..."""

import sys
from typing import Any

import torch
from PIL import Image
from torch import nn
from torchvision.models import MobileNet_V3_Small_Weights, mobilenet_v3_small

from vrdir_plug import RestoreThen


def main(photos: list[str], network: nn.Module, weights: Any) -> list[str]:
    """The most probable class of each photograph."""
    model = RestoreThen(network.eval(), pixels=weights)
    prepare = weights.transforms()
    images = torch.stack([prepare(Image.open(photo).convert("RGB")) for photo in photos])
    with torch.inference_mode():
        best = model(images).argmax(1)
    return [weights.meta["categories"][i] for i in best]


if __name__ == "__main__":
    published = MobileNet_V3_Small_Weights.DEFAULT
    print(*main(sys.argv[1:], mobilenet_v3_small(weights=published), published), sep="\n")
