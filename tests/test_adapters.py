"""What is found out about a model by looking at it."""

import functools
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision.models as tv
from cases import CAFFE, Dicts, HomeMade, Preprocessed, imagenet
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves
from torchvision.models.feature_extraction import create_feature_extractor

from vrdir_plug.adapters import ADAPTERS, find_input, first_argument
from vrdir_plug.pixels import IMAGENET, UNIT, PixelSpec, UnknownPixels
from vrdir_plug.wrap import RestoreThen

HALF = PixelSpec((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))


def on_meta(build: Callable[..., nn.Module], *args: Any, **kwargs: Any) -> nn.Module:
    """A model without numbers: quick, and proof that finding out does not run it."""
    with torch.device("meta"):
        return build(*args, **kwargs)


def torchvision_classifiers() -> list[str]:
    """RegNets compute their sizes with tensors, so not on meta; one is built below."""
    return [name for name in tv.list_models(tv) if "regnet" not in name]


@pytest.mark.parametrize("name", torchvision_classifiers())
def test_torchvision_classifiers_are_known_as_their_weights_are_published(name: str) -> None:
    # the exception the adapter names: weights without a classifier
    published = [w for w in tv.get_model_weights(name) if w.name != "IMAGENET1K_FEATURES"]
    # these two warn that their default initialisation is slow
    more = {"init_weights": False} if name in ("googlenet", "inception_v3") else {}
    found = find_input(on_meta(tv.get_model, name, weights=None, **more))
    assert {found.pixels} == {PixelSpec.of(weights) for weights in published}
    assert "assumed" in found.source and "torchvision" in found.source


class Mine(tv.ResNet):  # type: ignore[misc]
    pass


@pytest.mark.parametrize(
    "build",
    [
        tv.regnet_y_400mf,
        functools.partial(tv.quantization.resnet18, quantize=False),
        functools.partial(tv.segmentation.fcn_resnet50, weights_backbone=None),
        functools.partial(Mine, tv.resnet.BasicBlock, [1, 1, 1, 1]),
    ],
    ids=["regnet", "quantizable", "segmentation", "subclass"],
)
def test_other_torchvision_networks_are_known_too(build: Callable[..., nn.Module]) -> None:
    assert find_input(build()).pixels == IMAGENET


@pytest.mark.parametrize("name", tv.list_models(tv.detection))
def test_torchvision_detectors_normalise_inside(name: str) -> None:
    found = find_input(on_meta(tv.get_model, name, weights=None, weights_backbone=None))
    assert (found.argument, found.pixels) == ("images", UNIT)


@pytest.mark.parametrize(
    "build", [tv.video.r3d_18, tv.video.s3d, tv.optical_flow.raft_small], ids=["r3d", "s3d", "raft"]
)
@pytest.mark.parametrize("pixels", [None, IMAGENET])
def test_models_of_several_frames_are_refused(
    build: Callable[..., nn.Module], pixels: PixelSpec | None
) -> None:
    with pytest.raises(TypeError, match="several frames at a time"):
        find_input(on_meta(build), pixels)


@pytest.mark.parametrize(
    ("name", "pixels"), [("test_efficientnet", IMAGENET), ("test_resnet", HALF), ("test_vit", HALF)]
)
def test_timm_models_carry_their_config(name: str, pixels: PixelSpec) -> None:
    found = find_input(on_meta(timm.create_model, name))
    assert (found.argument, found.pixels) == ("x", pixels)
    assert (found.source, found.size) == ("its pretrained_cfg", (160, 160))


class Unfilled(TorchFunctionMode):
    """No arithmetic in place: most of the time that building takes on meta goes into filling
    weights that are not there."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        more = kwargs or {}
        name = getattr(func, "__name__", "")
        if name.endswith("_") and not name.endswith("__"):
            return next(iter((*args, *more.values())))
        return func(*args, **more)


def timm_architectures() -> list[str]:
    """At random, but the same each time."""
    return sorted(random.Random(0).sample(timm.list_models(), 200))


@pytest.mark.parametrize("name", timm_architectures())
def test_timm_architectures_are_known_as_they_are_published(name: str) -> None:
    with Unfilled():
        model = on_meta(timm.create_model, name)
    found, config = find_input(model), timm.get_pretrained_cfg(name)
    assert (found.pixels.mean, found.pixels.std) == (config.mean, config.std)
    assert (found.pixels.peak, found.pixels.order) == (1, "RGB")
    assert found.size == config.input_size[1:]
    assert found.argument in ("x", "input")


def test_every_config_of_timm_is_understood() -> None:
    model, names = HomeMade(), timm.list_models()
    assert len(names) > 1000
    for name in names:
        config = timm.get_pretrained_cfg(name)
        channels = config.input_size[0]
        model.pretrained_cfg, model.in_chans = config.to_dict(), channels
        if channels == 3:
            found = find_input(model)
            assert (found.pixels.mean, found.pixels.std) == (config.mean, config.std)
        else:
            with pytest.raises(ValueError, match=f"{channels} channels"):
                find_input(model)


# one of each of timm's ways to features, and both encodings
FEATURES = [
    ("test_resnet", "list", HALF),
    ("test_resnet", "dict", HALF),
    ("test_resnet", "hook", HALF),
    ("test_vit", "getter", HALF),
    ("test_efficientnet", "getter", IMAGENET),
]


@pytest.mark.parametrize(("name", "kind", "pixels"), FEATURES)
@torch.no_grad()
def test_timm_backbones_are_restored_too(name: str, kind: str, pixels: PixelSpec) -> None:
    backbone = timm.create_model(name, features_only=True, feature_cls=kind).eval()
    assert find_input(backbone).pixels == pixels
    images = torch.rand(1, 3, 160, 160)
    features = RestoreThen(backbone, lambda images: 1 - images)(pixels.encode(images))
    expected = backbone(pixels.encode(1 - images))
    assert type(features) is type(expected) and len(expected) > 1
    for feature, wanted in zip(tree_leaves(features), tree_leaves(expected), strict=True):
        torch.testing.assert_close(feature, wanted, rtol=1e-3, atol=1e-4)


@torch.no_grad()
def test_timm_models_of_one_size_are_restored_at_that_size() -> None:
    """And say by themselves what they think of others."""
    model = timm.create_model("vit_tiny_patch16_224", depth=1, img_size=32).eval()
    pair = RestoreThen(model, lambda images: 1 - images)
    images = torch.rand(1, 3, 32, 32)
    torch.testing.assert_close(
        pair(HALF.encode(images)), model(HALF.encode(1 - images)), rtol=1e-3, atol=1e-4
    )
    with pytest.raises(AssertionError, match="doesn't match model"):
        pair(HALF.encode(torch.rand(1, 3, 48, 48)))


@pytest.mark.parametrize("more", [{}, {"features_only": True}], ids=["whole", "features"])
@pytest.mark.parametrize("name", ["test_resnet", "test_vit"])
def test_timm_models_of_other_channels_are_refused(name: str, more: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="takes images with 1 channels, the restorer with 3"):
        find_input(on_meta(timm.create_model, name, in_chans=1, **more), IMAGENET)


@pytest.mark.parametrize("name", ["forward_features", "forward_head", "get_classifier"])
def test_timm_roads_around_the_restorer_are_closed(name: str) -> None:
    pair = RestoreThen(on_meta(timm.create_model, "test_resnet"), lambda images: images)
    with pytest.raises(AttributeError, match=rf"without the restorer.*pair\.model\.{name}"):
        getattr(pair, name)


@pytest.mark.parametrize(
    "model",
    [
        HomeMade(),
        nn.Sequential(tv.squeezenet1_1()),
        create_feature_extractor(tv.squeezenet1_1(), ["features.1"]),
        abs,
    ],
    ids=["network", "container", "feature extractor", "function"],
)
def test_a_normalisation_is_never_guessed(model: Any) -> None:
    name = getattr(model, "__name__", type(model).__name__)
    with pytest.raises(UnknownPixels, match=f"cannot tell how {name} expects its pixels"):
        find_input(model)
    found = find_input(model, CAFFE)
    assert (found.pixels, found.source) == (CAFFE, "given")


def test_what_the_user_says_wins() -> None:
    model = on_meta(timm.create_model, "test_resnet")
    found = find_input(model, tv.ResNet50_Weights.DEFAULT)
    assert (found.argument, found.pixels, found.source) == ("x", IMAGENET, "given")
    assert found.size == (224, 224)
    detector = on_meta(tv.detection.ssdlite320_mobilenet_v3_large, weights_backbone=None)
    assert find_input(detector, CAFFE).argument == "images"


@pytest.mark.parametrize("order", ["RGB", "BGR"])
def test_detectron2_networks_name_the_order_of_their_channels(order: str) -> None:
    model = Dicts()
    model.input_format = order
    found = find_input(model)
    assert (found.argument, found.key) == ("batched_inputs", "image")
    assert found.pixels == PixelSpec(peak=255, order=order)
    model.input_format = None
    with pytest.raises(UnknownPixels):
        find_input(model)
    assert find_input(model, CAFFE).key == "image"


@pytest.mark.parametrize("name", ["_channel_conversion", "to_rgb"])
def test_openmmlab_preprocessors_say_what_they_do(name: str) -> None:
    model = Preprocessed()
    del model.data_preprocessor._channel_conversion
    bgr = find_input(model).pixels
    assert (bgr.order, bgr.peak) == ("BGR", 255)
    setattr(model.data_preprocessor, name, True)
    found = find_input(model)
    assert found.pixels.order == "RGB" and found.argument == "inputs"
    assert found.pixels.mean == pytest.approx((123.675, 116.28, 103.53))
    assert found.pixels.std == pytest.approx((58.395, 57.12, 57.375))
    assert "assumed: images are loaded as BGR" in found.source


class Modes(Preprocessed):
    """OpenMMLab's three ways through forward, and one that preprocesses by itself."""

    def forward(self, inputs: Tensor, data_samples: object = None, mode: str = "tensor") -> Any:
        logits = self.network(inputs)
        ways = {"tensor": logits, "predict": logits.argmax(1), "loss": {"loss": logits.sum()}}
        return ways[mode]

    def test_step(self, data: Tensor) -> Any:
        return self(data, mode="predict")

    val_step = train_step = test_step


@pytest.mark.parametrize("mode", ["tensor", "predict", "loss"])
def test_openmmlab_models_are_restored_in_every_mode(mode: str) -> None:
    model, images = Modes().eval(), torch.rand(2, 3, 16, 16)
    result = RestoreThen(model, lambda images: 1 - images)(imagenet(images), mode=mode)
    expected, before = (model(imagenet(x), mode=mode) for x in (1 - images, images))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert mode == "predict" or str(before) != str(expected)


@pytest.mark.parametrize("step", ["test_step", "val_step", "train_step", "predict", "loss"])
def test_openmmlab_steps_are_refused_since_they_would_skip_the_restorer(step: str) -> None:
    model: Any = Modes().eval()
    model.predict = model.loss = model.forward
    pair = RestoreThen(model, lambda images: images)
    with pytest.raises(AttributeError, match=rf"without the restorer.*pair\.model\.{step}"):
        getattr(pair, step)


class DefaultPredictor:
    """Detectron2's: an array (H, W, 3) in BGR -> the output of its model."""

    def __init__(self, model: nn.Module):
        self.model = model
        self.input_format = "BGR"

    def __call__(self, original_image: Any) -> Tensor:
        image = torch.as_tensor(original_image.astype("float32").transpose(2, 0, 1))
        return self.model([{"image": image}])[0]


def test_a_detectron2_predictor_calls_its_model() -> None:
    predictor = DefaultPredictor(Dicts().eval())
    picture = np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8)
    pair = RestoreThen(predictor, lambda images: 1 - images)
    torch.testing.assert_close(pair(picture), predictor(255 - picture), rtol=1e-4, atol=1e-4)
    assert (pair.input.source, pair.input.network) == ("its input_format", "model")


def compiled(model: nn.Module) -> Any:
    # the default backend comes with deprecation warnings of torch's own
    return torch.compile(model, backend="eager")


@pytest.mark.parametrize(
    "wrapper", [compiled, nn.DataParallel, lambda model: nn.DataParallel(compiled(model))]
)
def test_wrappers_of_torch_are_looked_through(wrapper: Callable[[nn.Module], nn.Module]) -> None:
    model = on_meta(tv.squeezenet1_1)
    assert find_input(wrapper(model)) == find_input(model)


def positional_only(x: Tensor, /) -> Tensor:
    return x


@pytest.mark.parametrize(
    ("model", "name"),
    [
        (HomeMade(), "picture"),
        (lambda images: images, "images"),
        (lambda *, images: images, "images"),
        (lambda *images: images, None),
        (lambda: None, None),
        (positional_only, None),
        (functools.partial(torch.nn.functional.interpolate, scale_factor=2), "input"),
        (torch.relu, None),
    ],
)
def test_the_name_of_the_first_argument(model: Any, name: str | None) -> None:
    assert first_argument(model) == name


@pytest.mark.parametrize("adapter", ADAPTERS)
@pytest.mark.parametrize("model", [HomeMade(), abs, lambda x: x, object()])
def test_adapters_pass_on_what_they_do_not_know(adapter: Callable[..., Any], model: object) -> None:
    assert adapter(model) is None


def test_what_the_user_says_wins_even_over_a_config_that_cannot_be_read() -> None:
    model = timm.create_model("test_resnet")
    model.pretrained_cfg = {**model.pretrained_cfg, "mean": (123.7, 116.3, 103.5)}
    with pytest.raises(ValueError, match="peak=255"):
        find_input(model)
    said = PixelSpec((123.7, 116.3, 103.5), (58.4, 57.1, 57.4), peak=255)
    assert find_input(model, said).pixels == said
