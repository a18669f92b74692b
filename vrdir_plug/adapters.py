"""Which model takes its images where and how: one function a kind of model, none of them imported.

A row looks at the model's classes and attributes, and never calls or changes it. To add a kind of
model, write one function `model -> ImageInput | None` and put it into ADAPTERS.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from .inputs import ImageInput
from .pixels import IMAGENET, UNIT, PixelSpec, UnknownPixels, of_timm

REMEDY = """cannot tell how {name} expects its pixels.
  Pass one of
    RestoreThen(model, pixels=IMAGENET)               # a PixelSpec
    RestoreThen(model, pixels=weights.transforms())   # torchvision transforms
    RestoreThen(model, pixels=processor)              # a Hugging Face image processor"""


def find_input(model: Any, pixels: object = None) -> ImageInput:
    """Where images enter a model, and how they are encoded there.

    Args:
        model: a recogniser: an nn.Module or any callable.
        pixels: what `PixelSpec.of` reads; it wins over everything the model tells.

    Raises:
        UnknownPixels: the model does not tell, and `pixels` is None.
        TypeError, ValueError: the model does not take colour images, or `pixels` does not tell
            their encoding.
    """
    model = unwrapped(model)
    refuse_other_images(model)
    if pixels is not None:
        spec = PixelSpec.of(pixels)
        return ImageInput(first_argument(model), spec, "given", published_size(pixels))
    found = next(filter(None, (adapter(model) for adapter in ADAPTERS)), None)
    if found is None:
        raise UnknownPixels(REMEDY.format(name=name_of(model)))
    return found


def refuse_other_images(model: Any) -> None:
    """What takes no single colour images cannot be served, whatever the encoding."""
    if torchvision_package(type(model)) in ("video", "optical_flow"):
        raise TypeError(f"{name_of(model)} takes several frames at a time, not single images")
    channels = getattr(model, "in_chans", 3)
    if isinstance(channels, int) and channels != 3:
        raise ValueError(
            f"{name_of(model)} takes images with {channels} channels, the restorer with 3"
        )


ASSUMED = "assumed: the convention of torchvision.models"


def torchvision_detector(model: Any) -> ImageInput | None:
    """It normalises and resizes inside, so it takes [0, 1]: a list of (3, H, W)."""
    if not is_a("GeneralizedRCNNTransform", getattr(model, "transform", None)):
        return None
    return ImageInput(first_argument(model), UNIT, "its transform normalises inside")


def timm_model(model: Any) -> ImageInput | None:
    """It carries the config of its weights; more than a third of them are not ImageNet's."""
    config = getattr(model, "pretrained_cfg", None)
    pixels = of_timm(config)
    if pixels is None:
        return None
    return ImageInput(first_argument(model), pixels, "its pretrained_cfg", published_size(config))


def torchvision_network(model: Any) -> ImageInput | None:
    """A bare network says nothing, but its class does: all are published with ImageNet statistics.

    Two sets of weights are not. EfficientNet V2 L is told apart by its architecture. VGG16's
    IMAGENET1K_FEATURES cannot be, and needs none: it has no classifier, so its output is NaN.
    """
    package = torchvision_package(type(model))
    if package in (None, "_utils", "detection", "feature_extraction"):  # parts, of any network
        return None
    half = PixelSpec(mean=(0.5, 0.5, 0.5), std=(0.5, 0.5, 0.5))
    pixels = half if is_efficientnet_v2_l(model) else IMAGENET
    return ImageInput(first_argument(model), pixels, ASSUMED)


# The first that knows the model speaks for it.
ADAPTERS: tuple[Callable[[Any], ImageInput | None], ...] = (
    torchvision_detector,
    timm_model,
    torchvision_network,
)


def torchvision_package(kind: type) -> str | None:
    """torchvision.models.<this>, of a class or the class it comes from."""
    for base in kind.__mro__:
        if base.__module__.startswith("torchvision.models."):
            return base.__module__.split(".")[2]
    return None


def is_efficientnet_v2_l(model: Any) -> bool:
    if not is_a("EfficientNet", model):
        return False
    last = model.features[-1][0]  # V2 L alone has 640 -> 1280
    return (last.in_channels, last.out_channels) == (640, 1280)


def is_a(name: str, model: object) -> bool:
    """isinstance by the name of the class, which need not be imported."""
    return any(base.__name__ == name for base in type(model).__mro__)


def published_size(source: object) -> tuple[int, int] | None:
    """Height and width, of a timm config or torchvision's weights or transforms; None of others."""
    if isinstance(source, Mapping):
        size = (source.get("input_size") or ())[-2:]
    else:
        weights = getattr(source, "transforms", None)
        size = getattr(weights() if callable(weights) else source, "crop_size", ())
    return (size[0], size[-1]) if isinstance(size, (list, tuple)) and size else None


def unwrapped(model: Any) -> Any:
    """The network inside torch.compile, DataParallel and DistributedDataParallel."""
    if is_a("OptimizedModule", model):
        return unwrapped(model._orig_mod)
    if type(model).__module__.startswith("torch.nn.parallel."):
        return unwrapped(model.module)
    return model


def first_argument(model: Any) -> str | None:
    """The name of the first argument; None where there is none (`*args`, compiled code)."""
    try:
        parameters = inspect.signature(getattr(model, "forward", model)).parameters.values()
    except (TypeError, ValueError):
        return None
    first = next(iter(parameters), None)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return first.name if first and first.kind in named else None


def name_of(model: Any) -> str:
    """The class of a network, the name of a function."""
    return str(getattr(model, "__name__", type(model).__name__))
