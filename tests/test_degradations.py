"""Training degradations: their contract, and each against what it is meant to do."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from scipy import ndimage
from skimage.data import astronaut
from torch import Tensor

from vrdir_plug import degradations
from vrdir_plug.degradations import CLEAN_FAMILY, FAMILIES, ORDER, Degradation

SEVERITIES = torch.arange(6.0)


def photograph(height: int = 96, width: int = 130) -> Tensor:
    image = Image.fromarray(astronaut()).resize((width, height))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)[None].float() / 255


def generator() -> torch.Generator:
    return torch.Generator().manual_seed(3)


def at(kind: Degradation, severity: float, images: Tensor | None = None) -> Tensor:
    images = photograph() if images is None else images
    return kind(images, torch.full((len(images),), float(severity)), generator())


each_kind = pytest.mark.parametrize("kind", ORDER, ids=lambda kind: kind.__name__)


def test_every_kind_is_in_one_family_and_in_the_order() -> None:
    kinds = [kind for family in FAMILIES for kind in family]
    assert sorted(k.__name__ for k in kinds) == sorted(k.__name__ for k in ORDER)
    assert len(FAMILIES) == CLEAN_FAMILY


@each_kind
@pytest.mark.parametrize("size", ((1, 1), (17, 5), (96, 130)))
def test_shape_range_and_the_input_stays(kind: Degradation, size: Any) -> None:
    images = photograph(*size).expand(6, -1, -1, -1).contiguous()
    before = images.clone()
    degraded = kind(images, SEVERITIES, generator())
    assert degraded.shape == images.shape and degraded.dtype == images.dtype
    assert degraded.isfinite().all()
    assert degraded.min() >= 0 and degraded.max() <= 1 + 1e-6
    assert torch.equal(images, before)


@each_kind
def test_severity_zero_is_next_to_nothing_and_five_is_the_worst(kind: Degradation) -> None:
    # many at each severity: most kinds draw their colour, angle or opacity at random
    images, severity = photograph(48, 64).expand(120, -1, -1, -1), SEVERITIES.repeat(20)
    change = (kind(images, severity, generator()) - images).abs().mean((1, 2, 3))
    change = change.view(20, 6).mean(0)
    assert change[0] < 0.02
    assert change[5] == change.max() and change[5] > 0.02


@each_kind
def test_the_seed_decides_everything(kind: Degradation) -> None:
    torch.manual_seed(0)
    first = at(kind, 3)
    torch.manual_seed(1)
    assert torch.equal(first, at(kind, 3))


@pytest.mark.parametrize(("severity", "sigma"), ((1, 0.08), (3, 0.18), (3.5, 0.22)))
def test_gaussian_noise_has_imagenet_c_s_sigma(severity: float, sigma: float) -> None:
    noise = at(degradations.gaussian_noise, severity, torch.full((1, 3, 200, 200), 0.5)) - 0.5
    # clipping at 0 and 1 takes off a little from 0.2 on
    assert abs(noise.std().item() - sigma) < 0.03 * sigma + 0.003
    assert abs(noise.mean()) < 0.005


def test_shot_noise_grows_with_the_light() -> None:
    noisy = at(degradations.shot_noise, 3, torch.full((1, 3, 200, 200), 0.3))
    assert abs(noisy.mean() - 0.3) < 0.005
    assert abs(noisy.var() - 0.3 / 12) < 0.002  # Poisson: variance = mean / photons


def test_impulse_noise_hits_as_many_values_as_it_says() -> None:
    noisy = at(degradations.impulse_noise, 3, torch.full((1, 3, 300, 300), 0.5))
    assert abs((noisy != 0.5).float().mean() - 0.09) < 0.004
    assert abs((noisy == 0).float().mean() - (noisy == 1).float().mean()) < 0.004


def test_gaussian_blur_is_scipy_s() -> None:
    expected = ndimage.gaussian_filter(
        photograph()[0].numpy(), (0, 1.7, 1.7), mode="nearest", truncate=10 / 1.7
    )
    blurred = at(degradations.gaussian_blur, 2)[0].numpy()
    np.testing.assert_allclose(blurred, expected, atol=2e-3)


def test_jpeg_is_nearly_pillow_s() -> None:
    image = photograph()
    file = io.BytesIO()
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    Image.fromarray(pixels).save(file, "JPEG", quality=15)
    pillow = torch.from_numpy(np.array(Image.open(file))).permute(2, 0, 1) / 255
    ours = at(degradations.jpeg, 3)[0]
    damage = (pillow - image[0]).abs().mean()
    assert (ours - pillow).abs().mean() < 0.25 * damage


def test_contrast_keeps_its_share_of_the_spread() -> None:
    image = photograph()
    spread = at(degradations.low_contrast, 2).std((2, 3)) / image.std((2, 3))
    torch.testing.assert_close(spread, torch.full((1, 3), 0.3), atol=0.01, rtol=0)


def test_haze_moves_every_pixel_towards_the_airlight() -> None:
    image = photograph()
    hazy = at(degradations.haze, 4)
    assert hazy.std() < 0.7 * image.std()
    assert hazy.mean() > image.mean()


def test_rain_and_snow_only_brighten_dark_pixels() -> None:
    dark = torch.full((1, 3, 64, 64), 0.1)
    for kind in (degradations.rain, degradations.snow):
        fallen = at(kind, 3, dark)
        assert (fallen >= 0.1 - 1e-6).all() and fallen.max() > 0.4


def test_low_light_darkens_as_it_says() -> None:
    image = photograph()
    light = [at(degradations.low_light, severity).mean() for severity in (1, 3, 5)]
    assert image.mean() > light[0] > light[1] > light[2]


def test_pixelate_and_down_sample_keep_the_mean() -> None:
    image = photograph()
    for kind in (degradations.pixelate, degradations.down_sample):
        assert abs(at(kind, 5).mean() - image.mean()) < 0.01


@pytest.mark.parametrize("parts", (5, 7, 16))
def test_parts_of_a_line_are_the_means_of_what_they_cover(parts: int) -> None:
    """By numpy's integral of the pixels, each as wide as 1."""
    pixels = np.random.default_rng(0).random(16)
    integral = np.interp(np.linspace(0, 16, parts + 1), np.arange(17), np.cumsum([0, *pixels]))
    found = degradations.areas(16, parts, torch.device("cpu")) @ torch.from_numpy(pixels).float()
    np.testing.assert_allclose(found, np.diff(integral) * parts / 16, rtol=1e-5)


@pytest.mark.parametrize("parts", (5, 7, 16))
def test_parts_of_whole_pixels_are_those_of_pillow(parts: int) -> None:
    pixels = np.random.default_rng(0).random((1, 16), dtype=np.float32)
    expected = np.array(Image.fromarray(pixels).resize((parts, 1), Image.Resampling.BOX))[0]
    found = degradations.whole_areas(16, parts, torch.device("cpu")) @ torch.from_numpy(pixels[0])
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_mist_and_frost_brighten_black_and_leave_less_of_white() -> None:
    for kind in (degradations.mist, degradations.frost):
        black, white = (at(kind, 4, torch.full((2, 3, 64, 64), value)) for value in (0.0, 1.0))
        assert black.mean() > 0.05 and white.mean() < 0.95
        assert black.std() > 0.05, "it comes and goes"


def test_zoom_blur_spares_the_centre() -> None:
    board = torch.zeros(1, 3, 96, 96)
    board[..., ::8, :], board[..., ::8] = 1, 1
    change = (at(degradations.zoom_blur, 3, board) - board).abs()
    assert change[..., 44:52, 44:52].mean() < change[..., :8, :8].mean()


@pytest.mark.parametrize("kind", (degradations.elastic, degradations.glass_blur))
def test_warps_move_pixels_and_keep_the_mean(kind: Degradation) -> None:
    image = photograph()
    warped = at(kind, 4)
    assert abs(warped.mean() - image.mean()) < 0.01
    assert (warped - image).abs().mean() > 0.01


def test_no_shift_gives_the_image_back() -> None:
    image = photograph()
    still = degradations.warped(image, torch.zeros(len(image), 2, *image.shape[2:]))
    torch.testing.assert_close(still, image, atol=1e-4, rtol=0)
