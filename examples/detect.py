"""Detect objects with torchvision: python examples/detect.py PHOTO..."""

import sys

import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.models.detection import (
    FasterRCNN_MobileNet_V3_Large_320_FPN_Weights as Weights,
)
from torchvision.models.detection import (
    fasterrcnn_mobilenet_v3_large_320_fpn,
)
from torchvision.transforms.functional import to_tensor

from vrdir_plug import RestoreThen


def main(photos: list[str], network: nn.Module) -> list[dict[str, Tensor]]:
    """Boxes, labels and scores of each photograph, whatever their sizes."""
    model = RestoreThen(network.eval())
    images = [to_tensor(Image.open(photo).convert("RGB")) for photo in photos]
    with torch.inference_mode():
        found: list[dict[str, Tensor]] = model(images)
    return found


if __name__ == "__main__":
    detector = fasterrcnn_mobilenet_v3_large_320_fpn(weights=Weights.DEFAULT)
    for objects in main(sys.argv[1:], detector):
        for label, score in zip(objects["labels"], objects["scores"], strict=True):
            print(Weights.DEFAULT.meta["categories"][label], f"{score:.2f}")
