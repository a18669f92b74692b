"""The corruptions that evaluation applies, by their published definitions.

Fifteen and four are ImageNet-C: Hendrycks and Dietterich, "Benchmarking Neural Network Robustness
to Common Corruptions and Perturbations", ICLR 2019, with the severities of its
`make_imagenet_c.py`. Its released files were also stored as JPEG of quality 85 in the end; that
second loss is not repeated here. Where a function differs otherwise, its docstring says so. Six
are ours, defined in their docstrings: haze, rain, low_light and the mixtures rain_fog, dark_noise
and haze_jpeg. Nothing is shared with the training degradations, so no result rests on a common
formula.

`CORRUPTIONS[name](images, severity, generators)` takes RGB images (N, 3, H, W), float in [0, 1],
of any H, W >= 1 and on any device, a severity from 1 to 5, and a `torch.Generator` on that device
for each image, which alone decides its randomness: an image comes out the same in any batch. (The
generators of a GPU and of a CPU draw other numbers from the same seed.) It returns images of the
same shape, dtype and device in 8-bit steps (k / 255, k whole), and raises ValueError for another
severity, shape, dtype or range, or another number or device of generators.

All is computed in float64 on the device of the images, but for what Pillow does, image by image:
it writes and reads the JPEG, averages the blocks of `pixelate` and draws the lines of `rain`.
"""

import io
import math
from collections.abc import Callable, Sequence

import numpy as np
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from .filters import (
    Generators,
    canny,
    centre_zoom,
    convolve,
    distance,
    equalised,
    gaussian,
    motion_kernel,
    picked,
    plasma_fractal,
    random,
    sample,
    softened,
    standardised,
)

Corruption = Callable[[Tensor, int, Generators], Tensor]

# low_light: a small-pixel camera at base gain, in electrons.
FULL_WELL = 5000.0
READ_NOISE = 3.0


def corruption(formula: Callable[..., Tensor], *levels: tuple[float, ...]) -> Corruption:
    def corrupt(images: Tensor, severity: int, generators: Generators) -> Tensor:
        check_severity(severity)
        check_images(images, generators)
        pixels = formula(images.detach().double(), generators, *levels[severity - 1])
        return (eight_bits(pixels) / 255).to(images.dtype)

    return corrupt


def check_severity(severity: int) -> None:
    if severity not in range(1, 6):
        raise ValueError(f"severity is {severity!r}; it must be 1, 2, 3, 4 or 5")


def check_images(images: Tensor, generators: Generators) -> None:
    right = images.ndim == 4 and images.shape[1] == 3 and images.numel() > 0
    if not (right and images.is_floating_point() and images.min() >= 0 and images.max() <= 1):
        raise ValueError(
            "expected RGB images (N, 3, H, W), float in [0, 1]; got "
            f"{tuple(images.shape)} of {images.dtype} or values outside [0, 1]"
        )
    devices = [g.device for g in generators]
    if devices != [images.device] * len(images):
        raise ValueError(
            f"expected a generator on {images.device} for each of {len(images)} images; "
            f"got {len(devices)} on {sorted(set(map(str, devices)))}"
        )


def eight_bits(pixels: Tensor) -> Tensor:
    """Truncate [0, 1] to whole levels from 0 to 255, as ImageNet-C does."""
    # The small lift keeps what arithmetic has put a hair below a whole level, such as the white
    # of a blurred white wall, from losing a whole step.
    return (pixels.clamp(0, 1) * 255 + 1e-3).floor()


def normal(shape: Sequence[int], generators: Generators) -> Tensor:
    """Standard normal, float64: (N, *shape), each image's from its own generator."""
    return torch.stack(
        [torch.randn(shape, generator=g, device=g.device, dtype=torch.float64) for g in generators]
    )


def poisson(rates: Tensor, generators: Generators) -> Tensor:
    pairs = zip(rates, generators, strict=True)
    return torch.stack([torch.poisson(rate, generator=g) for rate, g in pairs])


def uniform(low: float, high: float, generators: Generators) -> Tensor:
    """One number for each image, (N, 1, 1)."""
    return low + (high - low) * random((1, 1), generators)


# --- noise ---------------------------------------------------------------------------------------


def gaussian_noise(pixels: Tensor, generators: Generators, sigma: float) -> Tensor:
    return pixels + sigma * normal(pixels.shape[1:], generators)


def shot_noise(pixels: Tensor, generators: Generators, photons: float) -> Tensor:
    return poisson(pixels * photons, generators) / photons


def impulse_noise(pixels: Tensor, generators: Generators, amount: float) -> Tensor:
    """Salt and pepper, half and half, on a share of all channel values."""
    hit, salt = random((2, *pixels.shape[1:]), generators).unbind(1)
    return torch.where(hit < amount, (salt < 0.5).to(pixels.dtype), pixels)


def speckle_noise(pixels: Tensor, generators: Generators, sigma: float) -> Tensor:
    return pixels + pixels * sigma * normal(pixels.shape[1:], generators)


# --- blur ----------------------------------------------------------------------------------------


def gaussian_blur(pixels: Tensor, _: Generators, sigma: float) -> Tensor:
    return gaussian(pixels, sigma)


def defocus_blur(pixels: Tensor, _: Generators, radius: int, alias_blur: float) -> Tensor:
    return convolve(pixels, smooth_disk(radius, alias_blur).to(pixels.device))


def smooth_disk(radius: int, alias_blur: float) -> Tensor:
    reach = max(radius, 8)
    steps = torch.arange(-reach, reach + 1)
    disk = (steps[:, None] ** 2 + steps**2 <= radius**2).double()
    # ImageNet-C cuts the smoothing off at one pixel for small disks, at two for large ones.
    near = torch.arange(-1, 2) if radius <= 8 else torch.arange(-2, 3)
    bell = torch.exp(-(near.double() ** 2) / (2 * alias_blur**2))
    bells = torch.outer(bell, bell) / bell.sum() ** 2
    return convolve((disk / disk.sum())[None, None], bells)[0, 0]


def glass_blur(
    pixels: Tensor, generators: Generators, sigma: float, reach: int, rounds: int
) -> Tensor:
    """Blur, replace pixels by near ones from the bottom right to the top left, blur again.

    The published code means to swap them, but its numpy views alias: what it does, and what the
    released images show, is to copy the other pixel over this one. So does this function.
    """
    height, width = pixels.shape[2:]
    moved = eight_bits(gaussian(pixels, sigma)) / 255
    # the places in the order of the published loop, counted along the rows
    rows, columns = (
        torch.arange(reach + 1, max(side - reach, reach) + 1, device=pixels.device).flip(0)
        for side in (height, width)
    )
    places = (rows[:, None] * width + columns).flatten()
    for _ in range(rounds):
        steps = torch.stack(
            [
                torch.randint(-reach, reach, (2, len(places)), generator=g, device=g.device)
                for g in generators
            ]
        )
        origins = copied_from(places, places + steps[:, 0] * width + steps[:, 1], height * width)
        moved = picked(moved, origins.unflatten(1, (height, width)))
    return gaussian(moved, sigma)


def copied_from(places: Tensor, nearby: Tensor, count: int) -> Tensor:
    """Whose value each of `count` pixels holds (N, count) after copying one pixel after the other.

    From `nearby` (N, P) to `places` (P,), in this order: a pixel that was copied to before hands
    on its new value. Chains of copies are followed by doubling, all pixels at once.
    """
    turn = torch.full((count,), len(places), device=places.device)
    turn[places] = torch.arange(len(places), device=places.device)
    # pixels 0 ... count - 1 as they end, then the same as they began, which lead to themselves
    links = torch.arange(2 * count, device=places.device).repeat(len(nearby), 1)
    links[:, :count] += count
    copied_before = turn[nearby] < turn[places]
    links[:, places] = torch.where(copied_before, nearby, nearby + count)
    while True:
        further = links.gather(1, links)
        if torch.equal(further, links):
            return links[:, :count] - count
        links = further


def motion_blur(pixels: Tensor, generators: Generators, radius: int, sigma: float) -> Tensor:
    angles = uniform(-45, 45, generators)
    return convolve(pixels, motion_kernels(radius, sigma, angles), "edge")


def motion_kernels(radius: int, sigma: float, angles: Tensor) -> Tensor:
    """One for each image, of its angle in degrees (N, 1, 1): (N, 1, K, K)."""
    kernels = [motion_kernel(radius, sigma, angle) for angle in angles.flatten().tolist()]
    return torch.stack(kernels)[:, None].to(angles.device)


def zoom_blur(pixels: Tensor, _: Generators, stop: float, step: float) -> Tensor:
    factors = np.arange(1, stop, step)
    zoomed = sum((centre_zoom(pixels, float(f)) for f in factors), torch.zeros_like(pixels))
    return (pixels + zoomed) / (len(factors) + 1)


# --- weather -------------------------------------------------------------------------------------


def snow(pixels: Tensor, generators: Generators, *levels: float) -> Tensor:
    """Enlarged, thresholded and motion-blurred noise, twice, over a paler scene."""
    mean, deviation, zoom, threshold, radius, sigma, kept = levels
    noise = normal((1, *pixels.shape[2:]), generators)  # (N, 1, H, W)
    flakes = centre_zoom(mean + deviation * noise, zoom)
    flakes = torch.where(flakes < threshold, 0, eight_bits(flakes) / 255)
    kernels = motion_kernels(int(radius), sigma, uniform(-135, -45, generators))
    flakes = (convolve(flakes, kernels, "edge") * 255).round() / 255
    grey = (colour(pixels, 0.299, 0.587, 0.114) * pixels).sum(1, keepdim=True)
    pale = torch.maximum(pixels, grey * 1.5 + 0.5)
    return kept * pixels + (1 - kept) * pale + flakes + flakes.rot90(2, (2, 3))


def frost(pixels: Tensor, generators: Generators, scene: float, ice: float) -> Tensor:
    """The published weights of scene and pane; the pane itself is drawn, which is a deviation:
    ImageNet-C crops one of five photographs, which cannot be shipped."""
    return scene * pixels + ice * frosted_pane(pixels, generators)


def frosted_pane(pixels: Tensor, generators: Generators) -> Tensor:
    """A bluish film (a plasma fractal) with needles in six directions, 60 degrees apart as ice
    grows, lit or in the shade: (N, 3, H, W).

    Brightness, contrast, power spectrum and skewness were set to those of crops of the five
    photographs.
    """
    height, width = pixels.shape[2:]
    film = plasma_fractal(max(height, width), 1.7, generators)[:, None, :height, :width]
    turn = uniform(0, 60, generators)
    needles = torch.zeros_like(film)
    for axis in range(6):
        seeds, light = random((2, 1, height, width), generators).unbind(1)
        kernels = motion_kernels(12, 12, turn + 60 * axis)
        grown = (seeds < 0.006) * (2 * light - 1)
        needles += convolve(grown, kernels / kernels.amax((2, 3), keepdim=True))
    relief = standardised(standardised(softened(needles, 0.4)) + 0.5 * standardised(film))
    brightness, contrast = (uniform(*r, generators)[:, None] for r in ((0.42, 0.82), (0.06, 0.14)))
    pane = colour(pixels, 0.9, 1.02, 1.08) * (brightness + contrast * relief)
    return pane.clamp(0, 1)


def fog(pixels: Tensor, generators: Generators, strength: float, decay: float) -> Tensor:
    height, width = pixels.shape[2:]
    haze = plasma_fractal(max(height, width), decay, generators)[:, None, :height, :width]
    brightest = pixels.amax((1, 2, 3), keepdim=True)
    return (pixels + strength * haze) * brightest / (brightest + strength)


def haze(pixels: Tensor, generators: Generators, scattering: float) -> Tensor:
    """Koschmieder's law J t + A (1 - t), t = exp(-scattering * depth), with depth over the image.

    The airlight A is grey, from 0.7 to 1, as in RESIDE (Li et al., 2019), whose scattering
    coefficients, 0.6 to 1.8 for depths up to 1, lie inside the severities here. The depth is that
    of a plane seen in perspective, 1 from the horizon upwards, with the horizon between an eighth
    and a half of the height, brought nearer by up to a third where things stand on it (a plasma
    fractal).
    """
    height, width = pixels.shape[2:]
    airlight, horizon = uniform(0.7, 1, generators), uniform(0.125, 0.5, generators)
    down = torch.arange(height, dtype=pixels.dtype, device=pixels.device)[:, None] / height
    plane = 0.2 / (0.2 + (down - horizon).clamp(min=0))  # (N, H, 1)
    things = plasma_fractal(max(height, width), 2, generators)[:, :height, :width]
    transmission = torch.exp(-scattering * plane * (1 - things / 3))[:, None]
    return pixels * transmission + airlight[:, None] * (1 - transmission)


def rain(pixels: Tensor, generators: Generators, drops: float, brightness: float) -> Tensor:
    """Streaks of falling drops: `drops` to a thousand pixels, in front of an unchanged scene.

    A drop at distance z (uniform from 1 to 4) leaves a streak of H / (6 z) pixels, at least 2,
    1.5 / z + 0.5 wide, drawn at twice the size and averaged. All fall in one direction, up to 20
    degrees from the vertical, each up to 3 degrees off it. A streak hides the scene in proportion
    to `brightness`: what shows through is light of 0.9 (Garg and Nayar, 2007: drops refract the
    bright sky).
    """
    height, width = pixels.shape[2:]
    count = math.ceil(drops * height * width / 1000)
    slants = uniform(-20, 20, generators).flatten().tolist()
    fallen = [torch.rand((count, 4), generator=g, device=g.device).tolist() for g in generators]
    drawn = [streaks(height, width, *drop) for drop in zip(slants, fallen, strict=True)]
    cover = brightness * torch.stack(drawn)[:, None].to(pixels.device)
    return pixels + cover * (0.9 - pixels)


def streaks(height: int, width: int, slant: float, drops: list[list[float]]) -> Tensor:
    """How far drops hide each pixel (H, W), float32: each x, y, z and turn, all from 0 to 1."""
    canvas = Image.new("L", (2 * width, 2 * height))
    draw = ImageDraw.Draw(canvas)
    for x, y, z, turn in drops:
        angle, far = math.radians(slant + 6 * turn - 3), 1 + 3 * z
        length = max(height / 6 / far, 2) * 2
        start = 2 * width * x, (2 * height + length) * y - length
        end = start[0] + length * math.sin(angle), start[1] + length * math.cos(angle)
        draw.line((start, end), fill=255, width=round(3 / far + 1))
    return torch.from_numpy(np.array(canvas.reduce(2))) / 255.0


def spatter(pixels: Tensor, generators: Generators, *levels: float) -> Tensor:
    """Drops of water (severities 1 to 3) or mud on the lens: blurred noise above a threshold."""
    mean, deviation, sigma, threshold, strength, muddy = levels
    noise = normal((1, *pixels.shape[2:]), generators)  # (N, 1, H, W)
    liquid = gaussian(mean + deviation * noise, sigma)
    if muddy:
        cover = gaussian((liquid > threshold).double(), strength)
        cover = torch.where(cover < 0.8, 0, cover)
        return pixels * (1 - cover) + cover * colour(pixels, 63, 42, 20) / 255
    cover = water(torch.where(liquid < threshold, 0, liquid)[:, 0])[:, None]
    return pixels + strength * cover * colour(pixels, 175, 238, 238) / 255


def colour(like: Tensor, *channels: float) -> Tensor:
    return like.new_tensor(channels).view(3, 1, 1)


def water(liquid: Tensor) -> Tensor:
    """The light that drops (N, H, W) refract, at most 1: embossed by the distance to their rims.

    The published chain of 8-bit OpenCV filters. The distance is exact where OpenCV's 5 x 5 mask is
    an approximation.
    """
    levels = eight_bits(liquid)
    box = levels.new_full((3, 3), 1 / 9)
    emboss = levels.new_tensor([[2, 1, 0], [1, 1, -1], [0, -1, -2]])
    rims = distance(canny(levels, 50, 150), 20)
    rims = (convolve(rims[:, None], box)[:, 0] + 1e-6).floor()
    rims = torch.stack([equalised(plane) for plane in rims])
    rims = convolve(rims[:, None], emboss).round().clamp(0, 255)
    light = levels * convolve(rims, box).round()[:, 0]
    return light / light.amax((1, 2), keepdim=True).clamp(min=1)


# --- light and colour ----------------------------------------------------------------------------


def low_light(pixels: Tensor, generators: Generators, exposure: float) -> Tensor:
    """Photograph the scene with a fraction of the light, at unchanged gain.

    sRGB is decoded to linear light (IEC 61966-2-1) and scaled by the exposure. Photons arrive as a
    Poisson process (shot noise), the sensor adds normal read noise, and sRGB is encoded again.
    """
    linear = torch.where(pixels <= 0.04045, pixels / 12.92, ((pixels + 0.055) / 1.055) ** 2.4)
    shot = poisson(linear * exposure * FULL_WELL, generators)
    read = READ_NOISE * normal(shot.shape[1:], generators)
    dark = ((shot + read) / FULL_WELL).clamp(0, 1)
    return torch.where(dark <= 0.0031308, 12.92 * dark, 1.055 * dark ** (1 / 2.4) - 0.055)


def brightness(pixels: Tensor, _: Generators, more: float) -> Tensor:
    """A higher V of HSV, at the same hue and saturation."""
    value = pixels.amax(1, keepdim=True)
    lifted = (value + more).clamp(0, 1)
    return torch.where(value > 0, pixels * lifted / value, lifted)


def contrast(pixels: Tensor, _: Generators, kept: float) -> Tensor:
    mean = pixels.mean(dim=(2, 3), keepdim=True)  # (N, 3, 1, 1)
    return mean + kept * (pixels - mean)


def saturate(pixels: Tensor, _: Generators, factor: float, more: float) -> Tensor:
    """Another S of HSV, at the same hue and value; grey counts as red, as in scikit-image."""
    value = pixels.amax(1, keepdim=True)
    saturation = 1 - pixels.amin(1, keepdim=True) / value.clamp(min=1e-12)
    # how far each channel lies from the value, 1 for the farthest
    depth = (1 - pixels / value.clamp(min=1e-12)) / saturation.clamp(min=1e-12)
    depth = torch.where((saturation > 0) & (value > 0), depth, colour(pixels, 0, 1, 1))
    saturation = torch.where(value > 0, saturation, 0)
    return value * (1 - depth * (factor * saturation + more).clamp(0, 1))


# --- geometry and files --------------------------------------------------------------------------


def elastic_transform(
    pixels: Tensor, generators: Generators, strength: float, sigma: float, shift: float
) -> Tensor:
    """A random affine map, then a random smooth displacement of every pixel, in pixels.

    The affine map samples exactly, where OpenCV rounds to 1/32 of a pixel.
    """
    height, width = pixels.shape[2:]
    rows, columns = torch.meshgrid(
        torch.arange(height, dtype=pixels.dtype, device=pixels.device),
        torch.arange(width, dtype=pixels.dtype, device=pixels.device),
        indexing="ij",
    )
    warped = sample(pixels, *affine(rows, columns, shift, generators), border="reflect")
    noise = 2 * random((2, height, width), generators) - 1
    right, down = (strength * gaussian(noise, sigma, truncate=3, border="symmetric")).unbind(1)
    return sample(warped, rows + down, columns + right, border="symmetric")


def affine(
    rows: Tensor, columns: Tensor, shift: float, generators: Generators
) -> tuple[Tensor, Tensor]:
    """Where each pixel comes from (N, H, W), if three points go up to `shift` pixels astray."""
    height, width = rows.shape
    side = max(min(height, width) // 3, 1)
    corners = rows.new_tensor([[side, side], [side, -side], [-side, -side]])
    corners = corners + rows.new_tensor([height // 2, width // 2])
    moved = corners + shift * (2 * random((3, 2), generators) - 1)
    moved = torch.cat([moved, torch.ones_like(moved[..., :1])], 2)  # (N, 3, 3)
    back = torch.linalg.solve(moved, corners.expand(len(moved), 3, 2))  # [x, y, 1] @ back: origin
    places = torch.stack([columns, rows, torch.ones_like(rows)], -1) @ back[:, None]
    return places[..., 1], places[..., 0]


def pixelate(pixels: Tensor, _: Generators, share: float) -> Tensor:
    height, width = pixels.shape[2:]
    small = max(int(width * share), 1), max(int(height * share), 1)
    box = Image.Resampling.BOX
    return by_pillow(lambda image: image.resize(small, box).resize((width, height), box), pixels)


def jpeg_compression(pixels: Tensor, _: Generators, quality: int) -> Tensor:
    def stored(image: Image.Image) -> Image.Image:
        encoded = io.BytesIO()
        image.save(encoded, "JPEG", quality=quality)
        return Image.open(encoded)

    return by_pillow(stored, pixels)


def by_pillow(change: Callable[[Image.Image], Image.Image], pixels: Tensor) -> Tensor:
    images = [from_pillow(change(pillow(one))) for one in pixels.cpu()]
    return torch.stack(images).to(pixels.device)


def pillow(pixels: Tensor) -> Image.Image:
    levels = (pixels * 255).round().to(torch.uint8).permute(1, 2, 0)  # (H, W, 3)
    return Image.fromarray(levels.numpy())


def from_pillow(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255.0  # (3, H, W)


# --- all of them ---------------------------------------------------------------------------------


def mixture(first: str, second: str) -> Corruption:
    """Two at once, the first at severities 1, 2, 2, 3, 3 and the second at 1, 1, 2, 2, 3."""

    def corrupt(images: Tensor, severity: int, generators: Generators) -> Tensor:
        check_severity(severity)
        images = CORRUPTIONS[first](images, severity // 2 + 1, generators)
        return CORRUPTIONS[second](images, (severity + 1) // 2, generators)

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
UNSEEN = ("saturate",)
