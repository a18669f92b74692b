"""PixelFilter's frequency response against numpy and scipy."""

from typing import Any

import numpy as np
import pytest
import scipy.ndimage
import scipy.signal
import torch
from torch import Tensor

from vrdir_plug import Restorer, fourier, losses
from vrdir_plug.bands import inner
from vrdir_plug.degradations import gaussian_blur, glass_blur
from vrdir_plug.front import edges_in
from vrdir_plug.response import (
    REACH,
    SIDE,
    WINDOWS,
    FrequencyResponse,
    filtered_by,
    kernels_of,
    power_spectrum,
    tapered,
    wavelets,
    windows_of,
)


def moved() -> FrequencyResponse:
    torch.manual_seed(0)
    response = FrequencyResponse(4)
    with torch.no_grad():
        for parameter in response.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return response


def some_responses(images: Tensor) -> Tensor:
    with torch.no_grad():
        responses: Tensor = moved()(power_spectrum(windows_of(images)), torch.randn(len(images), 4))
    return responses


@pytest.mark.parametrize("size", ((150, 301), (224, 225), (5, 7), (1, 1)), ids=str)
def test_blocks_filter_as_one_convolution_does(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    wide = torch.rand(2, 3, *(side + 2 * REACH for side in size))
    responses = some_responses(wide)
    found = filtered_by(wide, responses)
    assert found.shape == (2, 3, *size) and (found - inner(wide, REACH)).abs().max() > 0.1
    for image, kernel, one in zip(wide, kernels_of(responses).numpy(), found, strict=True):
        for colour, plane in zip(image.numpy(), one, strict=True):
            expected = torch.from_numpy(scipy.signal.convolve(colour, kernel, "valid"))
            torch.testing.assert_close(plane, expected, atol=1e-4, rtol=1e-4)


def test_a_kernel_has_the_response_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    responses = some_responses(torch.rand(3, 3, 64, 96)).double()
    kernels = kernels_of(responses.float())
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(3))
    torch.testing.assert_close(kernels, kernels.flip(1, 2), atol=1e-6, rtol=0)
    expected = np.fft.fftshift(np.fft.ifft2(responses.numpy()).real, (1, 2))[:, 1:, 1:]
    expected[:, REACH, REACH] += 1 - expected.sum((1, 2))
    np.testing.assert_allclose(kernels.numpy(), expected, atol=1e-6, rtol=1e-5)


def test_responses_are_even_and_start_at_one() -> None:
    torch.manual_seed(0)
    images = torch.rand(2, 3, 70, 40)
    still = FrequencyResponse(4)(power_spectrum(windows_of(images)), torch.randn(2, 4))
    assert torch.equal(still, torch.ones(2, SIDE, SIDE))
    found = some_responses(images)
    assert found.shape == (2, SIDE, SIDE) and found.std() > 0.1 and found.min() > 0
    assert torch.equal(found[:, 0, 0], torch.ones(2))
    torch.testing.assert_close(found, found.flip(1, 2).roll((1, 1), (1, 2)))


def test_the_response_turns_with_the_image() -> None:
    """Nothing is known of directions but what the spectrum shows."""
    torch.manual_seed(0)
    response, known = moved(), torch.randn(1, 4)
    with torch.no_grad():
        for layer in response.looks:
            layer.weight.copy_((layer.weight + layer.weight.mT) / 2)
    images = scipy.ndimage.gaussian_filter1d(torch.rand(1, 3, 64, 64).numpy(), 2, axis=3)
    blurred = torch.from_numpy(images)
    found, turned = (response(power_spectrum(windows_of(x)), known) for x in (blurred, blurred.mT))
    torch.testing.assert_close(found.mT, turned, atol=1e-4, rtol=1e-4)
    assert (found - turned).abs().max() > 0.1


@pytest.mark.parametrize("size", ((224, 96), (65, 300), (20, 32)), ids=str)
def test_the_spectrum_is_that_of_numpy(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    images = torch.rand(1, 3, *size)
    grey = np.pad(images.mean(1)[0].numpy(), ((0, SIDE - 1),) * 2, mode="edge")
    hann = scipy.signal.get_window("hann", SIDE)
    powers = []
    for top, left in np.ndindex(WINDOWS, WINDOWS):
        top, left = (  # spread from one end to the other, from whole cells of four pixels on
            n * max(side - SIDE, 0) // (4 * (WINDOWS - 1)) * 4
            for n, side in zip((top, left), size, strict=True)
        )
        part = grey[top : top + SIDE, left : left + SIDE]
        part = (part - part.mean()) * np.outer(hann, hann)
        powers.append(np.abs(np.fft.fft2(part, norm="ortho")) ** 2)
    found = power_spectrum(windows_of(images))[0]
    np.testing.assert_allclose(found, np.mean(powers, 0), atol=1e-5, rtol=1e-3)


def test_wavelets_have_the_response_of_their_filters() -> None:
    image, levels = torch.zeros(64, 64).numpy(), []
    image[0, 0] = 1
    for step in (1, 2, 4):
        levels.append(image)
        kernel = np.zeros(2 * step + 1)
        kernel[[0, step, -1]] = 0.25, 0.5, 0.25
        for axis in (0, 1):
            image = scipy.ndimage.convolve1d(image, kernel, axis, mode="wrap")
    levels.append(image)
    bands = -np.diff(np.stack(levels), axis=0)
    expected = np.fft.fft2(bands).real[:, ::2, ::2]  # every second frequency of twice as many
    np.testing.assert_allclose(wavelets((1, 2, 4), torch.device("cpu")), expected, atol=1e-6)


def test_transforms_by_products_are_the_fast_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    torch.manual_seed(0)
    planes, kernels = torch.randn(2, 3, 12, 12), torch.randn(2, 1, 12, 12)
    fast = fourier.power(planes), fourier.convolved(planes, kernels)
    for plane, kernel, found in zip(planes, kernels, fast[1], strict=True):
        expected = scipy.ndimage.convolve(plane.numpy(), kernel.roll((6, 6), (1, 2)), mode="wrap")
        np.testing.assert_allclose(found, expected, atol=1e-4)
    monkeypatch.setattr(fourier, "exporting", lambda: True)
    by_products: Any = fourier.power(planes), fourier.convolved(planes, kernels)
    torch.testing.assert_close(by_products, fast, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("ragged", (False, True))
def test_the_loss_of_a_response_is_least_at_that_which_recognisers_want(ragged: bool) -> None:
    """Amplitudes of a clean image, but Wiener's filter where nothing is coherent any more."""
    torch.manual_seed(0)
    clean = torch.rand(2, 3, 96, 96)
    degraded = torch.from_numpy(scipy.ndimage.gaussian_filter(clean.numpy(), (0, 0, 0.8, 0.8)))
    degraded = degraded + 0.02 * torch.randn(2, 3, 96, 96)
    if ragged:
        degraded = 0.1 * degraded + 0.5 * torch.rand(2, 3, 96, 96)
    windows = tapered(windows_of(degraded)), tapered(windows_of(clean))

    def loss(response: Tensor, share: float) -> Tensor:
        target = losses.response_target(*windows, 3.5)
        return losses.response_loss(response, *target, torch.full((2,), share))

    one = torch.ones(2, SIDE, SIDE)
    wanted, given = (np.fft.fft2(w.numpy()) for w in (windows[1], windows[0]))
    cross = (wanted * given.conj()).mean(1)
    clean_power, power = ((np.abs(f) ** 2).mean(1) for f in (wanted, given))
    wiener, equal = cross / power, np.sqrt(clean_power / power)
    expected = wiener.real if ragged else np.abs(wiener) ** 0.25 * equal**0.75
    best = torch.from_numpy(expected.clip(0.1, 3.5)).float()
    best[:, 0, 0] = 1
    wrong = [float(loss(response, 1)) for response in (best, 1.1 * best, 0.9 * best, one)]
    assert 10 * wrong[0] < min(wrong[1:3]) and max(wrong[1:3]) < wrong[3]
    # where nothing can be filtered, the best is to do nothing
    assert float(loss(one, 0)) == pytest.approx(0.01 * losses.CARE)
    assert float(loss(best, 0)) > 0.1
    assert float(loss(best, 0.5)) == 0


@pytest.mark.parametrize("stride", (4, 8))
def test_how_far_edges_have_one_direction(stride: int) -> None:
    """By numpy's eigenvalues of the structure tensor of four slopes of a cell."""
    torch.manual_seed(0)
    grey = torch.rand(2, 1, 16, 24)
    found = edges_in(grey, stride)
    assert found.shape == (2, 2, 16 // stride, 24 // stride)
    for n, y, x in np.ndindex(2, 16 // stride, 24 // stride):
        cell = grey[n, 0, y * stride :, x * stride :][:4, :4].numpy()
        across, down = np.diff(cell, axis=1), np.diff(cell, axis=0)
        across = (across[:-1] + across[1:])[::2, ::2] / 2
        down = (down[:, :-1] + down[:, 1:])[::2, ::2] / 2
        slopes = np.stack([across.ravel(), down.ravel()])
        low, high = np.linalg.eigvalsh(slopes @ slopes.T)
        np.testing.assert_allclose(found[n, :, y, x], (high - low, high + low), rtol=1e-4)


def test_glass_makes_edges_ragged() -> None:
    """What the blur of a lens makes one, ripples leave apart, at the same sharpness or less."""
    torch.manual_seed(0)
    clean = torch.rand(4, 3, 6, 6).repeat_interleave(32, 2).repeat_interleave(32, 3)
    severity = torch.full((4,), 3.0)
    pixel_filter = Restorer("fast").pixel_filter
    coherence = []
    for kind in (gaussian_blur, glass_blur):
        images = kind(clean, severity, torch.Generator().manual_seed(0))
        means, _ = pixel_filter.statistics(images, torch.zeros_like(images))
        coherence.append(pixel_filter.known_of(means)[:, -2:])
    assert (coherence[0] > coherence[1] + 0.1).all()
