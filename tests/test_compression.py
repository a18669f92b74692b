"""JPEG's blocks: found where they are, wherever the image was cut, and nowhere else."""

import io
from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image
from skimage import data
from torch import Tensor

from vrdir_plug.compression import BLOCK, Blocking, blocking_of, steps_in
from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.front import with_blocking
from vrdir_plug.restorer import Restorer
from vrdir_plug.tiling import Tiled


def photograph() -> Tensor:
    """(1, 3, 224, 224): the astronaut, at half the size, without the blocks of her own JPEG."""
    small = Image.fromarray(data.astronaut()).resize((240, 240), Image.Resampling.BOX)
    return torch.from_numpy(np.array(small)[:224, 8:232]).permute(2, 0, 1)[None] / 255


def stored(image: Tensor, quality: int) -> Tensor:
    """(1, 3, H, W) as Pillow's JPEG leaves it."""
    file = io.BytesIO()
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=quality)
    return torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1)[None] / 255


def seen(images: Tensor) -> Blocking:
    return blocking_of(steps_in(images))


def test_steps_are_those_of_numpy() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 20, 28) * 0.2
    found = steps_in(images)
    assert found.shape == (2, 2, 2, BLOCK)
    grey = images.mean(1).numpy()
    for n, axis in np.ndindex(2, 2):
        sizes = np.abs(np.diff(grey[n], axis=1 - axis)).clip(max=0.1)
        sizes = sizes.T if axis else sizes
        for place in range(BLOCK):
            here = sizes[:, place::BLOCK]
            np.testing.assert_allclose(found[n, axis, 0, place], here.sum(), rtol=1e-5)
            assert found[n, axis, 1, place] == here.size


@pytest.mark.parametrize("quality", (7, 15, 25))
@pytest.mark.parametrize("cut", ((0, 0), (3, 5)))
def test_blocks_are_found_and_tell_of_the_noise(quality: int, cut: tuple[int, int]) -> None:
    clean = photograph()
    degraded = stored(clean, quality)
    clean, degraded = (images[..., cut[0] :, cut[1] :] for images in (clean, degraded))
    blocking = seen(degraded)
    assert blocking.share > 0.85
    error = (degraded - clean).mean(1).square().mean()
    assert 0.2 < blocking.variance / error < 1


@pytest.mark.parametrize("kind", (None, *(k for k in CORRUPTIONS if "jpeg" not in k)))
def test_there_are_none_elsewhere(kind: str | None) -> None:
    images = photograph()
    if kind is not None:
        images = CORRUPTIONS[kind](images, 3, [torch.Generator().manual_seed(1)])
    assert seen(images).share == 0


def test_a_small_image_tells_nothing() -> None:
    assert seen(stored(photograph(), 10)[..., :48, :56]).share == 0
    for size in ((1, 1), (4, 200), (9, 9)):
        blocking = seen(torch.rand(2, 3, *size))
        assert (blocking.share == 0).all() and blocking.variance.isfinite().all()


def test_the_stronger_noise_counts() -> None:
    noise = torch.tensor([1.0, 3.0]).view(2, 1, 1).expand(2, 3, 5)
    blocking = Blocking(torch.tensor([2.0, 2.0]), torch.tensor([0.9, 0.0]))
    for share, expected in ((0.5, 2.0), (0.0, 2.0)):
        variance, taken = with_blocking(
            noise[:1], torch.tensor([share]), Blocking(*(p[:1] for p in blocking))
        )
        assert (variance == expected).all() and taken == 0.9
    variance, taken = with_blocking(noise, torch.tensor([0.0, 0.5]), blocking)
    assert (variance[0] == 2).all() and (variance[1] == 3).all()
    torch.testing.assert_close(taken, torch.tensor([0.9, 0.5]))


def test_pixels_come_nearer_and_tiles_equal_the_whole() -> None:
    restorer = Restorer.from_pretrained("fast")
    restorer.config = replace(restorer.config, bypass=0)  # whether it is worth it or not
    clean = photograph()
    degraded = stored(clean, 15)
    with torch.no_grad():
        mended, _ = restorer.pixel_filter.denoised(degraded)
        expected = restorer(degraded)
        tiled = Tiled(restorer, side=64, above=0)(degraded)
    before, after = ((images - clean).square().mean() for images in (degraded, mended))
    assert after < 0.97 * before
    assert (expected - degraded).abs().mean() > 1e-3
    torch.testing.assert_close(tiled, expected, atol=1e-3, rtol=0)
