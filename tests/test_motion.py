"""MotionFilter against numpy and scipy, and on scenes that were moved."""

import math
from unittest.mock import Mock

import numpy as np
import pytest
import scipy.signal
import torch
import torch.nn.functional as F
from skimage.data import rocket
from torch import Tensor

from vrdir_plug import Restorer, losses
from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.degradations import convolve, moving_kernels
from vrdir_plug.fourier import power
from vrdir_plug.motion import (
    ANGLES,
    BINS,
    DIAGONAL,
    FLOOR,
    REACH,
    SIDE,
    MotionFilter,
    Move,
    inverse,
    least_phase,
    profiles_of,
    windows_on,
)
from vrdir_plug.zoom import lengths_of


def scene() -> Tensor:
    """A photograph (1, 3, 224, 224)."""
    pixels = torch.from_numpy(np.ascontiguousarray(rocket()[:, 106:533]))
    return F.interpolate(pixels.permute(2, 0, 1)[None] / 255, (224, 224), mode="area")


def moved(image: Tensor) -> Tensor:
    return CORRUPTIONS["motion_blur"](image, 3, [torch.Generator().manual_seed(1)])


@pytest.fixture(scope="module")
def shipped() -> MotionFilter:
    found: MotionFilter = Restorer.from_pretrained("fast").float().motion_filter
    return found


def fading(length: float = 5.0) -> Tensor:
    """What is left of the amplitudes along a move that fades: logarithms (1, BINS)."""
    taps = np.exp(-np.arange(SIDE) / length)
    amplitudes = np.abs(np.fft.fft(taps / taps.sum()))[1 : BINS + 1]
    return torch.from_numpy(np.log(amplitudes))[None].float()


def test_profiles_are_means_of_the_spectrum_across_each_direction() -> None:
    torch.manual_seed(0)
    planes = torch.randn(1, 4, SIDE, SIDE)
    level = np.log(np.mean(np.abs(np.fft.fft2(planes[0].numpy(), norm="ortho")) ** 2, 0) + FLOOR)
    found = profiles_of(power(planes))[0]
    assert found.shape == (3, ANGLES, BINS)
    across = np.arange(-BINS + 1, BINS, 2)
    steps = np.arange(1, BINS + 1)
    for turn, rows in ((0, level.T), (ANGLES // 2, level)):  # along x, then along y
        for part, (low, high) in enumerate(((0, 5), (6, 14), (15, 31))):
            chosen = across[(abs(across) >= low) & (abs(across) <= high)]
            expected = rows[steps % SIDE][:, chosen % SIDE].mean(1)
            np.testing.assert_allclose(found[part, turn], expected, atol=1e-3)
    slanted = profiles_of(power(planes.mT))[0]  # the other way round: 90 degrees less the angle
    order = (ANGLES // 2 - np.arange(ANGLES)) % ANGLES
    np.testing.assert_allclose(slanted[:, order], found, atol=1e-3)


def test_the_least_phase_is_that_of_scipy() -> None:
    """A filter of least phase has the phase that `scipy.signal.minimum_phase` gives it."""
    taps = np.exp(-np.arange(2 * DIAGONAL) / 3.0)
    spectrum = np.fft.rfft(taps / taps.sum())
    logarithms = np.log(np.abs(spectrum[1 : BINS + 1]))
    found = least_phase(torch.from_numpy(logarithms)[None].float())[0].numpy()
    assert found.shape == (DIAGONAL + 1,)
    amplitudes = np.exp(np.r_[0, logarithms, np.repeat(logarithms[-1], DIAGONAL - BINS)])
    squared = np.fft.fftshift(np.fft.irfft(amplitudes**2))[1:]
    theirs = scipy.signal.minimum_phase(squared.astype(float), n_fft=2**14)
    expected = np.angle(np.fft.rfft(theirs, 2 * DIAGONAL))
    np.testing.assert_allclose(found, expected, atol=0.02)


@pytest.mark.parametrize("angle", (0.0, 0.4, 2.5))
def test_the_inverse_takes_a_known_move_back(angle: float) -> None:
    """A move that fades, convolved with its inverse, is a point."""
    left = fading()
    move = Move(torch.tensor([angle]), left, -left, torch.ones(1))
    kernel = inverse(move)[0].double().numpy()
    assert kernel.shape == (2 * REACH + 1, 2 * REACH + 1)
    assert kernel.sum() == pytest.approx(1, abs=1e-5)
    if angle:
        turned = inverse(move._replace(angle=torch.tensor([angle + math.pi])))[0]
        np.testing.assert_allclose(turned.numpy(), kernel[::-1, ::-1], atol=1e-4)
        return
    taps = np.exp(-np.arange(SIDE) / 5.0)
    back = scipy.signal.convolve(kernel.sum(0), taps / taps.sum())
    assert back.argmax() == REACH and back[REACH] > 0.9
    assert np.abs(np.delete(back, REACH)).max() < 0.1


def test_at_first_nothing_is_moved() -> None:
    images = torch.cat([scene(), moved(scene())])
    assert torch.equal(MotionFilter()(images), images)


def test_a_moved_scene_is_brought_back_and_others_are_left(shipped: MotionFilter) -> None:
    clean = scene()
    blurred = CORRUPTIONS["defocus_blur"](clean, 3, [torch.Generator()])
    with torch.no_grad():
        left = shipped(torch.cat([clean, blurred]))
        found = shipped(moved(clean))
    assert torch.equal(left, torch.cat([clean, blurred]))
    before, after = ((images - clean).square().mean() for images in (moved(clean), found))
    assert after < 0.3 * before


@pytest.mark.parametrize("turn", (0, 1, 2, 3))
def test_which_end_was_first_does_not_matter(shipped: MotionFilter, turn: int) -> None:
    clean = scene()
    image = moved(clean.rot90(turn, (2, 3)).contiguous()).rot90(-turn, (2, 3)).contiguous()
    with torch.no_grad():
        found = shipped(image)
    assert (found - clean).square().mean() < 0.4 * (image - clean).square().mean()


def test_the_angle_is_that_of_the_move(shipped: MotionFilter) -> None:
    torch.manual_seed(0)
    images, generator = scene().repeat(8, 1, 1, 1), torch.Generator().manual_seed(3)
    angle, kernels = moving_kernels(images, generator)
    blurred = (convolve(images, kernels) * 255).round() / 255
    with torch.no_grad():
        move = shipped.seen_in(windows_on(blurred).spectrum, lengths_of(blurred))
    off = (move.angle - angle + math.pi / 2).remainder(math.pi) - math.pi / 2
    assert (move.share > 0.5).sum() >= 6
    assert (off[move.share > 0.5].abs() < math.radians(6)).all()


def test_half_of_the_moves_are_by_whole_pixels() -> None:
    """As ImageMagick makes them: no pixel has a part that is not the nearest to a step."""
    angle, kernels = moving_kernels(torch.rand(64, 3, 8, 8), torch.Generator().manual_seed(0))
    steps = torch.arange(kernels.shape[1]) - kernels.shape[1] // 2
    x, y = (turn[:, None, None] for turn in (angle.cos(), angle.sin()))
    off = (steps[:, None] * x - steps * y).abs() * (kernels > 0)
    wholes = off.flatten(1).amax(1) < math.sqrt(0.5) + 1e-3
    assert 20 < wholes.sum() < 44


def test_a_move_begins_in_the_middle_and_is_as_long_as_it_is_asked_to_be() -> None:
    like = torch.rand(64, 3, 8, 8)
    for length, least, most in ((-1.0, 0, 1), (0.0, 0.5, 6), (1.0, 4, 30)):
        asked = torch.full((64, 1, 1), length)
        angle, kernels = moving_kernels(like, torch.Generator().manual_seed(0), asked)
        steps = torch.arange(kernels.shape[1]) - kernels.shape[1] // 2
        x, y = (turn[:, None, None] for turn in (angle.cos(), angle.sin()))
        along = steps * x + steps[:, None] * y
        assert (kernels[along < -1.5] < 1e-3).all()
        far = (kernels * along).sum((1, 2))
        assert (far >= least - 0.5).all() and (far <= most).all()


def test_an_image_that_did_not_move_is_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """By both filters; what MotionFilter mends shows another spectrum."""
    restorer = Restorer.from_pretrained("fast").float()
    images = scene(), moved(scene())
    with torch.no_grad():
        expected = [restorer.defocus_filter(restorer.motion_filter(image)) for image in images]
    looks = Mock(wraps=windows_on)
    for module in ("motion", "restorer"):
        monkeypatch.setattr(f"vrdir_plug.{module}.windows_on", looks)
    for image, one, count in zip(images, expected, (1, 3), strict=True):
        with torch.no_grad():
            assert torch.equal(restorer.sharpened(image)[0], one)
        assert looks.call_count == count


def test_an_image_smaller_than_a_window_is_left(shipped: MotionFilter) -> None:
    image = moved(scene())[..., :40, :].contiguous()
    assert torch.equal(shipped(image), image)


def test_half_a_share_is_half_the_change(shipped: MotionFilter) -> None:
    image = moved(scene())
    with torch.no_grad():
        planes, spectrum = windows_on(image)
        move = shipped.seen_in(spectrum, lengths_of(image))
        whole = shipped.kernels(planes, move._replace(share=torch.ones(1)))
        half = shipped.kernels(planes, move._replace(share=torch.full((1,), 0.5)))
    middle = F.pad(torch.ones(1, 1, 1), (REACH,) * 4)
    torch.testing.assert_close(half, (whole + middle) / 2)


def test_the_target_is_what_a_kernel_leaves_and_wieners_filter_of_it() -> None:
    torch.manual_seed(0)
    like = torch.zeros(6, 3, 8, 8)
    angle, kernels = moving_kernels(like, torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(6))
    noise, level = torch.rand(6) * 0.05, torch.randn(6, ANGLES, BINS)
    found = losses.move_target(level, angle, kernels, noise).numpy()
    steps = np.arange(kernels.shape[1]) - kernels.shape[1] // 2
    for n in range(6):
        turn = float(angle[n])
        way = steps * math.cos(turn) + steps[:, None] * math.sin(turn)
        waves = np.exp(-2j * np.pi * np.arange(1, BINS + 1)[:, None, None] / SIDE * way)
        left = np.abs((kernels[n].numpy() * waves).sum((1, 2)))
        power = level[n, round(turn / math.pi * ANGLES) % ANGLES].exp().numpy()
        hann = np.mean(scipy.signal.windows.hann(SIDE, sym=False) ** 2) ** 2
        gains = left / (left**2 + 3e-3 + hann * float(noise[n]) ** 2 / 3 / power)
        expected = np.log(np.r_[left, gains].clip(0.03))
        np.testing.assert_allclose(found[n], expected, atol=2e-3)


def test_the_loss_is_least_where_the_move_is() -> None:
    wanted = torch.cat([fading(), -fading()], 1)
    angle, moves = torch.tensor([math.pi / 4]), torch.tensor([True])

    def loss(place: int, along: Tensor, there: Tensor = moves) -> float:
        scores = torch.zeros(1, ANGLES + 1)
        scores[:, place] = 9
        return float(
            losses.move_loss(scores, along[:, None].repeat(1, ANGLES, 1), angle, wanted, there)
        )

    right = loss(ANGLES // 4, wanted)
    assert right < min(loss(0, wanted), loss(ANGLES // 4, wanted + 0.5), loss(ANGLES, wanted))
    still = torch.tensor([False])
    assert loss(ANGLES, 0 * wanted, still) < 0.1 < loss(ANGLES // 4, wanted, still)
