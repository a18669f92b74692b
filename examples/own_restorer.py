"""Bring your own restorer: python examples/own_restorer.py PHOTO...

Anything that makes RGB images in [0, 1] of RGB images in [0, 1] will do: an nn.Module, a function,
a descriptor as spandrel's ModelLoader returns it (RestoreThen(model, descriptor)).
"""

import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models import MobileNet_V3_Small_Weights as Weights
from torchvision.models import mobilenet_v3_small

from vrdir_plug import RestoreThen


def stretch(images: Tensor) -> Tensor:
    """Spread what lies between the darkest and the brightest pixel of an image over [0, 1]."""
    low, high = images.amin((1, 2, 3), True), images.amax((1, 2, 3), True)
    return (images - low) / (high - low).clamp(min=1 / 255)


def main(photos: list[str], network: nn.Module) -> list[int]:
    """The most probable class of each photograph."""
    model = RestoreThen(network.eval(), stretch)
    prepare = Weights.DEFAULT.transforms()
    images = torch.stack([prepare(Image.open(photo).convert("RGB")) for photo in photos])
    best: list[int] = model(images).argmax(1).tolist()
    return best


if __name__ == "__main__":
    print(*main(sys.argv[1:], mobilenet_v3_small(weights=Weights.DEFAULT)), sep="\n")
