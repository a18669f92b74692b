"""The corruptions that evaluation applies, by their published definitions.

Fifteen and four are ImageNet-C: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", ICLR 2019, with the severities of its
`make_imagenet_c.py`. Its released files were also stored as JPEG of quality 85 in the end; that
second loss is not repeated here. Where a function differs otherwise, its docstring says so. Six
are ours, defined in their docstrings: haze, rain, low_light and the mixtures rain_fog, dark_noise
and haze_jpeg. Nothing is shared with the training degradations, so no result rests on a common
formula.

`CORRUPTIONS[name](image, severity, generator)` takes one RGB image (3, H, W), float in [0, 1], of
any H, W >= 1, a severity from 1 to 5, and a CPU `torch.Generator` that alone decides the
randomness. It returns an image of the same shape and dtype in 8-bit steps (k / 255, k whole), and
raises ValueError for another severity, shape, dtype or range.
"""

import io
import math
from collections.abc import Callable

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Generator, Tensor

from .filters import (
    canny,
    centre_zoom,
    convolve,
    distance,
    equalised,
    gaussian,
    motion_kernel,
    plasma_fractal,
    sample,
)

Corruption = Callable[[Tensor, int, Generator], Tensor]

# low_light: a small-pixel camera at base gain, in electrons.
FULL_WELL = 5000.0
READ_NOISE = 3.0


def corruption(formula: Callable[..., Tensor], *levels: tuple[float, ...]) -> Corruption:
    def corrupt(image: Tensor, severity: int, generator: Generator) -> Tensor:
        if severity not in range(1, 6):
            raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
        check_image(image)
        pixels = formula(image.detach().cpu().double(), generator, *levels[severity - 1])
        return (eight_bits(pixels) / 255).to(image.dtype)

    return corrupt


def check_image(image: Tensor) -> None:
    right = image.ndim == 3 and image.shape[0] == 3 and image.numel() > 0
    if not (right and image.is_floating_point() and image.min() >= 0 and image.max() <= 1):
        raise ValueError(
            "expected one RGB image (3, H, W), float in [0, 1]; got "
            f"{tuple(image.shape)} of {image.dtype} or values outside [0, 1]"
        )


def eight_bits(pixels: Tensor) -> Tensor:
    """Truncate [0, 1] to whole levels from 0 to 255, as ImageNet-C does."""
    # The small lift keeps what arithmetic has put a hair below a whole level, such as the white
    # of a blurred white wall, from losing a whole step.
    return (pixels.clamp(0, 1) * 255 + 1e-3).floor()


def normal(shape: torch.Size, generator: Generator) -> Tensor:
    return torch.randn(shape, generator=generator, dtype=torch.float64)


def uniform(low: float, high: float, generator: Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator, dtype=torch.float64).item()


# --- noise ---------------------------------------------------------------------------------------


def gaussian_noise(pixels: Tensor, generator: Generator, sigma: float) -> Tensor:
    return pixels + sigma * normal(pixels.shape, generator)


def shot_noise(pixels: Tensor, generator: Generator, photons: float) -> Tensor:
    return torch.poisson(pixels * photons, generator=generator) / photons


def impulse_noise(pixels: Tensor, generator: Generator, amount: float) -> Tensor:
    """Salt and pepper, half and half, on a share of all channel values."""
    hit, salt = torch.rand((2, *pixels.shape), generator=generator, dtype=pixels.dtype)
    return torch.where(hit < amount, (salt < 0.5).to(pixels.dtype), pixels)


def speckle_noise(pixels: Tensor, generator: Generator, sigma: float) -> Tensor:
    return pixels + pixels * sigma * normal(pixels.shape, generator)


# --- blur ----------------------------------------------------------------------------------------


def gaussian_blur(pixels: Tensor, _: Generator, sigma: float) -> Tensor:
    return gaussian(pixels, sigma)


def defocus_blur(pixels: Tensor, _: Generator, radius: int, alias_blur: float) -> Tensor:
    return convolve(pixels, smooth_disk(radius, alias_blur))


def smooth_disk(radius: int, alias_blur: float) -> Tensor:
    reach = max(radius, 8)
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).double()
    # ImageNet-C cuts the smoothing off at one pixel for small disks, at two for large ones.
    near = torch.arange(-1, 2) if radius <= 8 else torch.arange(-2, 3)
    bell = torch.exp(-(near.double() ** 2) / (2 * alias_blur**2))
    return convolve((disk / disk.sum())[None], torch.outer(bell, bell) / bell.sum() ** 2)[0]


def glass_blur(
    pixels: Tensor, generator: Generator, sigma: float, reach: int, rounds: int
) -> Tensor:
    """Blur, replace pixels by near ones from the bottom right to the top left, blur again.

    The published code means to swap them, but its numpy views alias: what it does, and what the
    released images show, is to copy the other pixel over this one. So does this function.
    """
    height, width = pixels.shape[1:]
    blurred = eight_bits(gaussian(pixels, sigma)) / 255
    rows, columns = (range(side - reach, reach, -1) for side in (height, width))
    place = torch.tensor([r * width + c for r in rows for c in columns], dtype=torch.long)  # (P,)
    origin = list(range(height * width))
    for _ in range(rounds):
        steps = torch.randint(-reach, reach, (2, len(place)), generator=generator)
        nearby = place + steps[0] * width + steps[1]
        for here, there in zip(place.tolist(), nearby.tolist(), strict=True):
            origin[here] = origin[there]
    moved = blurred.flatten(1)[:, torch.tensor(origin)].view(pixels.shape)
    return gaussian(moved, sigma)


def motion_blur(pixels: Tensor, generator: Generator, radius: int, sigma: float) -> Tensor:
    return convolve(pixels, motion_kernel(radius, sigma, uniform(-45, 45, generator)), "edge")


def zoom_blur(pixels: Tensor, _: Generator, stop: float, step: float) -> Tensor:
    factors = np.arange(1, stop, step)
    zoomed = sum((centre_zoom(pixels, float(f)) for f in factors), torch.zeros_like(pixels))
    return (pixels + zoomed) / (len(factors) + 1)


# --- weather -------------------------------------------------------------------------------------


def snow(pixels: Tensor, generator: Generator, *levels: float) -> Tensor:
    """Enlarged, thresholded and motion-blurred noise, twice, over a paler scene."""
    mean, deviation, zoom, threshold, radius, sigma, kept = levels
    flakes = centre_zoom(mean + deviation * normal(pixels[:1].shape, generator), zoom)
    flakes = torch.where(flakes < threshold, 0, eight_bits(flakes) / 255)
    kernel = motion_kernel(int(radius), sigma, uniform(-135, -45, generator))
    flakes = (convolve(flakes, kernel, "edge") * 255).round() / 255
    grey = torch.tensor([0.299, 0.587, 0.114], dtype=pixels.dtype) @ pixels.flatten(1)
    pale = torch.maximum(pixels, (grey * 1.5 + 0.5).view(1, *pixels.shape[1:]))
    return kept * pixels + (1 - kept) * pale + flakes + flakes.rot90(2, (1, 2))


def frost(pixels: Tensor, generator: Generator, scene: float, ice: float) -> Tensor:
    """The published weights of scene and ice; the ice itself is drawn, which is a deviation.

    ImageNet-C crops one of five photographs of frosted panes, which cannot be shipped. Here a
    bluish film of uneven thickness (a plasma fractal) carries needles in six directions, 60
    degrees apart as ice grows. Figures for `frost` compare with each other, not with published
    ones.
    """
    height, width = pixels.shape[1:]
    film = plasma_fractal(max(height, width), 1.4, generator)[:height, :width]
    turn = uniform(0, 60, generator)
    needles = torch.zeros_like(film)
    for axis in range(6):
        seeds = torch.rand((1, height, width), generator=generator, dtype=pixels.dtype) < 0.006
        kernel = motion_kernel(12, 12, turn + 60 * axis)
        grown = convolve(seeds.double(), kernel / kernel.max())[0]
        needles = torch.maximum(needles, grown.clamp(0, 1))
    tint = torch.tensor([0.82, 0.92, 1], dtype=pixels.dtype).view(3, 1, 1)
    return scene * pixels + ice * tint * (film.square() + needles * film).clamp(0, 1)


def fog(pixels: Tensor, generator: Generator, strength: float, decay: float) -> Tensor:
    height, width = pixels.shape[1:]
    haze = plasma_fractal(max(height, width), decay, generator)[:height, :width]
    brightest = pixels.max()
    return (pixels + strength * haze) * brightest / (brightest + strength)


def haze(pixels: Tensor, generator: Generator, scattering: float) -> Tensor:
    """Koschmieder's law J t + A (1 - t), t = exp(-scattering * depth), with depth over the image.

    The airlight A is grey, from 0.7 to 1, as in RESIDE (Li et al., 2019), whose scattering
    coefficients, 0.6 to 1.8 for depths up to 1, lie inside the severities here. The depth is that
    of a plane seen in perspective, 1 from the horizon upwards, with the horizon between an eighth
    and a half of the height, brought nearer by up to a third where things stand on it (a plasma
    fractal).
    """
    height, width = pixels.shape[1:]
    airlight, horizon = uniform(0.7, 1, generator), uniform(0.125, 0.5, generator)
    below = (torch.arange(height, dtype=pixels.dtype) / height - horizon).clamp(min=0)
    plane = 0.2 / (0.2 + below)[:, None]
    things = plasma_fractal(max(height, width), 2, generator)[:height, :width]
    transmission = torch.exp(-scattering * plane * (1 - things / 3))
    return pixels * transmission + airlight * (1 - transmission)


def rain(pixels: Tensor, generator: Generator, drops: float, brightness: float) -> Tensor:
    """Streaks of falling drops: `drops` to a thousand pixels, in front of an unchanged scene.

    A drop at distance z (uniform from 1 to 4) leaves a streak of H / (6 z) pixels, at least 2,
    1.5 / z + 0.5 wide, drawn at twice the size and averaged. All fall in one direction, up to 20
    degrees from the vertical, each up to 3 degrees off it. A streak hides the scene in proportion
    to `brightness`: what shows through is light of 0.9 (Garg and Nayar, 2007: drops refract the
    bright sky).
    """
    height, width = pixels.shape[1:]
    canvas = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(canvas)
    count = math.ceil(drops * height * width / 1000)
    slant = uniform(-20, 20, generator)
    for x, y, z, turn in torch.rand((count, 4), generator=generator).tolist():
        angle, far = math.radians(slant + 6 * turn - 3), 1 + 3 * z
        length = max(height / 6 / far, 2) * 2
        start = 2 * width * x, (2 * height + length) * y - length
        end = start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)
        draw.line((start, end), fill=255, width=round(3 / far + 1))
    streaks = torch.from_numpy(np.array(canvas.reduce(2))) / 255.0
    return pixels + brightness * streaks * (0.9 - pixels)


def spatter(pixels: Tensor, generator: Generator, *levels: float) -> Tensor:
    """Drops of water (severities 1 to 3) or mud on the lens: blurred noise above a threshold."""
    mean, deviation, sigma, threshold, strength, muddy = levels
    liquid = gaussian(mean + deviation * normal(pixels[:1].shape, generator), sigma)[0]
    if muddy:
        cover = gaussian((liquid > threshold).double()[None], strength)
        cover = torch.where(cover < 0.8, 0, cover)
        return pixels * (1 - cover) + cover * colour(63, 42, 20)
    cover = water(torch.where(liquid < threshold, 0, liquid))
    return pixels + strength * cover * colour(175, 238, 238)


def colour(*levels: int) -> Tensor:
    return torch.tensor(levels, dtype=torch.float64).view(3, 1, 1) / 255


def water(liquid: Tensor) -> Tensor:
    """The light that drops (H, W) refract, at most 1: embossed by the distance to their rims.

    The published chain of 8-bit OpenCV filters. The distance is exact where OpenCV's 5 x 5 mask is
    an approximation.
    """
    levels = eight_bits(liquid)
    box = torch.full((3, 3), 1 / 9, dtype=torch.float64)
    emboss = torch.tensor([[2, 1, 0], [1, 1, -1], [0, -1, -2]], dtype=torch.float64)
    rims = distance(canny(levels, 50, 150), 20)
    rims = (convolve(rims[None], box) + 1e-6).floor()
    rims = convolve(equalised(rims[0])[None], emboss).round().clamp(0, 255)
    light = levels * convolve(rims, box).round()[0]
    return light / light.max().clamp(min=1)


# --- light and colour ----------------------------------------------------------------------------


def low_light(pixels: Tensor, generator: Generator, exposure: float) -> Tensor:
    """Photograph the scene with a fraction of the light, at unchanged gain.

    sRGB is decoded to linear light (IEC 61966-2-1) and scaled by the exposure. Photons arrive as a
    Poisson process (shot noise), the sensor adds normal read noise, and sRGB is encoded again.
    """
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    shot = torch.poisson(linear * exposure * FULL_WELL, generator=generator)
    read = READ_NOISE * torch.randn(shot.shape, generator=generator, dtype=shot.dtype)
    dark = ((shot + read) / FULL_WELL).clamp(0, 1)
    return torch.where(dark <= 0.0031308, 12.92 * dark, 1.055 * dark ** (1 / 2.4) - 0.055)


def brightness(pixels: Tensor, _: Generator, more: float) -> Tensor:
    """A higher V of HSV, at the same hue and saturation."""
    value = pixels.amax(0)
    lifted = (value + more).clamp(0, 1)
    return torch.where(value > 0, pixels * lifted / value, lifted)


def contrast(pixels: Tensor, _: Generator, kept: float) -> Tensor:
    mean = pixels.mean(dim=(1, 2), keepdim=True)  # (3, 1, 1)
    return mean + kept * (pixels - mean)


def saturate(pixels: Tensor, _: Generator, factor: float, more: float) -> Tensor:
    """Another S of HSV, at the same hue and value; grey counts as red, as in scikit-image."""
    value = pixels.amax(0)
    saturation = 1 - pixels.amin(0) / value.clamp(min=1e-12)
    red = torch.tensor([0.0, 1, 1], dtype=pixels.dtype).view(3, 1, 1)
    # how far each channel lies from the value, 1 for the farthest
    depth = (1 - pixels / value.clamp(min=1e-12)) / saturation.clamp(min=1e-12)
    depth = torch.where((saturation > 0) & (value > 0), depth, red)
    saturation = torch.where(value > 0, saturation, 0)
    return value * (1 - depth * (factor * saturation + more).clamp(0, 1))


# --- geometry and files --------------------------------------------------------------------------


def elastic_transform(
    pixels: Tensor, generator: Generator, strength: float, sigma: float, shift: float
) -> Tensor:
    """A random affine map, then a random smooth displacement of every pixel, in pixels.

    The affine map samples exactly, where OpenCV rounds to 1/32 of a pixel.
    """
    height, width = pixels.shape[1:]
    rows, columns = torch.meshgrid(
        torch.arange(height).double(), torch.arange(width).double(), indexing="ij"
    )
    warped = sample(pixels, *affine(rows, columns, shift, generator), border="reflect")
    noise = 2 * torch.rand((2, height, width), generator=generator, dtype=pixels.dtype) - 1
    right, down = strength * gaussian(noise, sigma, truncate=3, border="symmetric")
    return sample(warped, rows + down, columns + right, border="symmetric")


def affine(
    rows: Tensor, columns: Tensor, shift: float, generator: Generator
) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from, if three points about the middle go up to `shift` astray."""
    height, width = rows.shape
    side = max(min(height, width) // 3, 1)
    corners = torch.tensor([[side, side], [side, -side], [-side, -side]], dtype=torch.float64)
    corners = corners + torch.tensor([height // 2, width // 2])
    random = torch.rand((3, 2), generator=generator, dtype=torch.float64)
    moved = torch.cat([corners + shift * (2 * random - 1), torch.ones(3, 1)], 1)  # (3, 3)
    back = torch.linalg.solve(moved, corners)  # (3, 2): [x, y, 1] @ back is the origin
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1) @ back
    return places[..., 1], places[..., 0]


def pixelate(pixels: Tensor, _: Generator, share: float) -> Tensor:
    image = pillow(pixels)
    small = max(int(image.width * share), 1), max(int(image.height * share), 1)
    box = Image.Resampling.BOX
    return from_pillow(image.resize(small, box).resize(image.size, box))


def jpeg_compression(pixels: Tensor, _: Generator, quality: int) -> Tensor:
    encoded = io.BytesIO()
    pillow(pixels).save(encoded, "JPEG", quality=quality)
    return from_pillow(Image.open(encoded))


def pillow(pixels: Tensor) -> Image.Image:
    levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
    return Image.fromarray(levels.numpy())


def from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255.0  # (3, H, W)


# --- all of them ---------------------------------------------------------------------------------


def mixture(first: str, second: str) -> Corruption:
    """Two at once, the first at severities 1, 2, 2, 3, 3 and the second at 1, 1, 2, 2, 3."""

    def corrupt(image: Tensor, severity: int, generator: Generator) -> Tensor:
        if severity not in range(1, 6):
            raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")
        image = CORRUPTIONS[first](image, severity // 2 + 1, generator)
        return CORRUPTIONS[second](image, (severity + 1) // 2, generator)

    return corrupt


CORRUPTIONS: dict[str, Corruption] = {
    "gaussian_noise": corruption(gaussian_noise, (0.08,), (0.12,), (0.18,), (0.26,), (0.38,)),
    "shot_noise": corruption(shot_noise, (60,), (25,), (12,), (5,), (3,)),
    "impulse_noise": corruption(impulse_noise, (0.03,), (0.06,), (0.09,), (0.17,), (0.27,)),
    "speckle_noise": corruption(speckle_noise, (0.15,), (0.2,), (0.35,), (0.45,), (0.6,)),
    "defocus_blur": corruption(defocus_blur, (3, 0.1), (4, 0.5), (6, 0.5), (8, 0.5), (10, 0.5)),
    "glass_blur": corruption(
        glass_blur, (0.7, 1, 2), (0.9, 2, 1), (1, 2, 3), (1.1, 3, 2), (1.5, 4, 2)
    ),
    "motion_blur": corruption(motion_blur, (10, 3), (15, 5), (15, 8), (15, 12), (20, 15)),
    "zoom_blur": corruption(
        zoom_blur, (1.11, 0.01), (1.16, 0.01), (1.21, 0.02), (1.26, 0.02), (1.31, 0.03)
    ),
    "gaussian_blur": corruption(gaussian_blur, (1,), (2,), (3,), (4,), (6,)),
    "snow": corruption(
        snow,
        (0.1, 0.3, 3, 0.5, 10, 4, 0.8),
        (0.2, 0.3, 2, 0.5, 12, 4, 0.7),
        (0.55, 0.3, 4, 0.9, 12, 8, 0.7),
        (0.55, 0.3, 4.5, 0.85, 12, 8, 0.65),
        (0.55, 0.3, 2.5, 0.85, 12, 12, 0.55),
    ),
    "frost": corruption(frost, (1, 0.4), (0.8, 0.6), (0.7, 0.7), (0.65, 0.7), (0.6, 0.75)),
    "fog": corruption(fog, (1.5, 2), (2, 2), (2.5, 1.7), (2.5, 1.5), (3, 1.4)),
    "spatter": corruption(
        spatter,
        (0.65, 0.3, 4, 0.69, 0.6, 0),
        (0.65, 0.3, 3, 0.68, 0.6, 0),
        (0.65, 0.3, 2, 0.68, 0.5, 0),
        (0.65, 0.3, 1, 0.65, 1.5, 1),
        (0.67, 0.4, 1, 0.65, 1.5, 1),
    ),
    "haze": corruption(haze, (0.6,), (1,), (1.5,), (2.2,), (3.2,)),
    "rain": corruption(rain, (2, 0.5), (4, 0.6), (7, 0.7), (11, 0.8), (16, 0.9)),
    "low_light": corruption(low_light, (1 / 4,), (1 / 8,), (1 / 16,), (1 / 32,), (1 / 64,)),
    "brightness": corruption(brightness, (0.1,), (0.2,), (0.3,), (0.4,), (0.5,)),
    "contrast": corruption(contrast, (0.4,), (0.3,), (0.2,), (0.1,), (0.05,)),
    "saturate": corruption(saturate, (0.3, 0), (0.1, 0), (2, 0), (5, 0.1), (20, 0.2)),
    # Published as multiples of 244, meant as 224 and kept.
    "elastic_transform": corruption(
        elastic_transform,
        (244 * 2, 244 * 0.7, 244 * 0.1),
        (244 * 2, 244 * 0.08, 244 * 0.2),
        (244 * 0.05, 244 * 0.01, 244 * 0.02),
        (244 * 0.07, 244 * 0.01, 244 * 0.02),
        (244 * 0.12, 244 * 0.01, 244 * 0.02),
    ),
    "pixelate": corruption(pixelate, (0.6,), (0.5,), (0.4,), (0.3,), (0.25,)),
    "jpeg_compression": corruption(jpeg_compression, (25,), (18,), (15,), (10,), (7,)),
    "rain_fog": mixture("fog", "rain"),
    "dark_noise": mixture("low_light", "gaussian_noise"),
    "haze_jpeg": mixture("haze", "jpeg_compression"),
}

# Of no family that the training degradations have. All others have a relative there, made by
# another formula: fog counts as haze, brightness as over-exposure.
UNSEEN = ("spatter", "saturate")
