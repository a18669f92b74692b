"""One row a kind of model that the plug can stand in front of; test_contract asks each for all."""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import timm
import torch
import torchvision.models as tv
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from vrdir_plug.pixels import PixelSpec

Encoding = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class Case:
    """A kind of model.

    Args:
        name: of the row, in the names of the tests.
        build: makes the model, in evaluation mode.
        encode: RGB in [0, 1], (3, H, W) -> as the model takes it; the oracle, not by PixelSpec.
        sizes: heights and widths of the images of one call.
        as_list: the model takes a list of images instead of a batch.
        pixels: what the user has to say.
    """

    name: str
    build: Callable[[], Callable[..., Any]]
    encode: Encoding
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64))
    as_list: bool = False
    pixels: object = None

    def model(self) -> Callable[..., Any]:
        """A new one, always with the same weights."""
        return copy.deepcopy(built(self))

    def clean(self) -> list[Tensor]:
        """RGB images in [0, 1], of coloured tiles."""
        seed = torch.Generator().manual_seed(0)
        return [
            nn.functional.interpolate(torch.rand(1, 3, 8, 8, generator=seed), size)[0]
            for size in self.sizes
        ]

    def images(self) -> Any:
        """The same as the model takes them."""
        encoded = [self.encode(image) for image in self.clean()]
        return encoded if self.as_list else torch.stack(encoded)


@cache
def built(case: Case) -> Callable[..., Any]:
    torch.manual_seed(0)
    return case.build()


class HomeMade(nn.Module):
    """A network no adapter knows, with an argument beside the images."""

    num_classes = 7

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3, 2), nn.BatchNorm2d(8), nn.ReLU())
        self.head = nn.Linear(8, self.num_classes)

    def forward(self, picture: Tensor, scale: float = 1.0) -> Tensor:
        return scale * self.classify(self.features(picture).mean((2, 3)))

    def classify(self, features: Tensor) -> Tensor:
        logits: Tensor = self.head(features)
        return logits


def channel_means(batch: Tensor) -> Tensor:
    """A recogniser that is a plain function."""
    return batch.mean((2, 3)).softmax(1)


def imagenet(image: Tensor) -> Tensor:
    encoded: Tensor = normalize(image, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    return encoded


def half(image: Tensor) -> Tensor:
    return image * 2 - 1


def caffe(image: Tensor) -> Tensor:
    """BGR in 0..255, less the means of its channels."""
    return image.flip(0) * 255 - torch.tensor([103.939, 116.779, 123.68])[:, None, None]


CAFFE = PixelSpec(mean=(103.939, 116.779, 123.68), peak=255, order="BGR")


def torchvision_detector() -> nn.Module:
    """Its initial weights are so small that every image has the same boxes."""
    network: Any = tv.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.0, detections_per_img=20
    )
    network.transform.fixed_size = (96, 96)  # its own 320 takes ten times as long
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)
    detector: nn.Module = network.eval()
    return detector


CASES = (
    Case("torchvision classifier", lambda: tv.squeezenet1_1().eval(), imagenet),
    Case(
        "torchvision segmentation",
        lambda: tv.segmentation.lraspp_mobilenet_v3_large(
            weights=None, weights_backbone=None, num_classes=4
        ).eval(),
        imagenet,
    ),
    Case(
        "torchvision detector",
        torchvision_detector,
        lambda image: image,
        sizes=((70, 90), (64, 48)),
        as_list=True,
    ),
    Case("timm, ImageNet", lambda: timm.create_model("test_efficientnet").eval(), imagenet),
    Case("timm, 0.5", lambda: timm.create_model("test_resnet").eval(), half),
    Case("home-made", lambda: HomeMade().eval(), half, pixels=PixelSpec((0.5,) * 3, (0.5,) * 3)),
    Case("Caffe pixels", lambda: HomeMade().eval(), caffe, pixels=CAFFE),
    Case("function", lambda: channel_means, imagenet, pixels=tv.ResNet50_Weights.DEFAULT),
)
