"""Large pixels against Pillow, and what is none."""

import numpy as np
import pytest
import torch
from PIL import Image
from skimage.data import astronaut
from torch import Tensor

from vrdir_plug.mosaic import Blocks, blocks_of, cubic, mosaics, steps_of, without_mosaic


def photograph() -> Tensor:
    """(1, 3, 224, 208)."""
    pixels = np.ascontiguousarray(astronaut()[100:324, 100:308])
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def resized(image: Tensor, size: tuple[int, int], how: Image.Resampling) -> Tensor:
    """By Pillow, to this height and width."""
    levels = (image[0] * 255).round().byte().permute(1, 2, 0).numpy()
    found = Image.fromarray(levels).resize(size[::-1], how)
    return torch.from_numpy(np.array(found)).permute(2, 0, 1)[None] / 255


def enlarged(image: Tensor, times: float) -> tuple[Tensor, Tensor]:
    """What so many times fewer pixels are enlarged to, smoothly and by whole pixels."""
    size = tuple(image.shape[2:])
    few = resized(image, (int(size[0] / times), int(size[1] / times)), Image.Resampling.BOX)
    smooth = resized(few, (size[0], size[1]), Image.Resampling.BICUBIC)
    return smooth, resized(few, (size[0], size[1]), Image.Resampling.NEAREST)


def sizes(of: Tensor) -> Blocks:
    return blocks_of(steps_of(of))


@pytest.mark.parametrize("times", (1.7, 2.0, 2.5, 4.0, 7.3))
def test_whole_pixels_become_what_pillow_interpolates(times: float) -> None:
    smooth, blocks = enlarged(photograph(), times)
    found = without_mosaic(blocks)
    errors = [(i - smooth)[..., 16:-16, 16:-16].abs().mean() for i in (blocks, found)]
    assert errors[0] > 0.01 and errors[1] < 0.4 * errors[0]


def test_blocks_are_where_columns_repeat() -> None:
    image = torch.rand(1, 3, 5, 6).repeat_interleave(torch.tensor([1, 2, 3, 1, 20, 1]), 3)
    first, last = sizes(image)
    assert first[0, :7].tolist() == [0, 1, 1, 3, 3, 3, 6]
    assert last[0, :7].tolist() == [0, 2, 2, 5, 5, 5, 6]
    assert first[0, -1] == last[0, -1] == 27


def test_the_weights_are_those_of_pillow() -> None:
    """Of an impulse in a line, enlarged sixteenfold."""
    line = Image.fromarray(np.eye(1, 9, 4, dtype=np.float32))
    expected = np.array(line.resize((144, 1), Image.Resampling.BICUBIC))[0]
    shares = torch.arange(0.5, 16) / 16
    found = torch.cat([part.flip(0) for part in reversed(cubic(shares.flip(0)))])
    np.testing.assert_allclose(found.flip(0), expected[40:104], atol=1e-5)


def test_margins_stay() -> None:
    """Of a picture of large pixels between margins, and of a photograph between such."""
    _, blocks = enlarged(photograph(), 4)
    margins = torch.nn.functional.pad(blocks, (40, 40, 0, 0))
    found = without_mosaic(margins)
    assert not found[..., :40].any() and not found[..., -40:].any()
    assert (found - margins)[..., 48:-48].abs().mean() > 0.01
    photo = torch.nn.functional.pad(photograph(), (150, 150, 90, 90), value=0.5)
    assert torch.equal(without_mosaic(photo), photo)


def made(kind: str, times: float = 4) -> Tensor:
    photo = photograph()
    _, blocks = enlarged(photo, times)
    return {
        "photograph": photo,
        "one side alone": photo[..., ::4].repeat_interleave(4, 3),
        "noisy": (blocks + 0.01 * torch.rand(blocks.shape)).clamp(0, 1),
        "hardly enlarged": enlarged(photo, 1.2)[1],
        "of one colour": torch.full_like(photo, 0.3),
        "a single pixel": photo[..., :1, :1],
    }[kind]


@pytest.mark.parametrize(
    "kind",
    ("photograph", "one side alone", "noisy", "hardly enlarged", "of one colour", "a single pixel"),
)
def test_what_is_no_mosaic_stays(kind: str) -> None:
    torch.manual_seed(0)
    image = made(kind)
    assert torch.equal(without_mosaic(image), image)


def test_images_of_a_batch_are_told_apart() -> None:
    photo = photograph()
    _, blocks = enlarged(photo, 3)
    both = torch.cat([photo, blocks])
    assert mosaics(sizes(both), sizes(both.mT)).tolist() == [False, True]
    found = without_mosaic(both)
    assert torch.equal(found[:1], photo)
    torch.testing.assert_close(found[1:], without_mosaic(blocks))
