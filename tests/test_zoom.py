"""ZoomFilter against scikit-image, scipy and numpy, and on scenes that were zoomed."""

import math

import numpy as np
import pytest
import scipy.ndimage
import torch
from skimage.data import astronaut
from skimage.transform import warp_polar
from torch import Tensor

from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.zoom import (
    BINS,
    REACH,
    SIDE,
    STEP,
    TURN,
    ZoomFilter,
    along_rays,
    lengths_of,
    log_polar,
    profiles_in,
    ray_power,
    taps_of,
)


def scene() -> Tensor:
    """A photograph (1, 3, 224, 224)."""
    pixels = np.ascontiguousarray(astronaut()[100:324, 100:324])
    return torch.from_numpy(pixels).permute(2, 0, 1)[None] / 255


def zoomed(image: Tensor, severity: int = 3) -> Tensor:
    return CORRUPTIONS["zoom_blur"](image, severity, [torch.Generator().manual_seed(0)])


def asking(logarithm: float, first: int = 0) -> ZoomFilter:
    """A ZoomFilter that asks for as much at all frequencies of all images, from the first on."""
    network = ZoomFilter()
    with torch.no_grad():
        network.asks[1].bias[first:] = logarithm
    return network


@pytest.mark.parametrize("size", ((60, 60), (48, 81)), ids=str)
def test_rays_are_the_log_polar_map(size: tuple[int, int]) -> None:
    y, x = torch.meshgrid(*(torch.arange(float(n)) for n in size), indexing="ij")
    image = (0.5 + 0.3 * torch.sin(0.11 * x + 0.07 * y))[None, None].repeat(1, 3, 1, 1)
    found = log_polar(image, lengths_of(image))[0]
    assert found.shape == (TURN, SIDE)
    # a column of scikit-image's is at radius exp(column / columns * log(radius)), so ours is, too,
    # on another scale: compare where both are, at the radii between columns of ours
    radius = min(size) / 2
    middle = tuple((n - 1) / 2 for n in size)
    columns = 4096
    theirs = warp_polar(
        *(image[0, 0].numpy(),),
        center=middle,
        radius=radius,
        output_shape=(TURN, columns),
        scaling="log",
        mode="edge",
    )
    radii = radius * np.exp(STEP * (np.arange(SIDE) - SIDE + 0.5))
    at = np.log(radii) / np.log(radius) * columns
    expected = theirs[:, np.round(at).astype(int).clip(0, columns - 1)]
    np.testing.assert_allclose(found, expected, atol=0.01)


def test_gains_are_what_the_taps_do_to_frequencies() -> None:
    torch.manual_seed(0)
    logarithms = 0.2 * torch.rand(3, 1).expand(-1, BINS) * torch.linspace(0, 1, BINS)
    taps = taps_of(logarithms).double().numpy()
    np.testing.assert_allclose(taps.sum(1), 1, atol=1e-6)
    np.testing.assert_allclose(taps, taps[:, ::-1])
    padded = np.pad(taps, ((0, 0), (0, SIDE - taps.shape[1])))
    response = np.abs(np.fft.rfft(padded, axis=1))[:, 1:]
    # the window smooths over some frequencies, of which the last has no one behind it
    np.testing.assert_allclose(response[:, 3:-3], logarithms.exp().numpy()[:, 3:-3], rtol=0.02)


def test_copies_are_enlarged_and_diminished_about_the_middle() -> None:
    torch.manual_seed(0)
    image, gains = torch.rand(2, 1, 20, 33), torch.rand(2, BINS)
    pixels = [torch.arange(n) for n in image.shape[2:]]
    found = along_rays(image, pixels, lengths_of(image), gains)
    middle = [(n - 1) / 2 for n in image.shape[2:]]
    for plane, taps, result in zip(image[:, 0].numpy(), taps_of(gains), found[:, 0], strict=True):
        expected = np.zeros(plane.shape)
        for step, weight in zip(range(-REACH, REACH + 1), taps.tolist(), strict=True):
            sides = (
                m + math.exp(step * STEP) * (np.arange(n) - m)
                for m, n in zip(middle, plane.shape, strict=True)
            )
            places = np.meshgrid(*sides, indexing="ij")
            expected += weight * scipy.ndimage.map_coordinates(
                plane.astype(float), places, order=1, mode="nearest"
            )
        np.testing.assert_allclose(result, expected, atol=1e-4)


def test_some_rows_and_columns_are_those_of_the_whole() -> None:
    torch.manual_seed(0)
    image, gains = torch.rand(1, 1, 24, 36), torch.rand(1, BINS)
    whole = lengths_of(image)
    everything = along_rays(image, [torch.arange(24), torch.arange(36)], whole, gains)
    rows, columns = torch.tensor([3, 4, 20]), torch.tensor([0, 35])
    part = along_rays(image, [rows, columns], whole, gains)
    torch.testing.assert_close(part, everything[:, :, rows][..., columns], atol=1e-5, rtol=0)


def test_of_a_part_the_edge_is_repeated() -> None:
    """As of an image that was padded to whole cells."""
    torch.manual_seed(0)
    part = torch.rand(1, 3, 22, 33)
    image = torch.nn.functional.pad(part, (0, 3, 0, 2), mode="replicate")
    whole = lengths_of(image)
    torch.testing.assert_close(log_polar(part, whole), log_polar(image, whole))
    pixels, gains = [torch.arange(24), torch.arange(36)], torch.rand(1, BINS)
    found, expected = (along_rays(i[:, :1], pixels, whole, gains) for i in (part, image))
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=0)


def ratio(image: Tensor) -> Tensor:
    """How much less power there is along the rays than across them (BINS,), a logarithm."""
    along, across = profiles_in(image)[0, :, 0]
    return along - across


def test_a_zoom_takes_of_the_rays_and_a_defocus_of_all() -> None:
    image = scene()
    defocused = CORRUPTIONS["defocus_blur"](image, 3, [torch.Generator().manual_seed(0)])
    zoom, defocus = (ratio(seen) - ratio(image) for seen in (zoomed(image), defocused))
    assert zoom[4:].mean() < -2 and defocus[4:].mean().abs() < 0.7


def test_a_spectrum_turns_with_its_image() -> None:
    image = scene()
    first, second = (ray_power(log_polar(i, lengths_of(i))) for i in (image, image.flip(2, 3)))
    torch.testing.assert_close(first, second, rtol=1e-3, atol=1e-6)


def test_what_a_zoom_took_of_the_rays_is_given_back() -> None:
    image = scene()
    blurred = zoomed(image)
    found = asking(1.2, first=4)(blurred)[0]
    before, after = ((ratio(i) - ratio(image))[4:20].abs().mean() for i in (blurred, found))
    assert after < 0.6 * before


def test_colours_keep_their_differences() -> None:
    image = scene()
    found = asking(0.8)(image)[0]
    assert (found - image).abs().max() > 0.05
    differences = (pixels.diff(dim=1) for pixels in (found, image))
    torch.testing.assert_close(*differences, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("asked", "share"), ((0.3, 0.0), (0.425, 0.5), (0.6, 1.0), (9.0, None)))
def test_what_loses_little_is_left_as_it_is(asked: float, share: float | None) -> None:
    network, image = asking(asked), scene()
    gains = network.gains(profiles_in(image))
    expected = ZoomFilter.most if share is None else share * asked
    torch.testing.assert_close(gains, torch.full((1, BINS), expected), atol=1e-5, rtol=1e-4)
    if share == 0:
        assert torch.equal(network(image)[0], image)


def test_at_first_nothing_is_done() -> None:
    image = scene()
    found, gains = ZoomFilter()(torch.cat([image, zoomed(image)]))
    assert torch.equal(found, torch.cat([image, zoomed(image)])) and not gains.any()
