"""DefocusFilter against scipy, and on a scene that was out of focus."""

import numpy as np
import pytest
import scipy.special
import torch
import torch.nn.functional as F
from skimage.data import rocket
from torch import Tensor

from vrdir_plug import Restorer, losses
from vrdir_plug.corruptions import CORRUPTIONS
from vrdir_plug.defocus import (
    RADII,
    REACH,
    RIM,
    RINGS,
    SIDE,
    WHOLES,
    DefocusFilter,
    Disc,
    discs_left,
    radii_on,
    rings_of,
)
from vrdir_plug.degradations import convolve, discs
from vrdir_plug.fourier import power
from vrdir_plug.motion import FLOOR, windows_on
from vrdir_plug.motion import SIDE as SEEN
from vrdir_plug.tiling import Tiled
from vrdir_plug.zoom import lengths_of


def scene() -> Tensor:
    """A photograph (1, 3, 224, 224)."""
    pixels = torch.from_numpy(np.ascontiguousarray(rocket()[:, 106:533]))
    return F.interpolate(pixels.permute(2, 0, 1)[None] / 255, (224, 224), mode="area")


def unfocused(image: Tensor, severity: int = 3) -> Tensor:
    return CORRUPTIONS["defocus_blur"](image, severity, [torch.Generator()])


@pytest.fixture(scope="module")
def shipped() -> DefocusFilter:
    found: DefocusFilter = Restorer.from_pretrained("fast").float().defocus_filter
    return found


def test_rings_are_means_of_the_spectrum() -> None:
    torch.manual_seed(0)
    planes = torch.randn(2, 4, SEEN, SEEN)
    found = rings_of(power(planes)).numpy()
    assert found.shape == (2, RINGS)
    along = np.fft.fftfreq(SEEN, 1 / SEEN)
    distance = np.rint(np.hypot(along[:, None], along))
    level = np.log(np.mean(np.abs(np.fft.fft2(planes.numpy(), norm="ortho")) ** 2, 1) + FLOOR)
    for ring in range(1, RINGS + 1):
        np.testing.assert_allclose(
            found[:, ring - 1], level[:, distance == ring].mean(1), atol=1e-4
        )


def test_radii_are_those_of_the_table() -> None:
    found = radii_on(torch.device("cpu"))
    torch.testing.assert_close(found, torch.tensor([*RADII, *WHOLES, 0.0]))


def test_a_disc_leaves_what_bessels_function_says() -> None:
    """2 J1(2 pi R f) / (2 pi R f), times its soft rim; of whole pixels what numpy's FFT says."""
    found = discs_left(torch.device("cpu")).numpy()
    assert found.shape == (len(RADII) + len(WHOLES) + 1, SIDE, SIDE)
    assert (found[-1] == 1).all() and np.allclose(found[:, 0, 0], 1)
    along = np.fft.fftfreq(SIDE)
    cycles = np.hypot(along[:, None], along) + 1e-9
    soft = np.exp(-2 * (np.pi * RIM * cycles) ** 2)
    turns = 2 * np.pi * np.array(RADII)[:, None, None] * cycles
    expected = 2 * scipy.special.j1(turns) / turns * soft
    np.testing.assert_allclose(found[: len(RADII)], expected, atol=0.02)
    for radius, left in zip(WHOLES, found[len(RADII) :], strict=False):
        here = np.hypot(along[:, None], along) * SIDE <= radius
        np.testing.assert_allclose(left, np.fft.fft2(here / here.sum()).real * soft, atol=1e-5)


@pytest.mark.parametrize("number", (4, len(RADII) + 4))
def test_the_inverse_of_a_known_disc_is_that_of_wiener(number: int) -> None:
    model, noise = DefocusFilter(), 0.01
    chances = torch.zeros(1, len(RADII) + len(WHOLES) + 1)
    chances[0, number] = 1
    planes = torch.zeros(1, 1, SEEN, SEEN)  # not looked at
    disc = Disc(chances, torch.tensor([noise]), torch.ones(1))
    kernel = model.kernels(planes, disc)[0].double()
    assert kernel.shape == (2 * REACH + 1, 2 * REACH + 1)
    assert float(kernel.sum()) == pytest.approx(1, abs=1e-4)
    left = discs_left(torch.device("cpu"))[number].double().numpy()
    wiener = np.fft.ifft2((1 + noise) * left / (left**2 + noise)).real
    expected = np.roll(wiener, (REACH, REACH), (0, 1))[:-1, :-1]
    expected[REACH, REACH] += 1 - expected.sum()  # of what is of no side
    np.testing.assert_allclose(kernel.numpy(), expected, atol=1e-3)
    # no share, no change
    nothing = model.kernels(planes, disc._replace(share=torch.zeros(1)))[0]
    middle = F.pad(torch.ones(1, 1), (REACH,) * 4)
    torch.testing.assert_close(nothing, middle, atol=1e-4, rtol=0)


def test_noise_is_told_by_the_corners_of_the_spectrum(shipped: DefocusFilter) -> None:
    torch.manual_seed(0)
    blurred = unfocused(scene())
    noisy = blurred + torch.tensor([0.0, 0.02]).view(2, 1, 1, 1) * torch.randn(2, 3, 224, 224)
    with torch.no_grad():
        found = shipped.seen_in(windows_on(noisy).spectrum, lengths_of(noisy)).noise
    least, more = shipped.noise
    assert found[0] == pytest.approx(least + 216 * more, rel=0.15)
    # a Hann window keeps 3/8 of a power along each side, the mean of three colours a third
    expected = float(found[0]) + (3 / 8) ** 2 * 0.02**2 / 3 / shipped.fine
    assert float(found[1]) == pytest.approx(expected, rel=0.1)


def test_at_first_nothing_is_out_of_focus() -> None:
    images = torch.cat([scene(), unfocused(scene())])
    assert torch.equal(DefocusFilter()(images), images)


# of a small disc most of the error left is at the edges, where a filter looks beyond the image
@pytest.mark.parametrize(("severity", "most"), ((1, 1.0), (3, 0.6)))
def test_a_scene_is_brought_into_focus_and_others_are_left(
    shipped: DefocusFilter, severity: int, most: float
) -> None:
    clean = scene()
    blurred = unfocused(clean, severity)
    noisy = CORRUPTIONS["gaussian_noise"](clean, 3, [torch.Generator().manual_seed(0)])
    with torch.no_grad():
        left = shipped(torch.cat([clean, noisy]))
        found = shipped(blurred)
    assert torch.equal(left, torch.cat([clean, noisy]))
    before, after = ((images - clean).square().mean() for images in (blurred, found))
    assert after < most * before


def test_the_radius_is_that_of_the_disc(shipped: DefocusFilter) -> None:
    torch.manual_seed(0)
    images, generator = scene().repeat(8, 1, 1, 1), torch.Generator().manual_seed(3)
    radius, kernels = discs(images, generator)
    blurred = (convolve(images, kernels) * 255).round() / 255
    with torch.no_grad():
        chances = shipped.seen_in(windows_on(blurred).spectrum, lengths_of(blurred)).chances
    found = chances[:, :-1] @ torch.tensor(RADII + WHOLES) / chances[:, :-1].sum(1)
    seen = chances[:, -1] < 0.5
    assert seen.sum() >= 6
    assert ((found - radius)[seen].abs() < 0.5).all()


def test_an_image_smaller_than_a_window_is_left(shipped: DefocusFilter) -> None:
    image = unfocused(scene())[..., :40, :].contiguous()
    assert torch.equal(shipped(image), image)


def test_discs_are_round_and_of_the_radius_they_tell() -> None:
    radius, kernels = discs(torch.rand(32, 3, 8, 8), torch.Generator().manual_seed(0))
    torch.testing.assert_close(kernels.sum((1, 2)), torch.ones(32))
    torch.testing.assert_close(kernels, kernels.mT)
    steps = torch.arange(kernels.shape[1]) - kernels.shape[1] // 2
    spread = (kernels * (steps[:, None].square() + steps.square())).sum((1, 2)).sqrt()
    # of a disc the radius over the root of two, and a soft rim adds to it
    assert ((spread * 2**0.5 - radius).abs() < 0.9).all()


def test_the_loss_is_least_at_the_radius() -> None:
    known = torch.tensor(RADII), torch.tensor(WHOLES)
    scores = -5 * (torch.tensor(RADII + WHOLES) - 4.1).square()[None]
    scores = torch.cat([scores, torch.tensor([[-5.0]])], 1)
    found = [float(losses.disc_loss(scores, torch.tensor([r]), *known)) for r in (3.1, 4.1)]
    assert found[1] < found[0]
    # one of whole pixels, and none, are what they are
    for radius, place in ((3.0, len(RADII) + 1), (0.0, len(RADII) + len(WHOLES))):
        expected = F.cross_entropy(scores, torch.tensor([place]))
        value = losses.disc_loss(scores, torch.tensor([radius]), *known)
        torch.testing.assert_close(value, expected)


def test_tiles_equal_the_whole() -> None:
    restorer = Restorer.from_pretrained("fast")
    image = unfocused(scene())
    with torch.no_grad():
        expected = restorer(image)
        tiled = Tiled(restorer, side=64, above=0)(image)
    torch.testing.assert_close(tiled, expected, atol=1e-3, rtol=0)
