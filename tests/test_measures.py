import numpy as np
import pytest
import scipy.stats
import torch
import torch.nn.functional as F

from vrdir_plug.extras import library
from vrdir_plug.measures import Mean, draws, interval, mcnemar, psnr, ssim


@pytest.mark.parametrize("count", [30, 400])
def test_interval_is_scipys_paired_percentile_bootstrap(count: int) -> None:
    rng = np.random.default_rng(1)
    before, after = (rng.random(count) < share for share in (0.5, 0.6))
    expected = scipy.stats.bootstrap(
        (after.astype(float), before.astype(float)),
        lambda a, b, axis: (a - b).mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        rng=np.random.default_rng(2),
    ).confidence_interval
    one, two = Mean(before.astype(float)), Mean(after.astype(float))
    drawn = np.concatenate([two.drawn(c) - one.drawn(c) for c in draws(count, 2000)])
    np.testing.assert_allclose(interval(drawn), expected, atol=1.01 / count + 0.01)


def test_draws_take_as_many_as_there_are_and_are_the_same_each_time() -> None:
    counts = np.concatenate(list(draws(5, 30)))
    assert counts.shape == (30, 5) and (counts.sum(1) == 5).all()
    np.testing.assert_array_equal(counts, np.concatenate(list(draws(5, 30))))


@pytest.mark.parametrize(("lost", "won"), [(0, 0), (0, 1), (3, 3), (2, 9), (30, 12), (400, 380)])
def test_mcnemar_is_the_exact_binomial_test(lost: int, won: int) -> None:
    before = np.array([1.0] * lost + [0.0] * won + [1, 0])
    after = np.array([0.0] * lost + [1.0] * won + [1, 0])
    changed = lost + won
    expected = scipy.stats.binomtest(won, changed).pvalue if changed else 1
    assert mcnemar(before, after) == pytest.approx(expected)


def test_psnr_by_hand() -> None:
    image = torch.full((3, 4, 4), 0.5)
    assert psnr(image, image + 0.1) == pytest.approx(20, abs=1e-5)
    assert psnr(image, image) == 100


def test_ssim_is_the_published_formula() -> None:
    """Wang et al. 2004: Gaussian windows of 11 pixels, sigma 1.5; K1 0.01, K2 0.03."""
    generator = torch.Generator().manual_seed(0)
    clean = torch.rand(3, 40, 50, generator=generator, dtype=torch.float64)
    image = (clean + 0.2 * torch.randn(clean.shape, generator=generator)).clamp(0, 1)
    steps = torch.exp(-(torch.arange(-5.0, 6).double() ** 2) / (2 * 1.5**2))
    window = (torch.outer(steps, steps) / steps.sum() ** 2).expand(3, 1, 11, 11)

    def mean(planes: torch.Tensor) -> torch.Tensor:
        return F.conv2d(planes[None], window, groups=3)[0]

    mx, my = mean(image), mean(clean)
    vx, vy = mean(image**2) - mx**2, mean(clean**2) - my**2
    both = mean(image * clean) - mx * my
    value = (2 * mx * my + 1e-4) * (2 * both + 9e-4)
    value /= (mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)
    assert ssim(image, clean) == pytest.approx(value.mean().item(), abs=1e-6)


def test_a_missing_library_is_named_with_the_remedy() -> None:
    with pytest.raises(ValueError, match=r"needs not_there: .*vrdir-plug\[evaluate\]"):
        library("not_there", "evaluate")
