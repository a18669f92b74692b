"""The images of a call: found, replaced, and refused with a way out."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vrdir_plug.inputs import ImageInput
from vrdir_plug.pixels import IMAGENET, UNIT, PixelSpec

INPUT = ImageInput("images", IMAGENET, "given")


def double(images: Tensor) -> Tensor:
    return images * 2


def restored(images: Any) -> Any:
    (result,), _ = INPUT.map((images,), {}, double)
    return result


def test_the_first_argument_is_the_images() -> None:
    batch, mask = torch.ones(2, 3, 4, 5), torch.ones(1)
    args, kwargs = INPUT.map((batch, mask), {"scale": mask}, double)
    assert torch.equal(args[0], 2 * batch)
    assert args[1] is mask and kwargs == {"scale": mask}


def test_the_name_goes_before_the_place() -> None:
    batch, mask = torch.ones(2, 3, 4, 5), torch.ones(1)
    given = {"images": batch}
    args, kwargs = INPUT.map((mask,), given, double)
    assert args[0] is mask
    assert torch.equal(kwargs["images"], 2 * batch)
    assert given["images"] is batch


@pytest.mark.parametrize("kind", [list, tuple])
def test_a_list_is_restored_image_by_image(kind: Callable[[list[Tensor]], list[Tensor]]) -> None:
    seen = []

    def restore(images: Tensor) -> Tensor:
        seen.append(images.shape)
        return images * 2

    images = kind([torch.ones(3, 4, 5), torch.ones(3, 1, 9)])
    (result,), _ = INPUT.map((images,), {}, restore)
    assert type(result) is kind and result is not images
    assert seen == [(1, 3, 4, 5), (1, 3, 1, 9)]
    assert [image.shape for image in result] == [(3, 4, 5), (3, 1, 9)]
    assert all(image.eq(1).all() for image in images) and all(image.eq(2).all() for image in result)


def test_nothing_to_restore_is_passed_on() -> None:
    empty = torch.ones(0, 3, 4, 5)
    assert restored(empty) is empty
    assert restored([]) == []


@pytest.mark.parametrize("argument", [None, "images"])
def test_a_call_without_images_is_refused(argument: str | None) -> None:
    found = ImageInput(argument, IMAGENET, "given")
    expected = "as the first argument" + (" or as images=" if argument else "")
    with pytest.raises(TypeError, match=f"{expected}$"):
        found.map((), {"x": torch.ones(1, 3, 4, 5)}, double)


@pytest.mark.parametrize(
    "images",
    [
        torch.ones(1, 3, 4, 5, dtype=torch.uint8),
        torch.ones(1, 3, 4, 5, dtype=torch.bool),
        np.ones((1, 3, 4, 5)),
        Image.new("RGB", (5, 4)),
        "photograph.png",
        Path("photograph.png"),
        None,
        [torch.ones(3, 4, 5, dtype=torch.uint8)],
        [torch.ones(3, 4, 5), "photograph.png"],
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_is_no_float_tensor_is_refused(images: object) -> None:
    with pytest.raises(TypeError, match=r"^came .*float images \(.*RGB, ImageNet.*them first$"):
        restored(images)


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((3, 4, 5), r"add the batch dimension with images\[None\]"),
        ((2, 4, 5, 3), r"move the channels .* images\.movedim\(-1, -3\)"),
        ((2, 1, 4, 5), "repeat the grey channel"),
        ((2, 4, 4, 5), "drop the alpha channel"),
        ((2, 6, 4, 5), "colour images"),
        ((2, 3, 0, 5), "at least 1"),
        ((2, 3, 4, 0), "at least 1"),
        ((0, 1, 4, 5), "repeat the grey channel"),
        ((1, 3, 8, 4, 5), "one tensor of images"),
        ((4, 5), "one tensor of images"),
        ((), "one tensor of images"),
    ],
)
def test_another_shape_is_refused_with_the_way_out(shape: tuple[int, ...], cure: str) -> None:
    with pytest.raises(ValueError, match=rf"^came \(.*\(N, 3, H, W\) encoded as RGB.*{cure}"):
        restored(torch.ones(shape))


@pytest.mark.parametrize(
    ("shape", "cure"),
    [
        ((1, 3, 4, 5), "one tensor of images"),
        ((4, 5), "one tensor of images"),
        ((4, 5, 3), "move the channels"),
        ((1, 4, 5), "repeat the grey channel"),
        ((3, 0, 5), "at least 1"),
    ],
)
def test_so_is_one_image_of_a_list(shape: tuple[int, ...], cure: str) -> None:
    with pytest.raises(ValueError, match=rf"^came \(.*\(3, H, W\) encoded as RGB.*{cure}"):
        restored([torch.ones(3, 4, 5), torch.ones(shape)])


def test_the_advice_on_shapes_works() -> None:
    assert restored(torch.ones(3, 4, 5)[None]).shape == (1, 3, 4, 5)
    assert restored(torch.ones(2, 4, 5, 3).movedim(-1, -3)).shape == (2, 3, 4, 5)
    assert restored(torch.ones(2, 1, 4, 5).repeat_interleave(3, dim=-3)).shape == (2, 3, 4, 5)


def test_a_named_tuple_of_images_becomes_a_tuple() -> None:
    class Views(NamedTuple):
        left: Tensor
        right: Tensor

    views = Views(torch.rand(3, 4, 5), torch.rand(3, 6, 7))
    (restored,), _ = ImageInput("images", UNIT, "test").map((views,), {}, lambda x: x / 2)
    assert isinstance(restored, tuple)
    torch.testing.assert_close(restored, (views.left / 2, views.right / 2))


def test_images_in_dicts() -> None:
    place = ImageInput("batched_inputs", PixelSpec(peak=255, order="BGR"), "", key="image")
    whole = torch.arange(12, dtype=torch.uint8).reshape(3, 2, 2)
    entry = {"image": whole, "height": 7}
    (result,), _ = place.map(([entry],), {}, lambda images: images + 0.5)
    assert result[0]["height"] == 7 and entry["image"] is whole
    torch.testing.assert_close(result[0]["image"], whole.float() + 0.5)
    for wrong in ([{"picture": whole}], [whole]):
        with pytest.raises(TypeError, match="list of dicts with 'image'"):
            place.map((wrong,), {}, lambda images: images)
    with pytest.raises(ValueError, match=r"\(3, H, W\)"):
        place.map(([{"image": whole[None]}],), {}, lambda images: images)
