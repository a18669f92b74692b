import io

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from skimage.color import rgb2xyz
from skimage.data import astronaut
from skimage.morphology import disk
from torch import Tensor

from vrdir_plug.corruptions import CORRUPTIONS, FULL_WELL, READ_NOISE, plasma_fractal

SEVERITIES = (1, 2, 3, 4, 5)
LEVEL = 1 / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph() -> Tensor:
    """(3, 224, 224): the astronaut's face and suit."""
    pixels = np.ascontiguousarray(astronaut()[:224, 100:324])
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255.0


def grey(value: float, size: int = 224) -> Tensor:
    return torch.full((3, size, size), value)


def corrupted(name: str, image: Tensor, severity: int, seed: int = 0) -> np.ndarray:
    return CORRUPTIONS[name](image, severity, seeded(seed)).double().numpy()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_result_has_shape_dtype_range_and_8_bit_levels(name: str, severity: int) -> None:
    image = photograph()
    before = image.clone()
    result = CORRUPTIONS[name](image, severity, seeded())
    assert result.shape == image.shape and result.dtype == image.dtype
    assert result.min() >= 0 and result.max() <= 1
    torch.testing.assert_close(result * 255, (result * 255).round(), atol=1e-4, rtol=0)
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_severity_5_damages_more_than_severity_1(name: str) -> None:
    mild, severe = (corrupted(name, photograph(), severity) for severity in (1, 5))
    image = photograph().numpy()
    assert 0 < np.square(mild - image).mean() < np.square(severe - image).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_generator_alone_decides_the_randomness(name: str) -> None:
    first = corrupted(name, photograph(), 3, seed=1)
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, corrupted(name, photograph(), 3, seed=1))
    random = name in {"gaussian_noise", "fog", "low_light"}
    assert random != np.array_equal(first, corrupted(name, photograph(), 3, seed=2))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (33, 65)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    result = CORRUPTIONS[name](torch.rand(3, *size, generator=seeded()), 5, seeded())
    assert result.shape == (3, *size) and result.isfinite().all()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", [0, 6, -1])
def test_unknown_severity_is_refused(name: str, severity: int) -> None:
    with pytest.raises(ValueError, match="1, 2, 3, 4 or 5"):
        CORRUPTIONS[name](photograph(), severity, seeded())


@pytest.mark.parametrize(
    "image",
    [
        torch.rand(1, 8, 8),
        torch.rand(2, 3, 8, 8),
        torch.rand(3, 0, 8),
        torch.zeros(3, 8, 8, dtype=torch.uint8),
        torch.full((3, 8, 8), 255.0),
        torch.full((3, 8, 8), torch.nan),
    ],
    ids=["grey", "batch", "empty", "integer", "0 to 255", "NaN"],
)
def test_other_images_are_refused(image: Tensor) -> None:
    with pytest.raises(ValueError, match="expected one RGB image"):
        CORRUPTIONS["contrast"](image, 1, seeded())


@pytest.mark.parametrize(
    ("severity", "sigma"), tuple(zip(SEVERITIES, (0.08, 0.12, 0.18, 0.26, 0.38), strict=True))
)
@pytest.mark.parametrize("value", [0.2, 0.5])
def test_gaussian_noise_has_the_moments_of_a_clipped_normal(
    severity: int, sigma: float, value: float
) -> None:
    clipped = scipy.stats.norm(value, sigma)
    mean, square = (clipped.expect(lambda x, p=p: np.clip(x, 0, 1) ** p) for p in (1, 2))
    noisy = corrupted("gaussian_noise", grey(value), severity)
    # Truncation to 8 bits lowers every value by half a level on average.
    assert noisy.mean() == pytest.approx(mean - LEVEL / 2, abs=0.003)
    assert noisy.std() == pytest.approx(np.sqrt(square - mean**2), rel=0.01)
    inner = noisy[:, :, 1:] - noisy.mean()
    assert abs((inner * (noisy[:, :, :-1] - noisy.mean())).mean() / noisy.var()) < 0.01


@pytest.mark.parametrize(
    ("severity", "radius", "alias_blur", "cut"),
    [(1, 3, 0.1, 1), (2, 4, 0.5, 1), (3, 6, 0.5, 1), (4, 8, 0.5, 1), (5, 10, 0.5, 2)],
)
def test_defocus_blur_is_scipys_convolution_with_scikit_images_disk(
    severity: int, radius: int, alias_blur: float, cut: int
) -> None:
    aperture = disk(radius, dtype=float)
    aperture = np.pad(aperture / aperture.sum(), max(8 - radius, 0))
    kernel = scipy.ndimage.gaussian_filter(aperture, alias_blur, mode="mirror", radius=cut)
    image = photograph().double().numpy()
    expected = np.stack([scipy.ndimage.convolve(plane, kernel, mode="mirror") for plane in image])
    np.testing.assert_array_equal(
        np.round(corrupted("defocus_blur", photograph(), severity) * 255),
        np.floor(np.clip(expected, 0, 1) * 255 + 1e-3),
    )


def test_blur_keeps_a_white_wall_white() -> None:
    assert corrupted("defocus_blur", grey(1.0), 3).min() == 1


@pytest.mark.parametrize("decay", [2.0, 1.4])
def test_every_octave_of_the_plasma_is_uniform_and_decays_by_the_square(decay: float) -> None:
    heights = plasma_fractal(512, decay, seeded()).numpy()
    reach = []
    for step in (16, 8, 4, 2):
        corners, centres = heights[::step, ::step], heights[step // 2 :: step, step // 2 :: step]
        below = np.roll(corners, -1, 0)
        mean = (corners + np.roll(corners, -1, 1) + below + np.roll(below, -1, 1)) / 4
        offset = (centres - mean).ravel()
        reach.append(np.abs(offset).max())
        assert scipy.stats.kstest(offset, "uniform", (-reach[-1], 2 * reach[-1])).pvalue > 1e-3
        edges = heights[::step, step // 2 :: step]
        around = corners + np.roll(corners, -1, 1) + centres + np.roll(centres, 1, 0)
        assert np.abs(edges - around / 4).max() == pytest.approx(reach[-1], rel=0.02)
        edges = heights[step // 2 :: step, ::step]
        around = corners + np.roll(corners, -1, 0) + centres + np.roll(centres, 1, 1)
        assert np.abs(edges - around / 4).max() == pytest.approx(reach[-1], rel=0.02)
    np.testing.assert_allclose(np.divide(reach[:-1], reach[1:]), decay**2, rtol=0.02)
    assert heights.min() == 0 and heights.max() == 1


@pytest.mark.parametrize(("side", "expected"), [(1, 2), (3, 4), (224, 256), (256, 256)])
def test_plasma_has_the_next_power_of_two_as_its_side(side: int, expected: int) -> None:
    assert plasma_fractal(side, 2.0, seeded()).shape == (expected, expected)


@pytest.mark.parametrize(
    ("severity", "strength", "decay"),
    [(1, 1.5, 2), (2, 2, 2), (3, 2.5, 1.7), (4, 2.5, 1.5), (5, 3, 1.4)],
)
def test_fog_is_added_and_rescaled_by_the_brightest_pixel(
    severity: int, strength: float, decay: float
) -> None:
    image = 0.9 * photograph()
    haze = plasma_fractal(224, decay, seeded())[:224, :224].numpy()
    brightest = image.double().numpy().max()
    expected = (image.double().numpy() + strength * haze) * brightest / (brightest + strength)
    actual = corrupted("fog", image, severity)
    np.testing.assert_allclose(actual, expected - LEVEL / 2, atol=LEVEL * 0.51)


@pytest.mark.parametrize(
    ("severity", "exposure"),
    tuple(zip(SEVERITIES, (1 / 4, 1 / 8, 1 / 16, 1 / 32, 1 / 64), strict=True)),
)
@pytest.mark.parametrize("value", [0.5, 1.0])
def test_low_light_has_the_moments_of_shot_and_read_noise(
    severity: int, exposure: float, value: float
) -> None:
    dark = corrupted("low_light", grey(value), severity).transpose(1, 2, 0) + LEVEL / 2
    # The luminance of a grey pixel is its linear light.
    electrons = rgb2xyz(np.repeat(dark[..., :1], 3, 2))[..., 1] * FULL_WELL
    expected = rgb2xyz(np.full((1, 1, 3), value))[0, 0, 1] * exposure * FULL_WELL
    assert electrons.mean() == pytest.approx(expected, rel=0.03)
    assert electrons.std() == pytest.approx(np.sqrt(expected + READ_NOISE**2), rel=0.12)


@pytest.mark.parametrize(
    ("severity", "kept"), tuple(zip(SEVERITIES, (0.4, 0.3, 0.2, 0.1, 0.05), strict=True))
)
def test_contrast_shrinks_towards_the_channel_means(severity: int, kept: float) -> None:
    image = photograph().double().numpy()
    means = image.mean(axis=(1, 2), keepdims=True)
    np.testing.assert_array_equal(
        np.round(corrupted("contrast", photograph(), severity) * 255),
        np.floor(np.clip((image - means) * kept + means, 0, 1) * 255 + 1e-3),
    )


@pytest.mark.parametrize(
    ("severity", "quality"), tuple(zip(SEVERITIES, (25, 18, 15, 10, 7), strict=True))
)
def test_jpeg_compression_is_pillows(severity: int, quality: int) -> None:
    pixels = np.uint8(np.round(photograph().numpy().transpose(1, 2, 0) * 255))
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "JPEG", quality=quality)
    decoded = np.asarray(Image.open(encoded)).transpose(2, 0, 1)
    np.testing.assert_array_equal(
        np.round(corrupted("jpeg_compression", photograph(), severity) * 255), decoded
    )
