"""Encodings: the arithmetic against torchvision's, what they are read off, and the range check."""

import math
import warnings
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import timm
import torch
import torchvision.models as tv
from cases import CAFFE, caffe, half, imagenet
from hypothesis import given
from hypothesis import strategies as st
from skimage import data
from torch import Tensor, nn
from torchvision.transforms import Compose, Normalize, Resize, ToTensor
from torchvision.transforms.functional import normalize, resize, to_tensor

from vrdir_plug.pixels import IMAGENET, UNIT, PixelRangeWarning, PixelSpec

HALF = PixelSpec((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
CLIP = PixelSpec((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
MEAN, STD = (0.1, 0.2, 0.3), (0.4, 0.5, 0.6)


def noise(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


# --- arithmetic --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "oracle"),
    [
        (UNIT, lambda image: image),
        (IMAGENET, imagenet),
        (HALF, half),
        (CAFFE, caffe),
        (PixelSpec(order="BGR"), lambda image: image.flip(0)),
        (PixelSpec(peak=255), lambda image: image * 255),
        (PixelSpec(MEAN, STD, order="BGR"), lambda image: normalize(image.flip(0), MEAN, STD)),
    ],
    ids=str,
)
def test_encode_and_decode_agree_with_torchvision(spec: PixelSpec, oracle: Any) -> None:
    rgb = noise(2, 3, 5, 7)
    encoded = torch.stack([oracle(image) for image in rgb])
    torch.testing.assert_close(spec.encode(rgb), encoded)
    torch.testing.assert_close(spec.decode(encoded), rgb)


values = st.floats(0, 1)
deviations = st.floats(0.01, 2)


@given(
    st.tuples(values, values, values),
    st.tuples(deviations, deviations, deviations),
    st.sampled_from([1.0, 255.0]),
    st.sampled_from(["RGB", "BGR"]),
)
def test_there_and_back_is_where_it_was(mean: Any, std: Any, peak: float, order: str) -> None:
    spec = PixelSpec(mean, std, peak, order)
    rgb = noise(1, 3, 4, 4)
    torch.testing.assert_close(spec.decode(spec.encode(rgb)), rgb, rtol=0, atol=1e-5)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_through_gives_float32_and_keeps_the_dtype(dtype: torch.dtype) -> None:
    seen = []

    def restorer(rgb: Tensor) -> Tensor:
        seen.append(rgb.dtype)
        return rgb.half()

    images = IMAGENET.encode(noise(2, 3, 4, 4)).to(dtype)
    restored = IMAGENET.through(images, restorer)
    assert seen == [torch.float32]
    assert restored.dtype == dtype
    torch.testing.assert_close(restored, images, rtol=0, atol=0.02)


def test_through_bfloat16_changes_no_pixel() -> None:
    images = IMAGENET.encode(noise(2, 3, 32, 32)).bfloat16()
    assert torch.equal(IMAGENET.through(images, lambda rgb: rgb), images)


def test_gradients_go_through() -> None:
    images = CAFFE.encode(noise(1, 3, 4, 4)).requires_grad_()
    restored = CAFFE.through(images, lambda rgb: rgb)
    (gradient,) = torch.autograd.grad(restored.sum(), images)
    torch.testing.assert_close(gradient, torch.ones_like(images))


# --- the words ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "text"),
    [
        ({"std": (1, 0, 1)}, "std must be positive"),
        ({"std": (1, -1, 1)}, "std must be positive"),
        ({"std": (1, math.nan, 1)}, "std must be finite"),
        ({"mean": (0, math.inf, 0)}, "mean must be finite"),
        ({"mean": (0.5,)}, "3 values, came 1: the restorer works on colour images"),
        ({"peak": 0}, "peak must be positive"),
        ({"peak": math.nan}, "peak must be positive"),
        ({"order": "rgb"}, "'RGB' or 'BGR', came 'rgb'"),
    ],
)
def test_impossible_encodings_are_refused(wrong: dict[str, Any], text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PixelSpec(**wrong)


@pytest.mark.parametrize("spec", [UNIT, IMAGENET, CAFFE])
def test_repr_is_python_and_str_is_prose(spec: PixelSpec) -> None:
    assert eval(repr(spec)) == spec
    assert str(UNIT) == "RGB [0, 1]"
    assert str(IMAGENET) == "RGB, ImageNet mean/std"
    assert str(CAFFE).startswith("BGR [0, 255], mean (103.939,")


# --- what they are read off --------------------------------------------------------------------


def processor(**changes: Any) -> SimpleNamespace:
    """Hugging Face's, by its attributes."""
    standard = {
        "image_mean": list(MEAN),
        "image_std": list(STD),
        "do_normalize": True,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
    }
    return SimpleNamespace(**standard | changes)


@pytest.mark.parametrize(
    ("source", "spec"),
    [
        (CAFFE, CAFFE),
        ({"mean": MEAN, "std": STD}, PixelSpec(MEAN, STD)),
        (timm.create_model("test_resnet"), HALF),
        (tv.ResNet50_Weights.DEFAULT, IMAGENET),
        (tv.EfficientNet_V2_L_Weights.DEFAULT.transforms(), HALF),
        (tv.detection.SSD300_VGG16_Weights.DEFAULT, UNIT),
        (Compose([Resize(8), ToTensor(), Normalize(MEAN, STD)]), PixelSpec(MEAN, STD)),
        (Normalize(torch.tensor([0.5] * 3), torch.tensor([0.5] * 3)), HALF),
        (processor(), PixelSpec(MEAN, STD)),
        (processor(do_normalize=False), UNIT),
        (processor(do_normalize=False, do_flip_channel_order=True), PixelSpec(order="BGR")),
        (processor(do_normalize=False, rescale_factor=1.0), PixelSpec(peak=255)),
    ],
    ids=lambda value: type(value).__name__,
)
def test_read_off(source: object, spec: PixelSpec) -> None:
    assert PixelSpec.of(source) == spec


@pytest.mark.parametrize(
    "source", [None, "imagenet", noise(3), np.zeros(3), nn.Identity(), Compose([ToTensor()]), {}]
)
def test_what_says_nothing_is_refused(source: object) -> None:
    with pytest.raises(TypeError, match=f"off a {type(source).__name__}. Pass a PixelSpec"):
        PixelSpec.of(source)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ({"mean": (123.0, 116.0, 103.0), "std": (1, 1, 1)}, "peak=255"),
        (Compose([Normalize(MEAN, STD), Normalize(MEAN, STD)]), "2 Normalize"),
        (processor(do_rescale=False), "does not tell their peak"),
        (processor(rescale_offset=True), "more than to rescale and normalise once"),
        (processor(include_top=True), "more than to rescale and normalise once"),
        (processor(image_mean=[0.5], image_std=[0.5]), "colour images"),
    ],
)
def test_what_says_too_little_or_does_too_much_is_refused(source: object, text: str) -> None:
    with pytest.raises(ValueError, match=text):
        PixelSpec.of(source)


# --- the range check ---------------------------------------------------------------------------


def photograph(name: str) -> Tensor:
    """(1, 3, 224, 224), in 8 bits as out of a file."""
    image: Tensor = resize(to_tensor(getattr(data, name)()), [224, 224], antialias=True)
    return (image.clamp(0, 1) * 255).round()[None] / 255


PHOTOGRAPHS = ("astronaut", "coffee", "chelsea", "rocket")
CONDITIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "clean": lambda rgb: rgb,
    "haze": lambda rgb: 0.4 * rgb + 0.6 * 0.85,
    "dense haze": lambda rgb: 0.2 * rgb + 0.8 * 0.8,
    "dark": lambda rgb: 0.1 * rgb,
    "over-exposed": lambda rgb: (2.5 * rgb).clamp(0, 1),
    "low contrast": lambda rgb: 0.3 * (rgb - 0.5) + 0.5,
    "overshoot of a bicubic resize": lambda rgb: 1.2 * (rgb - 0.5) + 0.5,
    "black": torch.zeros_like,
    "grey": lambda rgb: torch.full_like(rgb, 0.5),
}
SPECS = {
    "unit": UNIT,
    "imagenet": IMAGENET,
    "half": HALF,
    "clip": CLIP,
    "caffe": CAFFE,
    "bgr": PixelSpec(order="BGR"),
}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize("condition", CONDITIONS)
@pytest.mark.parametrize("spec", SPECS)
def test_right_images_raise_no_alarm(name: str, condition: str, spec: str) -> None:
    SPECS[spec].check(SPECS[spec].encode(CONDITIONS[condition](photograph(name))))


def mistakes() -> list[tuple[str, str, str]]:
    """(the model's encoding, what came, what the warning says)."""
    normalised = ["imagenet", "half", "clip", "caffe"]
    plain = [(spec, "plain", "plain [0, 1]") for spec in normalised]
    bytes_ = [(spec, "bytes", "divide by 255") for spec in ("unit", "imagenet", "half", "bgr")]
    twice = [(spec, "twice", "normalised twice") for spec in normalised]
    return plain + bytes_ + twice + [("unit", "imagenet", "pass them in [0, 1]")]


@pytest.mark.parametrize("name", PHOTOGRAPHS)
@pytest.mark.parametrize(("wanted", "came", "cure"), mistakes())
def test_the_classic_mistakes_are_told_with_their_cure(
    name: str, wanted: str, came: str, cure: str
) -> None:
    spec, rgb = SPECS[wanted], photograph(name)
    images = {
        "plain": rgb,
        "bytes": rgb * 255,
        "twice": spec.encode(spec.encode(rgb)),
        "imagenet": IMAGENET.encode(rgb),
    }[came]
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        spec.check(images)
    assert [warning.category for warning in told] == [PixelRangeWarning]
    assert cure in str(told[0].message) and str(spec) in str(told[0].message)


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_one_pixel_that_is_no_number_is_refused(value: float, dtype: torch.dtype) -> None:
    images = noise(1, 3, 4, 4).to(dtype)
    images[0, 1, 2, 3] = value
    with pytest.raises(ValueError, match="NaN or infinite"):
        UNIT.check(images)


@pytest.mark.parametrize("pixels", (UNIT, IMAGENET), ids=str)
@pytest.mark.parametrize("layout", (torch.contiguous_format, torch.channels_last), ids=str)
def test_the_memory_layout_stays(pixels: PixelSpec, layout: torch.memory_format) -> None:
    images = torch.rand(2, 3, 8, 9).contiguous(memory_format=layout)
    assert pixels.through(images, lambda x: x / 2).is_contiguous(memory_format=layout)
