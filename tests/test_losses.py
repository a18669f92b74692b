"""Losses: zero where nothing is wrong, and the ranking loss's repair."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from vrdir_plug import losses


def test_every_loss_is_zero_on_a_perfect_result() -> None:
    torch.manual_seed(0)
    image, features, logits = torch.rand(2, 3, 8, 8), torch.rand(2, 4, 5, 5), torch.randn(2, 7)
    seen = [features, logits]
    for loss in (
        losses.pixel_loss(image, image),
        losses.semantic_loss(features, features),
        losses.feature_distance(features, features),
        losses.consistency_loss(seen, seen),
    ):
        assert (loss.abs() < 1e-6).all()


def test_pixel_loss_weighs_images() -> None:
    images, clean = torch.rand(3, 3, 8, 8), torch.rand(3, 3, 8, 8)
    alone = [losses.pixel_loss(a[None], b[None]) for a, b in zip(images, clean, strict=True)]
    weighed = losses.pixel_loss(images, clean, torch.tensor([1.0, 0.0, 0.5]))
    torch.testing.assert_close(weighed, (alone[0] + alone[2] / 2) / 3)


def test_semantic_loss_looks_at_maxima_only() -> None:
    features = torch.zeros(1, 2, 4, 4)
    features[0, :, 0, 0] = torch.tensor([3.0, 4.0])
    moved = features.flip(3) * 2
    assert losses.semantic_loss(moved, features) < 1e-6
    assert losses.semantic_loss(features.flip(1), features) > 0.03


def test_ranking_wants_the_clean_rebuilding_ahead_by_its_margin_and_no_more() -> None:
    torch.manual_seed(0)
    clean = torch.rand(2, 3, 16, 16)
    noisy = clean + 0.5 * torch.randn_like(clean)
    assert losses.ranking_loss(clean, noisy, clean) == 0
    assert abs(losses.ranking_loss(clean, clean, clean) - 0.05) < 1e-5
    assert losses.ranking_loss(noisy, clean, clean) > 0.05


def test_ranking_does_not_mind_brightness() -> None:
    clean = torch.rand(1, 3, 8, 8)
    similarity = losses.similarity(0.5 * clean + 0.2, clean)
    torch.testing.assert_close(similarity, torch.ones(1))


def test_consistency_grows_with_the_damage() -> None:
    torch.manual_seed(0)
    wanted = [torch.randn(2, 4, 5, 5), torch.randn(2, 7)]
    steps = [
        losses.consistency_loss([w + s * torch.randn_like(w) for w in wanted], wanted).mean()
        for s in (0.1, 0.5, 2.0)
    ]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_limited_shortens_each_image_by_itself_to_its_own_bound() -> None:
    images = torch.rand(3, 3, 8, 8, requires_grad=True)
    given = torch.randn(3, 3, 8, 8) * torch.tensor([1e-4, 1, 1]).view(3, 1, 1, 1)
    losses.limited(images, torch.tensor([5.0, 5.0, 15.0]))
    images.backward(given)
    # that of the mean absolute error has 1 / 576 at each of the 192 values of an image
    bound = 5 * (192 * (1 / 576) ** 2) ** 0.5
    assert images.grad is not None
    torch.testing.assert_close(images.grad[0], given[0])
    torch.testing.assert_close(images.grad[1], given[1] * bound / given[1].norm())
    torch.testing.assert_close(images.grad[2], given[2] * 3 * bound / given[2].norm())


def test_a_filter_must_mend_what_it_can_and_leave_the_rest() -> None:
    torch.manual_seed(0)
    clean, degraded = torch.rand(2, 3, 16, 16), torch.rand(2, 3, 16, 16)

    def loss(filtered: torch.Tensor, share: float) -> float:
        return float(losses.filter_loss(filtered, degraded, clean, torch.full((2,), share)))

    half = (clean + degraded) / 2
    assert loss(degraded, 1) == pytest.approx(5, rel=1e-3)
    assert 0 == loss(clean, 1) < loss(half, 1) < loss(degraded, 1)
    assert loss(degraded, 0) == pytest.approx(0.01)
    assert loss(degraded, 0) < loss(half, 0) < loss(clean, 0)
    assert loss(half, 0.5) == 0


def test_a_choice_pays_by_the_share_of_the_error_that_it_takes() -> None:
    clean = torch.full((1, 3, 32, 32), 0.5)
    board = torch.tensor([1.0, -1.0]).repeat(16)
    error = board[:, None] * board
    # a light that is evenly wrong is not counted
    bad, good = clean + 0.4 * error, clean + 0.1 * error + 0.2
    chance = torch.tensor([0.3], requires_grad=True)

    def loss(before: Tensor, after: Tensor) -> Tensor:
        return losses.choice_loss(chance, losses.change_of(before, after, clean))

    (slope,) = torch.autograd.grad(loss(bad, good), chance)
    expected = np.log((0.01 + 1e-3) / (0.16 + 1e-3)) + losses.DARE
    assert float(slope) == pytest.approx(expected, rel=1e-4)
    # the other way around it costs more than it would have brought
    (back,) = torch.autograd.grad(loss(good, bad), chance)
    assert float(back - losses.DARE) == pytest.approx(-losses.CARE * float(slope - losses.DARE))
    # nothing is not worth it
    assert loss(good, good) > 0


def test_a_chance_is_worth_what_is_gained_of_all_that_changes() -> None:
    before, after = torch.tensor([3.0, 0.0]), torch.tensor([0.5, 0.2])
    gained = math.log((3 + losses.UNSURE) / (0.5 + losses.UNSURE))
    lost = math.log((0.2 + losses.UNSURE) / losses.UNSURE)
    chances = torch.linspace(0.01, 0.99, 99)
    found = torch.stack([losses.worth_loss(c.expand(2), before, after) for c in chances])
    assert abs(chances[found.argmin()] - gained / (gained + lost)) < 0.01


def test_what_is_left_of_what_lay_over_a_scene() -> None:
    """Of details and of means apart, each by how much there was of it."""
    torch.manual_seed(0)
    beneath = torch.rand(2, 3, 16, 16)
    dots = 0.2 * (torch.arange(16) % 2 * 2 - 1.0).expand_as(beneath)  # no mean of 8x8 has them
    even = torch.full_like(beneath, 0.1)
    left = losses.uncovered_loss(beneath + 0.5 * dots, beneath + dots, beneath)
    torch.testing.assert_close(left, torch.tensor(0.1 / 0.22))
    left = losses.uncovered_loss(beneath + 0.5 * even, beneath + even, beneath)
    torch.testing.assert_close(left, torch.tensor(0.3 * 0.05 / 0.15), atol=1e-5, rtol=0)
    assert losses.uncovered_loss(beneath, beneath + dots + even, beneath) == 0
