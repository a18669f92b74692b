"""Which model takes its images where and how: one function a kind of model, none of them imported.

A row looks at the model's classes and attributes, and never calls or changes it. To add a kind of
model, write one function `model -> ImageInput | None` and put it into ADAPTERS.
"""

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from torch import Tensor, nn

from .inputs import ImageInput
from .pixels import IMAGENET, UNIT, PixelSpec, UnknownPixels, of_compose, of_timm

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
    refuse_other_roads(model)
    if pixels is not None:
        spec = PixelSpec.of(pixels)
        return image_input(model, spec, "given", published_size(pixels))
    found = next(filter(None, (adapter(model) for adapter in ADAPTERS)), None)
    if found is None:
        raise UnknownPixels(REMEDY.format(name=name_of(model)))
    return found


def asked(model: Any) -> list[str]:
    """The kinds that are asked about a model's pixels, in order; the last one knew."""
    names = []
    for adapter in ADAPTERS:
        names.append(adapter.__name__.replace("_", " "))
        if adapter(unwrapped(model)):
            break
    return names


def refuse_other_images(model: Any) -> None:
    """What takes no single colour images cannot be served, whatever the encoding."""
    if torchvision_package(type(model)) in ("video", "optical_flow"):
        raise TypeError(f"{name_of(model)} takes several frames at a time, not single images")
    channels = channels_of(model)
    if isinstance(channels, int) and channels != 3:
        raise ValueError(
            f"{name_of(model)} takes images with {channels} channels, the restorer with 3"
        )


def channels_of(model: Any) -> object:
    """What ultralytics, timm and Hugging Face say of themselves; 3 of all others."""
    if is_ultralytics(model):
        return getattr(model.model, "yaml", {}).get("channels", 3)
    config = getattr(model, "config", None)
    return getattr(model, "in_chans", getattr(config, "num_channels", 3))


def refuse_other_roads(model: Any) -> None:
    """Of ultralytics' classes some reach their network on roads that are not watched."""
    if is_ultralytics(model) and not any(is_a(name, model) for name in YOLOS):
        raise TypeError(
            f"ultralytics' {name_of(model)} is prompted in ways that cannot be restored; "
            f"{' and '.join(YOLOS)} can. Restore its images first: restorer(images)"
        )
    if is_hugging_face_pipeline(model) and getattr(model, "image_processor", None) is None:
        raise TypeError(f"{name_of(model)} has no image_processor, so it takes no images")


# --- where images enter ------------------------------------------------------------------------


def image_input(
    model: Any, pixels: PixelSpec, source: str, size: tuple[int, int] | None = None
) -> ImageInput:
    """How images come into a model, whatever is known about their pixels."""
    if calls_its_network(model):
        argument = first_argument(model.__call__)
        roads = next((roads for known, roads in ROADS if known(model)), ())
        return ImageInput(argument, pixels, source, size, network="model", roads=roads)
    if takes_dicts(model):
        return ImageInput(first_argument(model), pixels, source, size, key="image")
    return ImageInput(image_argument(model), pixels, source, size)


def is_ultralytics(model: Any) -> bool:
    kinds = type(model).__mro__
    return any(
        (kind.__module__, kind.__name__) == ("ultralytics.engine.model", "Model") for kind in kinds
    )


def is_hugging_face_pipeline(model: Any) -> bool:
    return any(base.__module__ == "transformers.pipelines.base" for base in type(model).__mro__)


def is_extractor(model: Any) -> bool:
    """torchreid's FeatureExtractor, Detectron2's DefaultPredictor."""
    known = is_a("FeatureExtractor", model) or is_a("DefaultPredictor", model)
    return known and isinstance(getattr(model, "model", None), nn.Module)


# Objects that call their `model` themselves, and what of them may be called through the pair.
# Those that the double of a YOLO refuses tell the reason.
YOLOS = ("YOLO", "RTDETR")
YOLO_ROADS = ("predict", "track", "val", "embed", "fuse", "info", "predictor")
YOLO_REFUSES = ("train", "tune", "export", "benchmark")
ROADS: tuple[tuple[Callable[[Any], bool], tuple[str, ...]], ...] = (
    (is_ultralytics, YOLO_ROADS + YOLO_REFUSES),
    (is_hugging_face_pipeline, ("predict", "transform")),
    (is_extractor, ()),
)


def calls_its_network(model: Any) -> bool:
    return any(known(model) for known, _ in ROADS)


def takes_dicts(model: Any) -> bool:
    """Detectron2's networks and Segment Anything: a list of dicts, normalised inside."""
    return all(
        isinstance(getattr(model, name, None), Tensor) for name in ("pixel_mean", "pixel_std")
    )


def image_argument(model: Any) -> str | None:
    """Of Hugging Face's models images are not always the first argument."""
    name = "pixel_values"
    return name if name in parameters_of(model) else first_argument(model)


# --- how their pixels are encoded ---------------------------------------------------------------

ASSUMED = "assumed: the convention of torchvision.models"


def torchvision_detector(model: Any) -> ImageInput | None:
    """It normalises and resizes inside, so it takes [0, 1]: a list of (3, H, W)."""
    if not is_a("GeneralizedRCNNTransform", getattr(model, "transform", None)):
        return None
    return image_input(model, UNIT, "its transform normalises inside")


def timm_model(model: Any) -> ImageInput | None:
    """It carries the config of its weights; more than a third of them are not ImageNet's."""
    config = getattr(model, "pretrained_cfg", None)
    pixels = of_timm(config)
    if pixels is None:
        return None
    return image_input(model, pixels, "its pretrained_cfg", published_size(config))


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
    return image_input(model, pixels, ASSUMED)


def ultralytics_model(model: Any) -> ImageInput | None:
    """It loads, resizes and scales to [0, 1] by itself; a classifier may normalise too."""
    if not is_ultralytics(model):
        return None
    if model.task == "classify":
        pixels = of_compose(getattr(model.model, "transforms", None)) or UNIT
        return image_input(model, pixels, "its network's transforms, or else [0, 1]")
    return image_input(model, UNIT, "ultralytics scales to [0, 1]")


def torchreid_extractor(model: Any) -> ImageInput | None:
    """It normalises files and arrays; tensors have to come normalised."""
    if not is_extractor(model) or not hasattr(model, "preprocess"):
        return None
    return image_input(model, of_compose(model.preprocess) or UNIT, "its preprocess")


def torchreid_network(model: Any) -> ImageInput | None:
    """A bare network says nothing, but torchreid normalises all alike unless it is told not to."""
    if not any(base.__module__.startswith("torchreid.") for base in type(model).__mro__):
        return None
    return image_input(model, IMAGENET, "assumed: the convention of torchreid")


def hugging_face_pipeline(model: Any) -> ImageInput | None:
    if not is_hugging_face_pipeline(model):
        return None
    return image_input(model, PixelSpec.of(model.image_processor), "its image_processor")


def detectron2_predictor(model: Any) -> ImageInput | None:
    """It takes BGR and hands its network, in a list of dicts, what its input_format says."""
    order = getattr(model, "input_format", None)
    if not is_extractor(model) or order not in ("RGB", "BGR"):
        return None
    return image_input(model, PixelSpec(peak=255, order=order), "its input_format")


def normalising_inside(model: Any) -> ImageInput | None:
    """Detectron2 and Segment Anything: [0, 255] in the order that the model names."""
    if not takes_dicts(model):
        return None
    order = getattr(model, "input_format", None) or getattr(model, "image_format", None)
    if order not in ("RGB", "BGR"):
        return None
    return image_input(model, PixelSpec(peak=255, order=order), "its pixel_mean and input_format")


def openmmlab_model(model: Any) -> ImageInput | None:
    """Its forward takes what its data_preprocessor makes: mean and std of [0, 255].

    The preprocessor knows whether it turns channels round, not from which order: OpenMMLab's
    loaders make BGR unless they are told not to.
    """
    preprocessor = getattr(model, "data_preprocessor", None)
    mean, std = getattr(preprocessor, "mean", None), getattr(preprocessor, "std", None)
    if not isinstance(mean, Tensor) or not isinstance(std, Tensor):
        return None
    turns = any(getattr(preprocessor, name, False) for name in ("to_rgb", "_channel_conversion"))
    pixels = PixelSpec(numbers(mean), numbers(std), peak=255, order="RGB" if turns else "BGR")
    return image_input(model, pixels, "its data_preprocessor, assumed: images are loaded as BGR")


def numbers(values: Tensor) -> Any:
    return tuple(values.flatten().tolist())


# The first that knows the model speaks for it.
ADAPTERS: tuple[Callable[[Any], ImageInput | None], ...] = (
    ultralytics_model,
    hugging_face_pipeline,
    torchreid_extractor,
    detectron2_predictor,
    torchvision_detector,
    normalising_inside,
    openmmlab_model,
    timm_model,
    torchreid_network,
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


def parameters_of(model: Any) -> Mapping[str, inspect.Parameter]:
    """What a model takes, by name; nothing where it does not tell."""
    try:
        return inspect.signature(getattr(model, "forward", model)).parameters
    except (TypeError, ValueError):
        return {}


def first_argument(model: Any) -> str | None:
    """The name of the first argument; None where there is none (`*args`, compiled code)."""
    first = next(iter(parameters_of(model).values()), None)
    named = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    return first.name if first and first.kind in named else None


def name_of(model: Any) -> str:
    """The class of a network, the name of a function."""
    return str(getattr(model, "__name__", type(model).__name__))
