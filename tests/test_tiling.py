"""Tiles against the whole: the same pixels, and memory that is that of a tile."""

import re
from dataclasses import replace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from networks import moved
from torch import Tensor

from vrdir_plug.config import RestorerConfig
from vrdir_plug.mosaic import without_mosaic
from vrdir_plug.restorer import Restorer
from vrdir_plug.tiling import Tiled, reach_of

CONFIGS = (
    RestorerConfig("tiny", 8, ((8, 12, 8), (8,))),
    RestorerConfig("tiny_deep", 8, ((4, 4, 4, 4),)),
    RestorerConfig("tiny_no_units", 8, ((),)),
    RestorerConfig("tiny_no_skip", 8, ((8, 8),), skip=False),
    RestorerConfig("tiny_denoiser", 8, ((8,),), denoiser=8),
    RestorerConfig("tiny_weather", 8, ((8,),), weather=8),
)
PUBLISHED = RestorerConfig(
    "tiny_published", 8, ((),), branches=3, grid=0, skip=False, published=True
)


@pytest.fixture(params=CONFIGS, ids=lambda config: config.profile)
def restorer(request: Any) -> Restorer:
    return moved(request.param)


def picture(height: int, width: int, count: int = 1) -> Tensor:
    """Light that changes across the image, edges and noise: no two tiles have its statistics."""
    seed = torch.Generator().manual_seed(1)
    coarse = F.interpolate(torch.rand(count, 3, 5, 7, generator=seed), (height, width))
    light = torch.linspace(0.2, 0.8, width)
    return (light * coarse + 0.1 * torch.rand(count, 3, height, width, generator=seed)).clamp(0, 1)


@pytest.mark.parametrize("size", ((160, 224), (161, 93), (33, 250)), ids=str)
@pytest.mark.parametrize("side", (48, 64))
def test_tiles_equal_the_whole(restorer: Restorer, size: tuple[int, int], side: int) -> None:
    images = picture(*size, count=2)
    with torch.no_grad():
        expected, tiled = restorer(images), Tiled(restorer, side=side, above=0)(images)
    assert (expected - images).abs().mean() > 0.01  # it does something
    torch.testing.assert_close(tiled, expected, atol=1e-4, rtol=0)


def test_tiles_of_large_pixels_equal_the_whole() -> None:
    restorer = moved(CONFIGS[0])
    images = F.interpolate(picture(41, 57), scale_factor=2.5, mode="nearest")  # 102 x 142
    assert not torch.equal(without_mosaic(images), images)
    with torch.no_grad():
        expected = restorer(images)
        tiled = Tiled(restorer, side=48, above=0)(images)
    torch.testing.assert_close(tiled, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("needed", (0.0, 0.25))
def test_tiles_are_enhanced_as_the_whole(needed: float) -> None:
    restorer, images = moved(CONFIGS[0]), picture(96, 130)
    with torch.no_grad():
        judged = restorer.judge(restorer.padded(images))
        least = float(judged.shares[0, 3]) / (1 + needed) * 1.0001
        restorer.config = replace(restorer.config, enhanced_from=least)
        expected, tiled = restorer(images), Tiled(restorer, side=48, above=0)(images)
        assert (expected - restorer.enhance(judged).images[..., :130]).abs().mean() > 1e-3
    torch.testing.assert_close(tiled, expected, atol=1e-4, rtol=0)


@pytest.mark.parametrize("dtype", (torch.bfloat16, torch.float16), ids=str)
def test_tiles_in_half_precision(dtype: torch.dtype) -> None:
    restorer, images = moved(CONFIGS[0]).to(dtype), picture(96, 130)
    with torch.no_grad():
        difference = Tiled(restorer, side=48, above=0)(images.to(dtype)) - restorer(
            images.to(dtype)
        )
    assert difference.dtype == dtype and difference.float().abs().mean() < 1 / 255


def test_tiles_under_autocast() -> None:
    restorer, images = moved(CONFIGS[0]), picture(96, 130)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        difference = Tiled(restorer, side=48, above=0)(images) - restorer(images)
    assert difference.abs().mean() < 1 / 255


@pytest.mark.parametrize("block", [b for config in CONFIGS for b in Restorer(config).ise.blocks])
def test_the_reach_is_that_of_the_unit(block: Any) -> None:
    """The reach is measured: whatever a NaN at the centre comes near becomes NaN."""
    reach, side = reach_of(block), 96
    far = 0
    for centre in range(48, 56):
        features = torch.zeros(1, 8, side, 16)
        features[:, :, centre] = torch.nan
        seen = torch.zeros(1, 51)
        with torch.no_grad():
            made = block.local(features, torch.zeros(1, 5), seen)
        rows = made.isnan().any(1).any(2)[0].nonzero().flatten()
        far = max(far, int((rows - centre).abs().max()))
    assert far <= reach < far + 8


def test_the_image_is_never_in_the_network_as_a_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    restorer, most = moved(CONFIGS[0]), 0

    def watch(module: Any, given: Any) -> None:
        nonlocal most
        most = max(most, given[0].shape[2] * given[0].shape[3])

    for module in restorer.modules():
        if isinstance(module, torch.nn.Conv2d):
            module.register_forward_pre_hook(watch)
    blocks: Any = restorer.ise.blocks
    reach = max(reach_of(block) for block in blocks)
    Tiled(restorer, side=64, above=0)(picture(160, 1600))
    assert 16**2 < most <= (16 + 2 * reach) ** 2


def test_small_images_go_through_at_once_with_gradients(restorer: Restorer) -> None:
    images = picture(40, 60)
    restored = Tiled(restorer, side=16, above=40 * 60)(images)
    assert torch.equal(restored, restorer(images)) and restored.requires_grad
    assert not Tiled(restorer, side=16, above=40 * 60 - 1)(images).requires_grad


def test_layout_and_device_stay_and_an_empty_batch_comes_back() -> None:
    tiled = Tiled(moved(CONFIGS[0]), side=32, above=0)
    images = picture(70, 50).contiguous(memory_format=torch.channels_last)
    restored = tiled(images)
    assert restored.is_contiguous(memory_format=torch.channels_last)
    torch.testing.assert_close(tiled(images.contiguous()), restored)
    assert tiled(images[:0]).shape == (0, 3, 70, 50)


def test_images_below_the_bypass_come_back_bit_identical() -> None:
    restorer, images = moved(CONFIGS[0]), picture(90, 70, count=2)
    images[1] *= 0.1
    scores = restorer.degradation(images).detach()
    restorer.config = replace(restorer.config, bypass=float(scores.mean()))
    restored = Tiled(restorer, side=48, above=0)(images)
    same = [torch.equal(a, b) for a, b in zip(restored, images, strict=True)]
    assert same == (scores < scores.mean()).tolist() and any(same) and not all(same)


def test_the_published_network_says_why_it_cannot() -> None:
    tiled = Tiled(moved(PUBLISHED), side=16, above=1000)
    assert tiled(picture(20, 30)).shape == (1, 3, 20, 30)
    with pytest.raises(NotImplementedError, match=re.escape("40 x 30 is restored in tiles, which")):
        tiled(picture(40, 30))


def test_bad_images_and_arguments_are_refused() -> None:
    restorer = moved(CONFIGS[0])
    with pytest.raises(ValueError, match="NaN or infinite"):
        Tiled(restorer, above=0)(picture(20, 30) / 0)
    for wrong in ({"side": 0}, {"above": -1}):
        with pytest.raises(ValueError, match="expected side >= 1 and above >= 0"):
            Tiled(restorer, **wrong)
