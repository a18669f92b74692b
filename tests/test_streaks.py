"""StreakFilter against scipy, and on scenes whose streaks are known."""

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor

from vrdir_plug.streaks import REACH, StreakFilter, cover_across

SHARE = torch.ones(1)


@pytest.mark.parametrize("size", ((20, 45), (5, 7), (3, 1)), ids=str)
def test_what_is_behind_is_a_rank_of_the_pixels_beside(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    grey = torch.rand(2, 1, *size)
    for image, found in zip(grey.numpy()[:, 0], cover_across(grey)[:, 0], strict=True):
        behind = scipy.ndimage.rank_filter(image, 2, size=(1, 2 * REACH + 1), mode="nearest")
        expected = np.maximum(image - behind, 0) / np.maximum(1 - behind, 0.1)
        np.testing.assert_allclose(found, expected, atol=1e-6)


def scene() -> Tensor:
    """A smooth one, in colours (1, 3, 64, 96)."""
    y, x = torch.meshgrid(torch.arange(64.0), torch.arange(96.0), indexing="ij")
    planes = [0.4 + 0.2 * torch.sin(0.05 * x + 0.03 * y + phase) for phase in (0, 1, 2)]
    return torch.stack(planes)[None]


def lined(image: Tensor, cover: float, across: bool = False) -> Tensor:
    """With lines of light, two pixels wide, that hide it by this much."""
    lines = torch.zeros_like(image[:, :1])
    for start in (10, 30, 50):
        part = lines.mT if across else lines
        part[..., start : start + 2] = cover
    return image * (1 - lines) + lines


@pytest.mark.parametrize("cover", (0.25, 0.5, 0.75))
def test_upright_streaks_are_taken_away(cover: float) -> None:
    image = scene()
    degraded = lined(image, cover)
    found = StreakFilter().mended(degraded, SHARE)
    assert (degraded - image).abs().max() > 0.1
    torch.testing.assert_close(found, image, atol=0.03, rtol=0)
    half = StreakFilter().mended(degraded, 0.5 * SHARE)
    assert (found - image).abs().sum() < (half - image).abs().sum()
    assert (half - image).abs().sum() < (degraded - image).abs().sum()


@pytest.mark.parametrize("kind", ("lying", "dark", "faint", "dots"))
def test_what_is_no_streak_stays(kind: str) -> None:
    image = scene()
    dots = torch.zeros_like(image)
    dots[..., 8::16, 8::16] = 0.1
    degraded = {
        "lying": lined(image, 0.4, across=True),
        "dark": 1 - lined(1 - image, 0.4),
        "faint": lined(image, 0.05),
        "dots": image + dots,
    }[kind]
    found = StreakFilter().mended(degraded, SHARE)
    assert (found - degraded).abs().max() < 0.02


def test_signs_turn_with_the_image_and_change_with_its_light() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 16, 24)
    signs, levels = StreakFilter().signs(images), len(StreakFilter.levels)
    assert signs.shape == (2, 4 * levels + 1, 4, 6)
    bright, dark = signs[:, :-1].unflatten(1, (levels, 2, 2)).unbind(2)
    turned = StreakFilter().signs(images.mT)[:, :-1].unflatten(1, (levels, 2, 2)).unbind(2)
    for found, expected in zip(turned, (bright, dark), strict=True):
        torch.testing.assert_close(found.flip(2).mT, expected)
    changed = StreakFilter().signs(1 - images)[:, :-1].unflatten(1, (levels, 2, 2)).unbind(2)
    for found, expected in zip(changed, (dark, bright), strict=True):
        torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(signs[:, -1], images.mean(1)[..., ::4, ::4])


def test_at_first_nothing_is_taken_away() -> None:
    images = lined(scene(), 0.5)
    assert torch.equal(StreakFilter()(images), images)


def test_a_small_chance_is_none() -> None:
    streaks = StreakFilter()
    signs = torch.rand(3, 4 * len(streaks.levels) + 1)
    with torch.no_grad():
        for chance, share in ((0.2, 0.0), (0.5, 0.5), (0.8, 1.0)):
            streaks.asks[1].bias.fill_(torch.tensor(chance).logit() / 4)
            torch.testing.assert_close(streaks.chance(signs), torch.full((3,), chance))
            torch.testing.assert_close(streaks.share(signs), torch.full((3,), share))
