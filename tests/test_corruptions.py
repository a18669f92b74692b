import io

import numpy as np
import pytest
import scipy.ndimage
import scipy.stats
import torch
from PIL import Image
from pretended_device import DEVICE, Drawing, Elsewhere, Pretended
from skimage.color import hsv2rgb, rgb2hsv, rgb2xyz
from skimage.data import astronaut
from skimage.feature import structure_tensor
from skimage.filters import gaussian
from skimage.measure import block_reduce
from skimage.morphology import disk
from torch import Tensor

from vrdir_plug.corruptions import CORRUPTIONS, FULL_WELL, READ_NOISE, UNSEEN, frosted_pane
from vrdir_plug.degradations import ORDER
from vrdir_plug.filters import plasma_fractal, softened, standardised

SEVERITIES = (1, 2, 3, 4, 5)
# Published so: severities 1 and 2 move the whole image, 3 to 5 its details.
UNORDERED = {"elastic_transform"}
LEVEL = 1 / 255


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def photograph() -> Tensor:
    """(3, 224, 224): the astronaut's face and suit."""
    pixels = np.ascontiguousarray(astronaut()[:224, 100:324])
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255.0


def grey(value: float, size: int = 224) -> Tensor:
    return torch.full((3, size, size), value)


def uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


def normal(height: int, width: int, generator: torch.Generator) -> np.ndarray:
    return torch.randn((1, height, width), generator=generator, dtype=torch.float64)[0].numpy()


def floored(pixels: np.ndarray) -> np.ndarray:
    """ImageNet-C's conversion to 8 bits; a hair up, as arithmetic may end a hair below."""
    return np.floor(np.clip(pixels, 0, 1) * 255 + 1e-3)


def assert_levels(actual: np.ndarray, expected: np.ndarray) -> None:
    np.testing.assert_array_equal(np.round(actual * 255), floored(expected))


def corrupted(name: str, image: Tensor, severity: int, seed: int = 0) -> np.ndarray:
    return CORRUPTIONS[name](image[None], severity, [seeded(seed)])[0].double().numpy()


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_result_has_shape_dtype_range_and_8_bit_levels(name: str, severity: int) -> None:
    image = photograph()
    before = image.clone()
    result = CORRUPTIONS[name](image[None], severity, [seeded()])[0]
    assert result.shape == image.shape and result.dtype == image.dtype
    assert result.min() >= 0 and result.max() <= 1
    torch.testing.assert_close(result * 255, (result * 255).round(), atol=1e-4, rtol=0)
    assert torch.equal(image, before)


@pytest.mark.parametrize("name", [name for name in CORRUPTIONS if name not in UNORDERED])
def test_severity_5_damages_more_than_severity_1(name: str) -> None:
    mild, severe = (corrupted(name, photograph(), severity) for severity in (1, 5))
    image = photograph().numpy()
    assert 0 < np.square(mild - image).mean() < np.square(severe - image).mean()


@pytest.mark.parametrize("name", CORRUPTIONS)
def test_generator_alone_decides_the_randomness(name: str) -> None:
    first = corrupted(name, photograph(), 3, seed=1)
    torch.manual_seed(99)
    np.testing.assert_array_equal(first, corrupted(name, photograph(), 3, seed=1))
    fixed = {"defocus_blur", "zoom_blur", "gaussian_blur", "brightness", "contrast", "saturate"}
    random = name not in fixed | {"pixelate", "jpeg_compression"}
    assert random != np.array_equal(first, corrupted(name, photograph(), 3, seed=2))


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("size", [(1, 1), (1, 7), (5, 3), (33, 65)])
def test_any_size(name: str, size: tuple[int, int]) -> None:
    images = torch.rand(2, 3, *size, generator=seeded())
    result = CORRUPTIONS[name](images, 5, [seeded(1), seeded(2)])
    assert result.shape == images.shape and result.isfinite().all()


@pytest.mark.parametrize("name", CORRUPTIONS)
@pytest.mark.parametrize("severity", [0, 6, -1])
def test_unknown_severity_is_refused(name: str, severity: int) -> None:
    with pytest.raises(ValueError, match="1, 2, 3, 4 or 5"):
        CORRUPTIONS[name](photograph()[None], severity, [seeded()])


@pytest.mark.parametrize(
    "images",
    [
        torch.rand(1, 1, 8, 8),
        torch.rand(3, 8, 8),
        torch.rand(1, 3, 0, 8),
        torch.zeros(1, 3, 8, 8, dtype=torch.uint8),
        torch.full((1, 3, 8, 8), 255.0),
        torch.full((1, 3, 8, 8), torch.nan),
    ],
    ids=["grey", "one", "empty", "integer", "0 to 255", "NaN"],
)
@pytest.mark.parametrize("name", ["contrast", "haze_jpeg"])
def test_other_images_are_refused(name: str, images: Tensor) -> None:
    with pytest.raises(ValueError, match="expected RGB images"):
        CORRUPTIONS[name](images, 1, [seeded()])


@pytest.mark.parametrize("name", ["contrast", "haze_jpeg"])
def test_every_image_needs_a_generator(name: str) -> None:
    with pytest.raises(ValueError, match="on cpu for each of 2 images; got 1"):
        CORRUPTIONS[name](torch.rand(2, 3, 8, 8), 1, [seeded()])


@pytest.mark.parametrize("severity", SEVERITIES)
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_an_image_comes_out_the_same_in_any_batch(name: str, severity: int) -> None:
    photo = photograph()[:, :100, 40:120]
    images = torch.stack([photo, 1 - photo, grey(0)[:, :100, :80], photo.flip(2) / 2])
    together = CORRUPTIONS[name](images, severity, [seeded(seed) for seed in range(4)])
    for seed, image in enumerate(images):
        alone = CORRUPTIONS[name](image[None], severity, [seeded(seed)])[0]
        torch.testing.assert_close(together[seed], alone, atol=LEVEL, rtol=0)
        # whole levels: where arithmetic ends a hair apart, at most one of thousands may move
        assert (together[seed] != alone).float().mean() < 1e-3


@pytest.mark.parametrize("severity", (2, 5))
@pytest.mark.parametrize("name", CORRUPTIONS)
def test_all_happens_on_the_device_of_the_images(name: str, severity: int) -> None:
    images = torch.stack([photograph()[:, :40, 40:76]] * 2)
    expected = CORRUPTIONS[name](images, severity, [seeded(1), seeded(2)])
    with Pretended():
        drawing = [Drawing().manual_seed(seed) for seed in (1, 2)]
        found = CORRUPTIONS[name](Elsewhere(images), severity, drawing)
        assert found.device == DEVICE
        torch.testing.assert_close(found.cpu(), expected)


def test_the_pretended_device_refuses_what_a_gpu_would() -> None:
    with Pretended(), pytest.raises(AssertionError, match="mixes"):
        Elsewhere(torch.zeros(2)) + torch.zeros(2)


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
    heights = plasma_fractal(512, decay, [seeded()])[0].numpy()
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
    assert plasma_fractal(side, 2.0, [seeded()]).shape == (1, expected, expected)


@pytest.mark.parametrize(
    ("severity", "strength", "decay"),
    [(1, 1.5, 2), (2, 2, 2), (3, 2.5, 1.7), (4, 2.5, 1.5), (5, 3, 1.4)],
)
def test_fog_is_added_and_rescaled_by_the_brightest_pixel(
    severity: int, strength: float, decay: float
) -> None:
    image = 0.9 * photograph()
    haze = plasma_fractal(224, decay, [seeded()])[0, :224, :224].numpy()
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


# --- the published formulas, transcribed with other libraries ------------------------------------


@pytest.mark.parametrize(
    ("severity", "photons"), tuple(zip(SEVERITIES, (60, 25, 12, 5, 3), strict=True))
)
def test_shot_noise_is_poisson(severity: int, photons: int) -> None:
    counts = np.arange(200)
    chance = scipy.stats.poisson.pmf(counts, 0.4 * photons)
    levels = floored(counts / photons) / 255
    mean, square = chance @ levels, chance @ levels**2
    noisy = corrupted("shot_noise", grey(0.4), severity)
    assert noisy.mean() == pytest.approx(mean, abs=0.003)
    assert noisy.std() == pytest.approx(np.sqrt(square - mean**2), rel=0.01)
    assert set(np.unique(noisy).round(5)) <= set(levels.round(5))


@pytest.mark.parametrize(
    ("severity", "amount"), tuple(zip(SEVERITIES, (0.03, 0.06, 0.09, 0.17, 0.27), strict=True))
)
def test_impulse_noise_is_salt_and_pepper_by_halves(severity: int, amount: float) -> None:
    noisy = corrupted("impulse_noise", grey(0.4), severity)
    for value, share in ((0, amount / 2), (1, amount / 2), (0.4, 1 - amount)):
        assert (np.abs(noisy - value) < 1e-6).mean() == pytest.approx(share, abs=0.003)
    one, two = noisy[0] == 1, noisy[1] == 1  # channel by channel
    assert (one & two).mean() == pytest.approx((amount / 2) ** 2, abs=0.002)


@pytest.mark.parametrize(
    ("severity", "sigma"), tuple(zip(SEVERITIES, (0.15, 0.2, 0.35, 0.45, 0.6), strict=True))
)
def test_speckle_noise_has_the_moments_of_a_clipped_normal(severity: int, sigma: float) -> None:
    quantiles = scipy.stats.norm(0.4, sigma * 0.4).ppf((np.arange(10_000) + 0.5) / 10_000)
    clipped = np.clip(quantiles, 0, 1)
    noisy = corrupted("speckle_noise", grey(0.4), severity)
    assert noisy.mean() == pytest.approx(clipped.mean() - LEVEL / 2, abs=0.003)
    assert noisy.std() == pytest.approx(clipped.std(), rel=0.01)


@pytest.mark.parametrize(
    ("severity", "sigma"), tuple(zip(SEVERITIES, (1, 2, 3, 4, 6), strict=True))
)
def test_gaussian_blur_is_scikit_images(severity: int, sigma: int) -> None:
    image = photograph().double().numpy()
    expected = gaussian(image, sigma, mode="nearest", truncate=4, channel_axis=0)
    assert_levels(corrupted("gaussian_blur", photograph(), severity), expected)


@pytest.mark.parametrize(
    ("severity", "sigma", "reach", "rounds"),
    [(1, 0.7, 1, 2), (2, 0.9, 2, 1), (3, 1, 2, 3), (4, 1.1, 3, 2), (5, 1.5, 4, 2)],
)
def test_glass_blur_is_the_published_loop(
    severity: int, sigma: float, reach: int, rounds: int
) -> None:
    image, generator = photograph()[:, 60:124, 60:130], seeded()
    blurred = gaussian(image.double().numpy().transpose(1, 2, 0), sigma, channel_axis=2)
    x = floored(blurred).astype(np.uint8)
    height, width = x.shape[:2]
    for _ in range(rounds):
        size = (2, (height - 2 * reach) * (width - 2 * reach))
        moves = iter(torch.randint(-reach, reach, size, generator=generator).T.tolist())
        for h in range(height - reach, reach, -1):
            for w in range(width - reach, reach, -1):
                dy, dx = next(moves)
                # Meant as a swap; numpy's views make it a copy.
                x[h, w], x[h + dy, w + dx] = x[h + dy, w + dx], x[h, w]
    expected = gaussian(x / 255, sigma, channel_axis=2).transpose(2, 0, 1)
    assert_levels(corrupted("glass_blur", image, severity), expected)


def motion_blurred(image: np.ndarray, radius: int, sigma: float, angle: float) -> np.ndarray:
    """ImageMagick's: taps along a line, the border pixel repeated."""
    weights = np.exp(-(np.arange(2 * radius + 1) ** 2) / (2 * sigma**2))
    height, width = image.shape[1:]
    result = np.zeros_like(image)
    for tap, weight in enumerate(weights / weights.sum()):
        dy = int(np.ceil(tap * np.sin(np.deg2rad(angle)) - 0.5))
        dx = int(np.ceil(tap * np.cos(np.deg2rad(angle)) - 0.5))
        rows = np.clip(np.arange(height) + dy, 0, height - 1)
        columns = np.clip(np.arange(width) + dx, 0, width - 1)
        result += weight * image[:, rows][:, :, columns]
    return result


@pytest.mark.parametrize(
    ("severity", "radius", "sigma"), [(1, 10, 3), (2, 15, 5), (3, 15, 8), (4, 15, 12), (5, 20, 15)]
)
def test_motion_blur_is_imagemagicks(severity: int, radius: int, sigma: float) -> None:
    image, angle = photograph().double().numpy(), uniform(-45, 45, seeded())
    expected = motion_blurred(image, radius, sigma, angle)
    assert_levels(corrupted("motion_blur", photograph(), severity), expected)


def centre_zoomed(image: np.ndarray, factor: float) -> np.ndarray:
    """The published `clipped_zoom`, for squares (S, S)."""
    side = image.shape[0]
    part = int(np.ceil(side / factor))
    top = (side - part) // 2
    zoomed = scipy.ndimage.zoom(image[top : top + part, top : top + part], factor, order=1)
    trim = (zoomed.shape[0] - side) // 2
    return np.asarray(zoomed[trim : trim + side, trim : trim + side])


@pytest.mark.parametrize(
    ("severity", "stop", "step"),
    [(1, 1.11, 0.01), (2, 1.16, 0.01), (3, 1.21, 0.02), (4, 1.26, 0.02), (5, 1.31, 0.03)],
)
def test_zoom_blur_averages_scipys_zooms(severity: int, stop: float, step: float) -> None:
    image, factors = photograph().double().numpy(), np.arange(1, stop, step)
    zoomed = [np.stack([centre_zoomed(plane, factor) for plane in image]) for factor in factors]
    expected = (image + np.sum(zoomed, axis=0)) / (len(factors) + 1)
    assert_levels(corrupted("zoom_blur", photograph(), severity), expected)


@pytest.mark.parametrize(
    ("severity", "levels"),
    [
        (1, (0.1, 0.3, 3, 0.5, 10, 4, 0.8)),
        (2, (0.2, 0.3, 2, 0.5, 12, 4, 0.7)),
        (3, (0.55, 0.3, 4, 0.9, 12, 8, 0.7)),
        (4, (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65)),
        (5, (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55)),
    ],
)
def test_snow_is_the_published_formula(severity: int, levels: tuple[float, ...]) -> None:
    image, generator = photograph().double().numpy(), seeded()
    flakes = centre_zoomed(levels[0] + levels[1] * normal(224, 224, generator), levels[2])
    flakes = np.where(flakes < levels[3], 0, floored(flakes) / 255)[None]
    angle = uniform(-135, -45, generator)
    flakes = np.round(motion_blurred(flakes, int(levels[4]), levels[5], angle) * 255) / 255
    grey = np.tensordot([0.299, 0.587, 0.114], image, 1)
    pale = levels[6] * image + (1 - levels[6]) * np.maximum(image, grey * 1.5 + 0.5)
    expected = pale + flakes + np.rot90(flakes, 2, (1, 2))
    # Where a blurred flake lies between two levels, arithmetic decides.
    difference = np.round(corrupted("snow", photograph(), severity) * 255) - floored(expected)
    assert np.abs(difference).max() <= 1 and (difference != 0).mean() < 1e-3


@pytest.mark.parametrize(
    ("severity", "scene", "ice"),
    [(1, 1, 0.4), (2, 0.8, 0.6), (3, 0.7, 0.7), (4, 0.65, 0.7), (5, 0.6, 0.75)],
)
def test_frost_blends_with_the_published_weights(severity: int, scene: float, ice: float) -> None:
    black, image = np.zeros((3, 224, 224)), 0.3 * photograph()
    pane = corrupted("frost", torch.from_numpy(black), severity)
    expected = np.minimum(pane + LEVEL / 2 + scene * image.double().numpy(), 1)
    np.testing.assert_allclose(
        corrupted("frost", image, severity) + LEVEL / 2, expected, atol=LEVEL * 1.01
    )
    assert 0.9 * ice < pane.max() <= ice
    assert pane[0].mean() < pane[1].mean() < pane[2].mean()
    # It has crystals: finer than the fog of the same decay.
    assert np.abs(np.diff(pane[2], axis=1)).mean() > 0.01


@pytest.mark.parametrize(("height", "width"), [(224, 224), (112, 448), (56, 8)])
def test_a_cosine_is_softened_by_its_frequency(height: int, width: int) -> None:
    wave = torch.cos(2 * np.pi * torch.arange(height, dtype=torch.float64) / 28)
    plane = (1 + wave)[:, None].expand(1, 1, height, width)
    expected = 1 + wave[:, None] * 9**-0.4  # eight cycles in 224 pixels
    torch.testing.assert_close(softened(plane, 0.4)[0, 0], expected.expand(height, width))


def test_a_flat_plane_is_standardised_to_nothing() -> None:
    planes = torch.stack([grey(0.3)[:1], photograph()[:1]]).double()
    found = standardised(planes)
    assert (found[0] == 0).all()
    np.testing.assert_allclose(found[1], scipy.stats.zscore(planes[1], axis=None))


def test_a_frosted_pane_is_like_the_photographs_of_imagenet_c() -> None:
    """Of 120 crops of its five: brightness, contrast, and how the power falls in seven octaves."""
    black = torch.zeros(40, 3, 224, 224, dtype=torch.float64)
    panes = frosted_pane(black, [seeded(n) for n in range(40)]).mean(1).numpy()
    contrast = panes.std((1, 2))
    assert 0.54 < panes.mean() < 0.74 and 0.07 < contrast.mean() < 0.12
    bell = np.outer(np.hanning(224), np.hanning(224))
    power = np.abs(np.fft.fft2((panes - panes.mean((1, 2), keepdims=True)) * bell)) ** 2
    steps = np.abs(np.fft.fftfreq(224, 1 / 224))
    ring = np.digitize(np.hypot(steps[:, None], steps), (1, 2, 4, 8, 16, 32, 64, 110))
    octaves = [np.log10(power[:, ring == n].mean(1)).mean() for n in range(1, 8)]
    photographed = (4.47, 3.64, 3.16, 2.73, 2.21, 1.72, 1.15)
    np.testing.assert_allclose(octaves, photographed, atol=0.4)
    fine = panes[:, 1:-1, 1:-1] - scipy.ndimage.uniform_filter(panes, (1, 3, 3))[:, 1:-1, 1:-1]
    assert abs(np.median(scipy.stats.skew(fine.reshape(40, -1), axis=1)) - 0.15) < 0.3


@pytest.mark.parametrize(
    ("severity", "mean", "deviation", "threshold"), [(4, 0.65, 0.3, 0.65), (5, 0.67, 0.4, 0.65)]
)
def test_mud_is_the_published_formula(
    severity: int, mean: float, deviation: float, threshold: float
) -> None:
    image = photograph().double().numpy()
    liquid = gaussian(mean + deviation * normal(224, 224, seeded()), 1)
    cover = gaussian((liquid > threshold).astype(float), 1.5)
    cover[cover < 0.8] = 0
    mud = np.reshape([63, 42, 20], (3, 1, 1)) / 255
    assert_levels(corrupted("spatter", photograph(), severity), image * (1 - cover) + mud * cover)


@pytest.mark.parametrize(
    ("severity", "sigma", "threshold", "strength"),
    [(1, 4, 0.69, 0.6), (2, 3, 0.68, 0.6), (3, 2, 0.68, 0.5)],
)
def test_water_is_opencvs_chain(
    severity: int, sigma: float, threshold: float, strength: float
) -> None:
    cv2 = pytest.importorskip("cv2", reason="OpenCV is the oracle")
    liquid = gaussian(0.65 + 0.3 * normal(224, 224, seeded()), sigma)
    levels = np.uint8(floored(np.where(liquid < threshold, 0, liquid)))
    rims = cv2.distanceTransform(255 - cv2.Canny(levels, 50, 150), cv2.DIST_L2, 5)
    rims = cv2.equalizeHist(np.uint8(cv2.blur(np.minimum(rims, 20), (3, 3))))
    emboss = np.array([[-2, -1, 0], [-1, 1, 1], [0, 1, 2]])
    light = levels * np.float32(cv2.blur(cv2.filter2D(rims, cv2.CV_8U, emboss), (3, 3)))
    tint = np.reshape([175, 238, 238], (3, 1, 1)) / 255
    expected = np.full((3, 224, 224), 0.2) + strength * light / light.max() * tint
    actual = corrupted("spatter", grey(0.2), severity)
    # OpenCV's 5 x 5 distances are approximate, and the histogram passes that on.
    assert np.corrcoef(actual.ravel(), expected.ravel())[0, 1] > 0.99
    assert np.abs(actual - expected).mean() < LEVEL


@pytest.mark.parametrize(
    ("severity", "more"), tuple(zip(SEVERITIES, (0.1, 0.2, 0.3, 0.4, 0.5), strict=True))
)
def test_brightness_adds_to_scikit_images_v(severity: int, more: float) -> None:
    hsv = rgb2hsv(photograph().double().numpy(), channel_axis=0)
    hsv[2] = np.clip(hsv[2] + more, 0, 1)
    assert_levels(corrupted("brightness", photograph(), severity), hsv2rgb(hsv, channel_axis=0))


@pytest.mark.parametrize(
    ("severity", "factor", "more"), [(1, 0.3, 0), (2, 0.1, 0), (3, 2, 0), (4, 5, 0.1), (5, 20, 0.2)]
)
def test_saturate_changes_scikit_images_s(severity: int, factor: float, more: float) -> None:
    image = photograph()
    image[:, :20], image[:, 20:40] = 0, 0.5  # grey has no hue
    hsv = rgb2hsv(image.double().numpy(), channel_axis=0)
    hsv[1] = np.clip(hsv[1] * factor + more, 0, 1)
    assert_levels(corrupted("saturate", image, severity), hsv2rgb(hsv, channel_axis=0))


@pytest.mark.parametrize(
    ("severity", "strength", "sigma", "shift"),
    [
        (1, 488, 170.8, 24.4),
        (2, 488, 19.52, 48.8),
        (3, 12.2, 2.44, 4.88),
        (4, 17.08, 2.44, 4.88),
        (5, 29.28, 2.44, 4.88),
    ],
)
def test_elastic_transform_is_the_published_formula(
    severity: int, strength: float, sigma: float, shift: float
) -> None:
    image, generator = photograph()[:, :200, :160].double().numpy(), seeded()
    side, middle = 160 // 3, np.array([100, 80])
    before = middle + np.array([[side, side], [side, -side], [-side, -side]])
    random = torch.rand((3, 2), generator=generator, dtype=torch.float64).numpy()
    after = before + shift * (2 * random - 1)
    homogeneous = np.column_stack([before, np.ones(3)])
    forward = np.vstack([np.linalg.solve(homogeneous, after).T, [0, 0, 1]])
    rows, columns = np.indices((200, 160)).astype(float)
    x, y, _ = np.tensordot(np.linalg.inv(forward), [columns, rows, np.ones_like(rows)], 1)
    warped = [scipy.ndimage.map_coordinates(p, [y, x], order=1, mode="mirror") for p in image]
    noise = 2 * torch.rand((2, 200, 160), generator=generator, dtype=torch.float64).numpy() - 1
    right, down = (
        strength * scipy.ndimage.gaussian_filter(plane, sigma, mode="reflect", truncate=3)
        for plane in noise
    )
    expected = [
        scipy.ndimage.map_coordinates(p, [rows + down, columns + right], order=1, mode="reflect")
        for p in warped
    ]
    actual = corrupted("elastic_transform", photograph()[:, :200, :160], severity)
    assert_levels(actual, np.stack(expected))


@pytest.mark.parametrize(("severity", "block"), [(2, 2), (5, 4)])
def test_pixelate_averages_blocks(severity: int, block: int) -> None:
    image = np.round(photograph().double().numpy() * 255)
    mean = block_reduce(image, (1, block, block), np.mean).repeat(block, 1).repeat(block, 2)
    actual = corrupted("pixelate", photograph(), severity) * 255
    # Pillow rounds rows and columns one after the other.
    assert np.abs(actual - mean).max() <= 1.001


@pytest.mark.parametrize(("severity", "share"), [(1, 0.6), (3, 0.4), (4, 0.3)])
def test_pixelate_keeps_a_share_of_the_pixels(severity: int, share: float) -> None:
    rows = corrupted("pixelate", photograph(), severity)[0]
    runs = (np.abs(np.diff(rows, axis=0)).sum(1) > 0).sum() + 1
    # Box enlargement mixes two neighbours where their border is no pixel border.
    assert int(224 * share) <= runs <= 2 * int(224 * share)


# --- our own -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("severity", "scattering"), tuple(zip(SEVERITIES, (0.6, 1, 1.5, 2.2, 3.2), strict=True))
)
def test_haze_follows_koschmieder(severity: int, scattering: float) -> None:
    black, white = (corrupted("haze", grey(value), severity) for value in (0.0, 1.0))
    transmission = white - black
    assert np.ptp(transmission, axis=0).max() <= LEVEL * 1.01  # the same for all colours
    assert transmission.min() >= np.exp(-scattering) - LEVEL
    assert transmission[:, -1].mean() > 1.1 * transmission[:, 0].mean()  # far is above
    airlight = black[transmission < 0.7] / (1 - transmission[transmission < 0.7])
    assert airlight.min() >= 0.7 - 4 * LEVEL and airlight.max() <= 1 + 4 * LEVEL
    assert airlight.std() < 2 * LEVEL


def test_rain_falls_and_leaves_the_rest_alone() -> None:
    shares = []
    for severity, strength in zip(SEVERITIES, (0.5, 0.6, 0.7, 0.8, 0.9), strict=True):
        black, white = (corrupted("rain", grey(value), severity) for value in (0.0, 1.0))
        cover = 1 - (white - black)
        assert cover.max() == pytest.approx(strength, abs=2 * LEVEL)
        np.testing.assert_allclose(black, 0.9 * cover, atol=2 * LEVEL)
        shares.append((cover[0] > 0.01).mean())
        rows, mixed, columns = (
            component.sum() for component in structure_tensor(cover[0], order="rc")
        )
        lean = 0.5 * np.arctan2(2 * mixed, columns - rows)  # of the gradient, from horizontal
        assert abs(np.rad2deg(lean)) < 25
    assert shares[0] > 0.01 and shares[-1] < 0.6 and shares == sorted(shares)


@pytest.mark.parametrize(
    ("name", "first", "second"),
    [
        ("rain_fog", "fog", "rain"),
        ("dark_noise", "low_light", "gaussian_noise"),
        ("haze_jpeg", "haze", "jpeg_compression"),
    ],
)
def test_mixtures_are_one_after_the_other(name: str, first: str, second: str) -> None:
    for severity, parts in zip(SEVERITIES, ((1, 1), (2, 1), (2, 2), (3, 2), (3, 3)), strict=True):
        generators = [seeded()]
        expected = CORRUPTIONS[first](photograph()[None], parts[0], generators)
        expected = CORRUPTIONS[second](expected, parts[1], generators)
        np.testing.assert_array_equal(corrupted(name, photograph(), severity), expected[0].numpy())


def test_all_are_there_and_the_unseen_ones_are_not_trained_on() -> None:
    assert len(CORRUPTIONS) == 25 and set(UNSEEN) < set(CORRUPTIONS)
    assert not set(UNSEEN) & {degradation.__name__ for degradation in ORDER}
