"""Denoiser: what it adds to what NoiseFilter gives."""

from typing import Any

import pytest
import torch
from networks import moved
from torch import Tensor, nn

from vrdir_plug.config import RestorerConfig
from vrdir_plug.denoiser import Denoiser
from vrdir_plug.front import PixelFilter

CONFIG = RestorerConfig("tiny_denoiser", 8, ((8,),), denoiser=8)


@pytest.fixture
def denoiser() -> Denoiser:
    torch.manual_seed(0)
    made = Denoiser(8)
    nn.init.uniform_(made.left)
    pair: Any
    for pair in (*made.first, *made.further, *made.last):
        nn.init.kaiming_normal_(pair.second.weight)
    for layer in (made.leave, made.up):
        nn.init.kaiming_normal_(layer.weight)
    return made


def test_half_of_an_image_is_restored_to_half(denoiser: Denoiser) -> None:
    images, smooth = torch.rand(2, 2, 3, 40, 48)
    with torch.no_grad():
        whole, half = denoiser(images, smooth), denoiser(images / 2, smooth / 2)
    assert whole.std() > 0.1
    torch.testing.assert_close(half, whole / 2, atol=1e-5, rtol=1e-5)


def test_a_part_of_the_noise_is_left() -> None:
    made = Denoiser(8)
    images, smooth = torch.rand(2, 2, 3, 40, 48)
    with torch.no_grad():
        made.left.fill_(0.25)
        torch.testing.assert_close(made(images, smooth), (images - smooth) / 4)


def test_it_sees_no_further_than_it_says(denoiser: Denoiser) -> None:
    """To within a position of half the resolution."""
    images = torch.rand(1, 3, 320, 320, requires_grad=True)
    denoiser(images, images.detach())[0, :, 160 : 160 + Denoiser.stride, 160].sum().backward()
    assert images.grad is not None
    rows = (images.grad[0].abs().sum((0, 2)) > 0).nonzero()[:, 0]
    before, after = 160 - int(rows[0]), int(rows[-1]) - (159 + Denoiser.stride)
    for far in (before, after):
        assert Denoiser.reach - Denoiser.stride < far <= Denoiser.reach


def test_any_size_is_worked_on_in_whole_positions(denoiser: Denoiser) -> None:
    """As if the edge were repeated."""
    images, smooth = torch.rand(2, 1, 3, 36, 44)
    wide = (nn.functional.pad(i, (0, 4, 0, 4), mode="replicate") for i in (images, smooth))
    with torch.no_grad():
        found, expected = denoiser(images, smooth), denoiser(*wide)
    torch.testing.assert_close(found, expected[..., :36, :44])


def noisy(count: int = 2) -> Tensor:
    torch.manual_seed(1)
    even = 0.3 + 0.4 * torch.rand(count, 3, 1, 1).expand(-1, -1, 64, 64)
    return (even + 0.1 * torch.randn(count, 3, 64, 64)).clamp(0, 1)


def test_it_adds_by_the_share_of_the_noise_that_is_taken() -> None:
    pixel_filter: PixelFilter = moved(CONFIG).pixel_filter
    images, noise = noisy(3), torch.full((3, 3, 5), 0.01)
    share = pixel_filter.noise_filter.most * torch.tensor([0.0, 0.5, 1.0])
    with torch.no_grad():
        found = pixel_filter.without_noise(images, noise, share)
        smooth = pixel_filter.noise_filter.mended(images, noise, share)
        more = pixel_filter.denoiser(images, smooth)
    assert torch.equal(found[0], images[0])
    assert more[1:].abs().mean() > 1e-3
    expected = smooth[1:] + torch.tensor([0.5, 1.0])[:, None, None, None] * more[1:]
    torch.testing.assert_close(found[1:], expected)


def test_it_is_in_the_precision_that_autocast_asks_for() -> None:
    """What comes before and after stays in full precision."""
    pixel_filter: PixelFilter = moved(CONFIG).pixel_filter
    kinds = []
    pixel_filter.denoiser.leave.register_forward_hook(lambda *a: kinds.append(a[-1].dtype))
    with torch.no_grad():
        expected, _ = pixel_filter(noisy())
        with torch.autocast("cpu", torch.bfloat16):
            found, _ = pixel_filter(noisy())
    assert kinds == [torch.float32, torch.bfloat16] and found.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.02, rtol=0)


@pytest.mark.parametrize("width", (-1, 1025, 8.5))
def test_its_width_is_a_whole_number(width: Any) -> None:
    with pytest.raises(ValueError, match="denoiser must be a width from 0 to 1024"):
        RestorerConfig("tiny", 8, ((8,),), denoiser=width)


def test_the_published_network_has_none() -> None:
    with pytest.raises(ValueError, match="set denoiser=0"):
        RestorerConfig("p", 8, ((),), branches=3, grid=0, skip=False, published=True, denoiser=8)
