"""One row a kind of model that the plug can stand in front of; test_contract asks each for all."""

import contextlib
import copy
import io
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import timm
import torch
import torchreid
import torchvision.models as tv
import transformers
import ultralytics
from torch import Tensor, nn
from torchvision.transforms.functional import normalize, to_pil_image

from vrdir_plug.pixels import PixelSpec

Encoding = Callable[[Tensor], Any]


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
        calls: the model calls its network itself, without gradients.
        numbers: tensors out of what the model returns.
    """

    name: str
    build: Callable[[], Callable[..., Any]]
    encode: Encoding
    sizes: tuple[tuple[int, int], ...] = ((64, 64), (64, 64))
    as_list: bool = False
    pixels: object = None
    calls: bool = False
    numbers: Callable[[Any], Any] = lambda result: result

    def model(self) -> Callable[..., Any]:
        """A new one, always with the same weights."""
        return copy.deepcopy(built(self))

    def clean(self) -> list[Tensor]:
        """RGB images in [0, 1] of coloured tiles, odd numbers of 8 bits: halfway to white too."""
        seed = torch.Generator().manual_seed(0)
        draws = [torch.rand(1, 3, 8, 8, generator=seed) for _ in self.sizes]
        tiles = [(2 * (127 * draw).round() + 1) / 255 for draw in draws]
        return [
            nn.functional.interpolate(tile, size)[0]
            for tile, size in zip(tiles, self.sizes, strict=True)
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


def livened(network: nn.Module) -> None:
    """Initial weights are often so small that every image has the same result."""
    for parameter in network.parameters():
        if parameter.ndim > 1:
            nn.init.kaiming_normal_(parameter)


def torchvision_detector() -> nn.Module:
    """Its initial weights are so small that every image has the same boxes."""
    network: Any = tv.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None, num_classes=4, score_thresh=0.0, detections_per_img=20
    )
    network.transform.fixed_size = (96, 96)  # its own 320 takes ten times as long
    livened(network)
    detector: nn.Module = network.eval()
    return detector


def yolo() -> Any:
    model = ultralytics.YOLO("yolo11n-cls.yaml")
    model.overrides.update(imgsz=64, verbose=False)
    livened(model.model.eval())
    return model


def probabilities(results: Any) -> list[Tensor]:
    return [result.probs.data for result in results]


def osnet() -> nn.Module:
    network: nn.Module = torchreid.models.build_model("osnet_x0_25", 4, pretrained=False)
    return network.eval()


def feature_extractor() -> Any:
    """It would download weights unless it is given a file of them."""
    with tempfile.TemporaryDirectory() as folder:
        weights = str(Path(folder) / "osnet.pth")
        torch.save(osnet().state_dict(), weights)
        with contextlib.redirect_stdout(io.StringIO()):
            return torchreid.utils.FeatureExtractor(
                "osnet_x0_25", weights, device="cpu", verbose=False
            )


def hugging_face_model() -> nn.Module:
    config = transformers.ViTConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64,
        image_size=64, patch_size=16, num_labels=5, initializer_range=0.5,
    )  # fmt: skip
    network: nn.Module = transformers.ViTForImageClassification(config)
    return network.eval()


def image_processor() -> Any:
    return transformers.ViTImageProcessor(size={"height": 64, "width": 64})


def hugging_face_pipeline() -> Any:
    return transformers.pipeline(
        "image-classification", model=hugging_face_model(), image_processor=image_processor()
    )


def photograph(image: Tensor) -> Any:
    return to_pil_image((255 * image).round().byte())


def scores(results: Any) -> list[Tensor]:
    return [
        torch.tensor([label["score"] for label in sorted(result, key=lambda label: label["label"])])
        for result in results
    ]


class Dicts(HomeMade):
    """Detectron2's way: a list of dicts, normalised inside."""

    input_format: str | None = "BGR"
    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("pixel_mean", torch.tensor([103.53, 116.28, 123.675])[:, None, None])
        self.register_buffer("pixel_std", torch.tensor([57.375, 57.12, 58.395])[:, None, None])

    def forward(self, batched_inputs: list[dict[str, Tensor]]) -> list[Tensor]:  # type: ignore[override]
        images = [(entry["image"] - self.pixel_mean) / self.pixel_std for entry in batched_inputs]
        return [super(Dicts, self).forward(image[None])[0] for image in images]


class Preprocessor(nn.Module):
    """OpenMMLab's: BGR in 0..255 -> RGB with mean and std."""

    def __init__(self) -> None:
        super().__init__()
        self._channel_conversion = True
        self.register_buffer("mean", torch.tensor([123.675, 116.28, 103.53])[:, None, None], False)
        self.register_buffer("std", torch.tensor([58.395, 57.12, 57.375])[:, None, None], False)


class Preprocessed(nn.Module):
    """OpenMMLab's way: what goes in has been through the preprocessor."""

    def __init__(self) -> None:
        super().__init__()
        self.data_preprocessor = Preprocessor()
        self.network = HomeMade()

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = "tensor") -> Tensor:
        return self.network(inputs)


def bgr255(image: Tensor) -> dict[str, Tensor]:
    return {"image": image.flip(0) * 255}


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
    Case("torchreid network", osnet, imagenet),
    Case("torchreid extractor", feature_extractor, imagenet, calls=True),
    Case("ultralytics", yolo, lambda image: image, calls=True, numbers=probabilities),
    Case("Hugging Face model", hugging_face_model, half, pixels=image_processor()),
    Case(
        "Hugging Face pipeline",
        hugging_face_pipeline,
        photograph,
        as_list=True,
        calls=True,
        numbers=scores,
    ),
    Case("Detectron2 style", lambda: Dicts().eval(), bgr255, as_list=True),
    Case("OpenMMLab style", lambda: Preprocessed().eval(), imagenet),
    Case("function", lambda: channel_means, imagenet, pixels=tv.ResNet50_Weights.DEFAULT),
)
