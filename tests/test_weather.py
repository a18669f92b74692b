"""WeatherFilter: what it takes away, of which images, and what comes back of those."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from networks import moved
from torch import Tensor, nn

from vrdir_plug.config import RestorerConfig
from vrdir_plug.restorer import Restorer
from vrdir_plug.weather import WeatherFilter

CONFIG = RestorerConfig("tiny_weather", 8, ((8,),), weather=8)


@pytest.fixture
def weather() -> WeatherFilter:
    """None of its layers at rest."""
    torch.manual_seed(0)
    made = WeatherFilter(8)
    for name, weight in made.named_parameters():
        if "second" in name or name.startswith("leave"):
            nn.init.normal_(weight, std=0.1)
    return made


def test_at_first_there_is_nothing_to_take_away() -> None:
    images = torch.rand(2, 3, 40, 52)
    restorer = Restorer(CONFIG)
    scene, share = restorer.uncovered(images)
    assert scene is images and not share.any()


def test_what_it_has_learnt_of_a_band_it_adds_to_it() -> None:
    """A bias of the first band alone is a brightness, a gain of all a contrast."""
    made, images = WeatherFilter(8), torch.rand(2, 3, 40, 52)
    bias = torch.as_tensor(made.leave.bias)
    with torch.no_grad():
        bias[0] = 0.2
        change, _ = made(images)
        assert change[:, 0].std() < 1e-6 and change[:, 0].mean() > 0
        assert change[:, 1:].abs().max() < 1e-6
        bias.zero_()[48:] = 0.8
        change, _ = made(images)
    expected = 0.2 * (images - torch.tensor([0.5631, 0.541, 0.4925]).view(-1, 1, 1))
    torch.testing.assert_close(change, expected, atol=1e-5, rtol=0)


def test_it_sees_no_further_than_it_says(weather: WeatherFilter) -> None:
    """To within a position of the coarsest level."""
    images = torch.rand(1, 3, 512, 512, requires_grad=True)
    first = 256 - 256 % weather.stride
    change, _ = weather(images)
    change[0, :, first : first + weather.stride, 256].sum().backward()
    assert images.grad is not None
    rows = (images.grad[0].abs().sum((0, 2)) > 0).nonzero()[:, 0]
    before, after = first - int(rows[0]), int(rows[-1]) - (first + weather.stride - 1)
    for far in (before, after):
        assert weather.reach - weather.stride < far <= weather.reach


def test_any_size_is_worked_on_in_whole_positions(weather: WeatherFilter) -> None:
    """As if the edge were repeated."""
    images = torch.rand(1, 3, 36, 44)
    wide = nn.functional.pad(images, (0, 4, 0, 12), mode="replicate")
    with torch.no_grad():
        (change, share), (expected, same) = weather(images), weather(wide)
    torch.testing.assert_close(change, expected[..., :36, :44])
    torch.testing.assert_close(share, same)


def test_it_is_in_the_precision_that_autocast_asks_for(weather: WeatherFilter) -> None:
    kinds: list[torch.dtype] = []
    weather.leave.register_forward_hook(lambda *a: kinds.append(a[-1].dtype))
    images = torch.rand(1, 3, 32, 32)
    with torch.no_grad():
        expected, _ = weather(images)
        with torch.autocast("cpu", torch.bfloat16):
            found, share = weather(images)
    assert kinds == [torch.float32, torch.bfloat16]
    assert found.dtype == share.dtype == torch.float32
    torch.testing.assert_close(found, expected, atol=0.05, rtol=0)


def asked(restorer: Restorer, bias: float, streaks: float = -1.0) -> Restorer:
    """Sure by so much that there is, or is not, something over every scene, and that that are
    streaks."""
    out: Any
    for out, sure in (
        (restorer.weather_filter.asks[1], bias),
        (restorer.streak_filter.asks[1], streaks),
    ):
        nn.init.zeros_(out.weight)
        nn.init.constant_(out.bias, sure)
    return restorer


@pytest.mark.parametrize("mode", ("select", "skip"))
@pytest.mark.parametrize("dtype", (torch.float32, torch.float16), ids=str)
def test_what_lay_over_a_scene_is_gone_though_nothing_else_is_worth_it(
    mode: str, dtype: torch.dtype
) -> None:
    restorer, images = moved(CONFIG), torch.rand(2, 3, 33, 50).to(dtype)
    restorer.mode = mode
    restorer.config = replace(restorer.config, bypass=0.9)
    with torch.no_grad():
        nn.init.constant_(torch.as_tensor(restorer.worth[1].bias), -9.0)
        restorer.light.shadow_switch.switch[0] = -4
        asked(restorer, -1.0)
        assert torch.equal(restorer(images), images)
        assert (restorer.degradation(images) < 0.9).all()
        asked(restorer, 1.0)  # a share of over 0.96
        found, scores = restorer(images), restorer.degradation(images)
        change, share = restorer.weather_filter(restorer.padded(images.float()))
    expected = images + share[0] * change[..., :33, :50]
    assert (scores > 0.9).all() and found.dtype == dtype and change.abs().mean() > 0.01
    torch.testing.assert_close(found.float(), expected.clamp(0, 1), atol=1e-3, rtol=0)
    with torch.no_grad():
        nn.init.constant_(torch.as_tensor(restorer.worth[1].bias), 9.0)
        assert (restorer(images) - found).abs().mean() > 0.01  # and the rest, where it is


def test_the_rest_sees_the_scene_as_it_is_then() -> None:
    restorer, images = asked(moved(CONFIG), 1.0), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        scene, share = restorer.uncovered(images)
        found = restorer(images)
        asked(restorer, -1.0)
        expected: Tensor = restorer(scene)
    assert share > 0.9 and (scene - images).abs().mean() > 0.01
    torch.testing.assert_close(found, expected)


def test_streaks_are_left_to_another_filter() -> None:
    restorer, images = moved(CONFIG), torch.rand(1, 3, 32, 48)
    with torch.no_grad():
        assert asked(restorer, 1.0).uncovered(images)[1] > 0.9
        scene, share = asked(restorer, 1.0, streaks=1.0).uncovered(images)
    assert share == 0 and scene is images


@pytest.mark.parametrize("width", (-2, 7, 1026, 8.5))
def test_its_width_is_an_even_number(width: Any) -> None:
    with pytest.raises(ValueError, match="weather must be an even width from 0 to 1024"):
        RestorerConfig("tiny", 8, ((8,),), weather=width)


def test_the_published_network_has_none() -> None:
    with pytest.raises(ValueError, match="set weather=0"):
        RestorerConfig("p", 8, ((),), branches=3, grid=0, skip=False, published=True, weather=8)


def test_large_pixels_stay_as_they_are() -> None:
    """Or nobody would find them any more."""
    restorer, images = asked(moved(CONFIG), 1.0), torch.rand(2, 3, 16, 24)
    images = images.repeat_interleave(4, 2).repeat_interleave(4, 3)
    images[1] += 0.01 * torch.rand(3, 64, 96)
    with torch.no_grad():
        scene, share = restorer.uncovered(images)
    assert share[0] == 0 and share[1] > 0.9
    assert torch.equal(scene[0], images[0]) and not torch.equal(scene[1], images[1])
