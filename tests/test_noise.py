"""NoiseFilter against scipy and numpy, and on scenes whose noise is known."""

import numpy as np
import pytest
import scipy.fft
import scipy.stats
import torch
import torch.nn.functional as F
from torch import Tensor

from vrdir_plug.noise import (
    LEVELS,
    SQUARE,
    NoiseFilter,
    drawn,
    fine,
    mixtures,
    quantile,
    rebuilt,
    transformed,
    weights_at,
)
from vrdir_plug.response import windows_of


def squares_of(plane: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """By where they begin in a plane whose edges were repeated by four pixels."""
    wide = np.pad(plane, 4, mode="edge")
    rows, columns = (range(0, side - SQUARE + 1, 4) for side in wide.shape)
    return {(y, x): wide[y : y + SQUARE, x : x + SQUARE] for y in rows for x in columns}


def spectrum(square: np.ndarray) -> np.ndarray:
    return scipy.fft.dctn(square, norm="ortho")


@pytest.mark.parametrize("low", (SQUARE, 4))
@pytest.mark.parametrize("size", ((12, 20), (4, 4)), ids=str)
def test_squares_and_their_cosines(size: tuple[int, int], low: int) -> None:
    torch.manual_seed(0)
    planes = torch.rand(2, *size)
    found = transformed(planes, low)
    for n, plane in enumerate(planes.numpy()):
        for (y, x), square in squares_of(plane).items():
            expected = spectrum(square)[:low, :low].flatten()
            np.testing.assert_allclose(found[n, :, y // 4, x // 4], expected, atol=1e-5)


@pytest.mark.parametrize("low", (SQUARE, 4))
def test_squares_give_the_mean_of_what_each_shows(low: int) -> None:
    torch.manual_seed(0)
    plane, weight = torch.rand(12, 20), torch.rand(1, 1, 4, 6) + 0.1
    sums = np.zeros((2, 20, 28))
    for (y, x), square in squares_of(plane.numpy()).items():
        kept = spectrum(square)
        kept[low:], kept[:, low:] = 0, 0
        share = float(weight[0, 0, y // 4, x // 4])
        sums[:, y : y + SQUARE, x : x + SQUARE] += share * np.stack(
            [scipy.fft.idctn(kept, norm="ortho"), np.ones_like(kept)]
        )
    found = rebuilt(transformed(plane[None], low), weight)
    np.testing.assert_allclose(found[0], (sums[0] / sums[1])[4:-4, 4:-4], atol=1e-5)


def test_mixtures_of_colours() -> None:
    expected = scipy.fft.dct(np.eye(3), axis=0, norm="ortho")
    np.testing.assert_allclose(mixtures(torch.device("cpu")), expected, atol=1e-6)


def test_what_is_fine_lies_above_the_diagonal() -> None:
    for row, column in np.ndindex(SQUARE, SQUARE):
        found = fine(torch.device("cpu"))[SQUARE * row + column]
        assert found == float(row + column >= SQUARE)


@pytest.mark.parametrize(("low", "threshold"), ((8, 2.5), (4, 2.7)))
def test_a_plane_is_smoothed_as_its_squares_are_by_scipy(low: int, threshold: float) -> None:
    torch.manual_seed(0)
    plane, variance = torch.rand(16, 24).double().numpy(), 0.01
    noise, wide = NoiseFilter(3), np.zeros((2, 24, 32))
    for (y, x), square in squares_of(plane).items():
        ratio = spectrum(square) ** 2 / (threshold**2 * variance)
        kept = ((ratio - (1 - noise.soft)) / (2 * noise.soft)).clip(0, 1)
        kept[0, 0] = 1
        kept[low:], kept[:, low:] = 0, 0
        parts = scipy.fft.idctn(spectrum(square) * kept, norm="ortho"), np.ones_like(square)
        for sums, part in zip(wide, parts, strict=True):
            sums[y : y + SQUARE, x : x + SQUARE] += part / kept.sum()
    expected = (wide[0] / wide[1])[4:-4, 4:-4]
    frequencies = transformed(torch.from_numpy(plane).float()[None], low)
    even = torch.full((1, *frequencies.shape[2:]), variance)
    found = noise.kept(frequencies, even, threshold)
    assert np.abs(expected - plane).max() > 0.1
    np.testing.assert_allclose(found[0], expected, atol=1e-5)


def test_luminance_and_colours_are_smoothed_each_by_its_own_noise() -> None:
    """What has no noise stays, of colours what is not too fine."""
    image, noise = scene(), NoiseFilter(3)
    degraded = noisy(image, 0.1, 0.0)
    variance = noise.levels(windows_of(degraded))
    mixed = mixtures(image.device)
    for part, least in enumerate((0.5, 0.8, 0.8)):
        some = torch.zeros(3, 1).index_fill_(0, torch.tensor(part), 1.0)
        found = noise.smoothed(degraded, variance * some) - degraded
        found = torch.einsum("oc,nchw->onhw", mixed, found).square().mean((1, 2, 3))
        assert found[part] > least * 0.1**2
        assert part == 0 or found[0] < 1e-9


@pytest.mark.parametrize("moved", ((0, 0), (2, 2)))
def test_the_second_set_of_squares_is_half_a_cell_beside_the_first(moved: tuple[int, int]) -> None:
    """What is moved by half a cell is smoothed alike, but for the edges."""
    noise, degraded = NoiseFilter(3), noisy(scene(), 0.1, 0.0)
    variance = noise.levels(windows_of(degraded))
    wide = F.pad(degraded, (moved[1], 4 - moved[1], moved[0], 4 - moved[0]), mode="replicate")
    found = noise.smoothed(wide, variance)[..., moved[0] :, moved[1] :][..., 12:84, 12:212]
    expected = noise.smoothed(degraded, variance)[..., 12:84, 12:212]
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)
    # in the middle of the range, where nothing is clipped
    one = noise.in_squares(degraded, variance)[..., 12:84, 60:160]
    image, expected = scene()[..., 12:84, 60:160], expected[..., 48:148]
    assert (expected - image).square().mean() < 0.85 * (one - image).square().mean()


@pytest.mark.parametrize("deviation", (0.02, 0.1, 0.3))
def test_what_clipping_draws_up_goes_back(deviation: float) -> None:
    before = np.linspace(0, 4 * deviation, 50)
    bell = scipy.stats.norm(before, deviation)
    after = before * bell.sf(0) + deviation**2 * bell.pdf(0)  # the mean of what is clipped at 0
    found = torch.from_numpy(after) - drawn(torch.from_numpy(after), torch.tensor(deviation))
    np.testing.assert_allclose(found, before, atol=0.031 * deviation)
    assert np.abs(after - before).max() > 0.39 * deviation


@pytest.mark.parametrize("end", (0.0, 1.0))
def test_black_and_white_are_so_again_without_noise(end: float) -> None:
    noise, image = NoiseFilter(3), torch.full((1, 3, 64, 64), end)
    degraded = noisy(image, 0.15, 0.0).clamp(0, 1)
    found = noise.mended(degraded, noise.levels(windows_of(degraded)), torch.ones(1))
    assert (degraded.mean() - end).abs() > 0.055
    assert (found.mean() - end).abs() < 0.5 * (degraded.mean() - end).abs()


def test_a_weighted_quantile() -> None:
    torch.manual_seed(0)
    energy, counts = torch.rand(2, 30), torch.randint(0, 4, (2, 3, 30))
    energy[:, :5] = 0
    found = quantile(energy, counts.float(), 0.25, 1e-6)
    for n, k in np.ndindex(2, 3):
        several = energy[n].repeat_interleave(counts[n, k])
        several = several[several > 0]
        expected = np.quantile(several, 0.25, method="inverted_cdf")
        torch.testing.assert_close(found[n, k], torch.tensor(expected))


def test_luminance_lies_between_levels() -> None:
    grey = torch.tensor([[0.0, 0.1, 0.25, 0.6, 1.0, 1.2]])
    found = weights_at(grey)
    levels = torch.linspace(0, 1, LEVELS)
    torch.testing.assert_close(torch.einsum("nkp,k->np", found, levels), grey.clamp(0, 1))
    assert ((found > 0).sum(1) <= 2).all()


def scene() -> Tensor:
    """Dark to the left, bright to the right, in colours (1, 3, 96, 224)."""
    y, x = torch.meshgrid(torch.arange(96.0), torch.arange(224.0), indexing="ij")
    planes = [0.1 + 0.8 * x / 224 + 0.05 * torch.sin(0.1 * y + phase) for phase in (0, 1, 2)]
    return torch.stack(planes)[None]


def noisy(image: Tensor, even: float, growing: float) -> Tensor:
    """With noise of this deviation, and with noise in proportion to the light."""
    torch.manual_seed(0)
    first, second = (torch.randn_like(image) for _ in range(2))
    return image + even * first + growing * image * second


@pytest.mark.parametrize(("even", "growing"), ((0.1, 0.0), (0.02, 0.0), (0.0, 0.2), (0.05, 0.1)))
def test_how_strong_the_noise_is_at_each_luminance(even: float, growing: float) -> None:
    variance = NoiseFilter(3).levels(windows_of(noisy(scene(), even, growing)))[0]
    for level, found in zip(torch.linspace(0, 1, LEVELS)[1:-1], variance[:, 1:-1].T, strict=True):
        expected = even**2 + (growing * level) ** 2
        ratio = (found / expected).sqrt()
        assert ratio.min() > 0.75 and ratio.max() < 1.25


def test_margins_tell_of_no_noise() -> None:
    images = noisy(scene(), 0.1, 0.0).clamp(0, 1)
    framed = torch.nn.functional.pad(images, (64, 64), value=1.0)
    found = [NoiseFilter(3).levels(windows_of(image)) for image in (framed, images)]
    # of the brightest level the margins are a part
    torch.testing.assert_close(found[0][..., :-1], found[1][..., :-1], rtol=0.3, atol=0)


@pytest.mark.parametrize(("even", "growing"), ((0.15, 0.0), (0.0, 0.3)))
def test_noise_is_taken_away_by_its_share(even: float, growing: float) -> None:
    image, noise = scene(), NoiseFilter(3)
    degraded = noisy(image, even, growing)
    levels = noise.levels(windows_of(degraded))
    left = [
        (noise.mended(degraded, levels, torch.tensor([share])) - image).square().mean()
        for share in (0.0, 0.5, 1.0)
    ]
    torch.testing.assert_close(left[0], (degraded - image).square().mean())
    assert left[2] < 0.5 * left[1] < 0.25 * left[0]


def test_edges_above_the_noise_stay() -> None:
    image, noise = torch.full((1, 3, 64, 64), 0.3), NoiseFilter(3)
    image[..., 29:] = 0.7
    degraded = noisy(image, 0.03, 0.0)
    mended = noise.mended(degraded, noise.levels(windows_of(degraded)), torch.ones(1))
    step = (mended[..., 29] - mended[..., 28]).mean()
    assert 0.35 < step < 0.45
    assert (mended - image).square().mean() < 0.3 * (degraded - image).square().mean()


def test_at_first_no_noise_is_taken_away() -> None:
    noise, known = NoiseFilter(3), torch.randn(1, 3)
    assert noise.share(known) == 0
    images = noisy(scene(), 0.1, 0.0)
    mended = noise.mended(images, noise.levels(windows_of(images)), noise.share(known))
    torch.testing.assert_close(mended, images)


def test_beside_a_noisy_image_one_without_noise_is_as_alone() -> None:
    """Alone, it costs nothing; the pixels are the same."""
    noise, both = NoiseFilter(3), torch.cat([scene(), noisy(scene(), 0.1, 0.0)])
    variance, shares = noise.levels(windows_of(both)), torch.tensor([0.0, 0.8])
    alone = noise.mended(both[:1], variance[:1], shares[:1])
    assert alone is not both and torch.equal(alone, both[:1])
    mended = noise.mended(both, variance, shares)
    torch.testing.assert_close(mended[:1], alone, atol=1e-6, rtol=0)
    assert (mended[1] - both[1]).abs().max() > 0.05


def test_a_small_chance_is_none() -> None:
    noise, known = NoiseFilter(3), torch.randn(2, 3)
    with torch.no_grad():
        for chance, share in ((0.2, 0.0), (0.75, 0.0), (0.875, 0.5), (0.999, 0.996)):
            noise.asks[1].bias.fill_(torch.tensor(chance).logit() / 4)
            torch.testing.assert_close(noise.chance(known), torch.full((2,), chance))
            torch.testing.assert_close(noise.share(known), torch.full((2,), noise.most * share))


@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning", "ignore::DeprecationWarning")
def test_a_graph_recorded_on_an_image_without_noise_serves_noisy_ones() -> None:
    noise, images = NoiseFilter(3), noisy(scene(), 0.1, 0.0)
    levels = noise.levels(windows_of(images))
    given = (images, levels, torch.zeros(1))
    graph = torch.jit.trace(lambda *given: noise.mended(*given), given, check_trace=False)
    share = torch.full((1,), 0.8)
    torch.testing.assert_close(graph(images, levels, share), noise.mended(images, levels, share))
