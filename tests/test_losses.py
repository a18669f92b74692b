"""Losses: zero where nothing is wrong, and the ranking loss's repair."""

import math

import pytest
import torch

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
        assert abs(loss) < 1e-6


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
        losses.consistency_loss([w + s * torch.randn_like(w) for w in wanted], wanted)
        for s in (0.1, 0.5, 2.0)
    ]
    assert 0 < steps[0] < steps[1] < steps[2]


def test_clean_loss_is_the_cross_entropy_of_the_mean_share() -> None:
    share = torch.tensor([0.9, 0.2])[:, None, None].expand(2, 4, 4)
    found = losses.clean_loss(share, torch.tensor([True, False]))
    assert found == pytest.approx(-(math.log(0.9) + math.log(0.8)) / 2)
