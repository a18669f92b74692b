"""Synthetic degradations for training: batched, on the images' device, of continuous severity.

Every function takes images (N, 3, H, W), RGB in [0, 1], a severity (N,) from 0 (next to nothing)
to 5 (the worst), and a generator on the images' device, from which all its randomness comes; it
returns new images of the same shape in [0, 1]. Severities 1 to 5 follow ImageNet-C (Hendrycks and
Dietterich, ICLR 2019) where it has such a kind. Evaluation has its own implementations.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Degradation = Callable[[Tensor, Tensor, Generator], Tensor]
RADIUS = 10  # of the largest blur kernel, in pixels
REACH = 20  # of the longest streak of rain, snow or ice
FAR = 40  # of the longest move that MotionFilter learns from
GAMMA = 2.2  # between display values and linear light


def level(severity: Tensor, *table: float) -> Tensor:
    """Read a table given at severities 0, 1, ..., 5, linearly between: (N, 1, 1, 1)."""
    values = torch.tensor(table, device=severity.device, dtype=torch.float32)
    below = severity.clamp(0, 5).floor().long().clamp(max=4)
    part = severity.clamp(0, 5) - below
    return (values[below] * (1 - part) + values[below + 1] * part).view(-1, 1, 1, 1)


def uniform(like: Tensor, low: float, high: float, generator: Generator) -> Tensor:
    """One number for each image: (N, 1, 1, 1)."""
    number = torch.rand(len(like), 1, 1, 1, generator=generator, device=like.device)
    return low + (high - low) * number


def normal(like: Tensor, generator: Generator) -> Tensor:
    return torch.randn(like.shape, generator=generator, device=like.device)


def fractal(images: Tensor, generator: Generator) -> Tensor:
    """Smooth random fields (N, 1, H, W) from 0 to 1, with octaves that fall off at random."""
    count, _, height, width = images.shape
    fall = uniform(images, 0.3, 0.7, generator)
    field = torch.zeros(count, 1, height, width, device=images.device)
    for octave in range(5):
        side = 2 ** (octave + 1)
        noise = torch.rand(count, 1, side, side, generator=generator, device=images.device)
        field += fall**octave * F.interpolate(noise, (height, width), mode="bilinear")
    low, high = field.amin((2, 3), keepdim=True), field.amax((2, 3), keepdim=True)
    return (field - low) / (high - low).clamp(min=1e-6)


# --- light -----------------------------------------------------------------------------------


def haze(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Atmospheric scattering J t + A (1 - t), t = exp(-beta d) (Koschmieder), depth synthetic."""
    ramp = torch.linspace(1, 0, images.shape[2], device=images.device)[:, None]
    share = uniform(images, 0, 1, generator)
    depth = 0.3 + 0.7 * (share * ramp + (1 - share) * fractal(images, generator))
    transmission = torch.exp(-level(severity, 0, 0.7, 1.2, 1.8, 2.5, 3.5) * depth)
    tint = 0.06 * torch.randn(len(images), 3, 1, 1, generator=generator, device=images.device)
    airlight = (uniform(images, 0.55, 1, generator) + tint).clamp(0, 1)
    return images * transmission + airlight * (1 - transmission)


def mist(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Banks of mist: the same transmission everywhere, but airlight that comes and goes."""
    transmission = level(severity, 1, 0.45, 0.36, 0.3, 0.27, 0.24)
    airlight = fractal(images, generator) * uniform(images, 0.8, 1.1, generator)
    return (images * transmission + airlight * (1 - transmission)).clamp(0, 1)


def dimmed(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Less linear light, and a steeper tone curve: a dark photograph, but for its noise.

    In half of them some places stay as bright as they were: lamps, windows, the sky.
    """
    # half of the cameras keep their tone curve
    curve = uniform(images, -0.3, 0.3, generator).clamp(min=0)
    curve = 1 + curve * severity.view(-1, 1, 1, 1)
    stops = uniform(images, 0.6, 1.3, generator) * severity.view(-1, 1, 1, 1)
    lit = fractal(images, generator) ** uniform(images, 2, 6, generator)
    lit = lit * (uniform(images, 0, 1, generator) < 0.5)
    return images**curve * 2 ** (-stops * (1 - lit) / GAMMA)


def sensed(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """As much noise as good or poor cameras make, in linear light, wherever there is a severity.

    Of the orders of magnitude between them each is as likely: where every dark image was a noisy
    one, all dark images were smoothed.
    """
    light = images**GAMMA
    shot, read = (10 ** uniform(images, -5, exponent, generator) for exponent in (-2.7, -2.4))
    light = light + (light * shot + read.square()).sqrt() * normal(images, generator)
    return torch.where(severity.view(-1, 1, 1, 1) > 0, light.clamp(0, 1) ** (1 / GAMMA), images)


def low_light(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A short exposure: `dimmed`, then `sensed`."""
    return sensed(dimmed(images, severity, generator), severity, generator)


def low_contrast(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Towards the mean, per channel (ImageNet-C), and the mean towards a random grey."""
    mean = images.mean((2, 3), keepdim=True)
    share = level(severity, 1, 0.4, 0.3, 0.2, 0.1, 0.05)
    grey = mean + (uniform(images, 0, 1, generator) - mean) * uniform(images, 0, 0.5, generator)
    return (images * share + grey * (1 - share)).clamp(0, 1)


def over_exposure(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """More linear light than the sensor holds."""
    gain = level(severity, 1, 1.6, 2.2, 3.2, 4.5, 6)
    return (images**GAMMA * gain).clamp(0, 1) ** (1 / GAMMA)


def colour_cast(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A wrong white balance: one random gain for each channel."""
    shape = (len(images), 3, 1, 1)
    exponent = torch.randn(shape, generator=generator, device=images.device)
    gain = torch.exp(0.07 * severity.view(-1, 1, 1, 1) * exponent)
    return (images * gain / gain.amax(1, keepdim=True)).clamp(0, 1)


# --- noise -----------------------------------------------------------------------------------


def gaussian_noise(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Additive, the same everywhere (ImageNet-C)."""
    sigma = level(severity, 0, 0.08, 0.12, 0.18, 0.26, 0.38)
    return (images + sigma * normal(images, generator)).clamp(0, 1)


def shot_noise(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Poisson counts of photons (ImageNet-C)."""
    photon = level(severity, 1e-5, 1 / 60, 1 / 25, 1 / 12, 1 / 5, 1 / 3)
    return (torch.poisson(images / photon, generator=generator) * photon).clamp(0, 1)


def impulse_noise(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Salt and pepper, per channel value (ImageNet-C)."""
    amount = level(severity, 0, 0.03, 0.06, 0.09, 0.17, 0.27)
    dice = torch.rand(images.shape, generator=generator, device=images.device)
    peppered = torch.where(dice < amount / 2, torch.zeros_like(images), images)
    return torch.where(dice > 1 - amount / 2, torch.ones_like(images), peppered)


def speckle_noise(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """In proportion to the brightness (ImageNet-C)."""
    sigma = level(severity, 0, 0.15, 0.2, 0.35, 0.45, 0.6)
    return (images * (1 + sigma * normal(images, generator))).clamp(0, 1)


# --- weather ---------------------------------------------------------------------------------


def grid(like: Tensor, radius: int = RADIUS) -> tuple[Tensor, Tensor]:
    """Coordinates x, y (1, K, K) of a kernel, 0 in the middle."""
    steps = torch.arange(-radius, radius + 1, device=like.device, dtype=torch.float32)
    return steps[None, None, :], steps[None, :, None]


def line_kernel(
    angle: Tensor, length: Tensor, thickness: Tensor | float, radius: int = RADIUS
) -> Tensor:
    """Lines through the middle (N, K, K): angle in radians from the x axis, length in pixels."""
    x, y = grid(angle, radius)
    angle, length = angle.view(-1, 1, 1), length.view(-1, 1, 1)
    along = (x * angle.cos() + y * angle.sin()).abs()
    across = (y * angle.cos() - x * angle.sin()).abs()
    kernel = (length / 2 + 0.5 - along).clamp(0, 1) * (thickness - across).clamp(0, 1)
    return kernel / kernel.sum((1, 2), keepdim=True)


def convolve(images: Tensor, kernels: Tensor) -> Tensor:
    """Images (N, C, H, W), each with its own kernel (N, K, K), borders repeated.

    By the fast transform: every image has hundreds of taps of its own.
    """
    height, width = images.shape[-2:]
    padded = F.pad(images, (kernels.shape[-1] // 2,) * 4, mode="replicate")
    size = padded.shape[-2:]
    kernel = torch.fft.rfft2(kernels, s=size)[:, None]
    found = torch.fft.irfft2(torch.fft.rfft2(padded) * kernel.conj(), s=size)
    return found[..., :height, :width].clamp(0, 1)


def gaussian_kernel(sigma: Tensor) -> Tensor:
    """Of that deviation in pixels (N, 1, 1, 1) -> (N, K, K)."""
    x, y = grid(sigma)
    kernel = torch.exp(-(x.square() + y.square()) / (2 * sigma[:, 0].square()))
    return kernel / kernel.sum((1, 2), keepdim=True)


def streaks(images: Tensor, density: Tensor, kernel: Tensor, generator: Generator) -> Tensor:
    """Seeds at random places, faint to bright, drawn out by a kernel, at most 1: (N, 1, H, W)."""
    dice = torch.rand(images[:, :1].shape, generator=generator, device=images.device)
    # below the density a throw is uniform still: one for both place and brightness
    seeds = (1 - 0.7 * dice / density.clamp(min=1e-6)) * (dice < density)
    drawn = convolve(seeds, kernel)
    return (drawn / kernel.amax((1, 2)).view(-1, 1, 1, 1)).clamp(0, 1)


def lines(
    angle: Tensor,
    lengths: tuple[float, float],
    thickness: tuple[float, float],
    generator: Generator,
) -> Tensor:
    """A line for each image, at its angle (N, 1, 1, 1) in shares of pi: kernels (N, K, K)."""
    length, thick = (uniform(angle, *r, generator) for r in (lengths, thickness))
    return line_kernel(math.pi * angle, length, thick[:, 0], REACH)


def rain(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Bright slanted streaks, short and far or long and near, over a thin grey veil."""
    slant = uniform(images, 0.3, 0.7, generator)
    kernel = lines(slant, (8, 40), (0.7, 1.6), generator)
    density = level(severity, 0, 0.002, 0.004, 0.007, 0.011, 0.016)
    drops = streaks(images, density, kernel, generator) * uniform(images, 0.5, 1, generator)
    veil = level(severity, 0, 0.05, 0.1, 0.15, 0.2, 0.3) * uniform(images, 0, 1, generator)
    veiled = images * (1 - veil) + 0.75 * veil
    return veiled + (uniform(images, 0.8, 1, generator) - veiled) * drops


def snow(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Flakes near and far, each drawn out by its fall, over a scene that is paler and greyer."""
    density = level(severity, 0, 0.003, 0.006, 0.010, 0.015, 0.022)
    fall = uniform(images, 0.1, 0.9, generator)
    far = streaks(images, density, lines(fall, (1, 10), (1, 2), generator), generator)
    far = far * uniform(images, 0.6, 1, generator)
    # near ones are fewer, and out of focus
    blurred = F.avg_pool2d(lines(fall, (2, 24), (2, 4), generator), 5, 1, 2)
    near = streaks(images, 0.3 * density, blurred, generator)
    flakes = torch.maximum(far, near * uniform(images, 0.6, 1, generator))
    pale = level(severity, 0, 0.3, 0.45, 0.6, 0.7, 0.8) * uniform(images, 0, 1, generator)
    grey = 0.45 + 0.55 * images.mean(1, keepdim=True)
    paled = images * (1 - pale) + grey * pale
    return (paled + (1 - paled) * flakes).clamp(0, 1)


def needles(images: Tensor, generator: Generator) -> Tensor:
    """Crystals of ice in three directions: (N, 1, H, W)."""
    ice = torch.zeros_like(images[:, :1])
    for _ in range(3):
        kernel = lines(uniform(images, 0, 1, generator), (8, 40), (0.7, 1.5), generator)
        density = uniform(images, 0.004, 0.016, generator)
        ice = torch.maximum(ice, streaks(images, density, kernel, generator))
    return ice


def frost(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Ice on the lens over a dimmed scene: needles in a film, or crystals along the ridges of a
    random field."""
    ridges = 1 - (2 * fractal(images, generator) - 1).abs()
    grown = ridges ** uniform(images, 2, 6, generator)
    film = uniform(images, 0.2, 0.6, generator)
    film = film + (1 - film) * needles(images, generator)
    spread = fractal(images, generator) ** uniform(images, 0.3, 1.5, generator)
    ice = torch.where(uniform(images, 0, 1, generator) < 0.5, grown, film * spread)
    grain = F.avg_pool2d(normal(images[:, :1], generator), 3, stride=1, padding=1)
    ice = (ice + 0.2 * ice * grain).clamp(0, 1)
    tint = torch.tensor([0.85, 0.95, 1.0], device=images.device).view(1, 3, 1, 1)
    share = level(severity, 0, 0.4, 0.55, 0.65, 0.75, 0.85) * ice
    dimmed = images * level(severity, 1, 0.9, 0.8, 0.7, 0.65, 0.6)
    return (dimmed * (1 - share) + tint * share).clamp(0, 1)


def bumps(images: Tensor, sides: tuple[float, ...], generator: Generator) -> Tensor:
    """Smooth bumps and hollows of about so many pixels, mostly of one of the sizes, of deviation 1:
    (N, 1, H, W)."""
    count, _, height, width = images.shape
    chosen = torch.randn(len(sides), count, 1, 1, 1, generator=generator, device=images.device)
    field = torch.zeros(count, 1, height, width, device=images.device)
    for side, share in zip(sides, (4 * chosen).softmax(0), strict=True):
        size = (max(4, round(length / side)) + 2 for length in (height, width))
        coarse = torch.randn(count, 1, *size, generator=generator, device=images.device)
        field += share * F.interpolate(coarse, (height, width), mode="bicubic")
    return field / field.std((2, 3), correction=0, keepdim=True).clamp(min=1e-6)


def flakes(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Layers of ragged flakes of any size, drawn out by their fall: (N, 1, H, W)."""
    fall, much = uniform(images, 0, 1, generator), severity.view(-1, 1, 1, 1) / 5
    fallen = torch.zeros_like(images[:, :1])
    for _ in range(2):
        above = (
            bumps(images, (1.3, 2.2, 3.5, 5.5), generator)
            - uniform(images, 1, 2.6, generator)
            + 0.8 * much
        )
        above = above.clamp(min=0)
        layer = above * uniform(images, 0.3, 1.2, generator)
        layer = layer + uniform(images, 0, 0.5, generator) * (above > 0)
        mirrored = uniform(images, 0, 1, generator) < 0.5
        angle = torch.where(mirrored, 1 - fall, fall) + uniform(images, -0.03, 0.03, generator)
        layer = convolve(layer.clamp(max=1), lines(angle, (1, 26), (0.7, 2), generator))
        shown = uniform(images, 0, 1, generator) < 0.65
        fallen = fallen + shown * layer * uniform(images, 0.4, 1.6, generator)
    density = level(severity, 0, 0.003, 0.006, 0.010, 0.015, 0.022)
    density = density * uniform(images, 0, 1.5, generator)
    far = streaks(images, density, lines(fall, (1, 14), (1, 3), generator), generator)
    # few below severity 1
    return fallen * (5 * much).clamp(max=1) + far * uniform(images, 0, 1, generator)


def snowfall(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """`flakes`, whose light is added to a paler scene or hides it."""
    much, fallen = severity.view(-1, 1, 1, 1) / 5, flakes(images, severity, generator)
    grey = uniform(images, 0.3, 0.55, generator)
    grey = grey + uniform(images, 0.6, 1.4, generator) * images.mean(1, keepdim=True)
    pale = much.sqrt() * uniform(images, 0, 0.6, generator)
    scene = images + pale * (grey - images).clamp(min=0)
    white = uniform(images, 0.8, 1, generator)
    hidden = scene + (white - scene).clamp(min=0) * fallen.clamp(max=1)
    added = uniform(images, 0, 1, generator) < 0.6
    return torch.where(added, scene + fallen, hidden).clamp(0, 1)


def relief(images: Tensor, generator: Generator) -> Tensor:
    """Of a pane of ice, of deviation 1: clouds, bumps, needles, grain and ridges (N, 1, H, W)."""
    grain = F.avg_pool2d(normal(images[:, :1], generator), 3, stride=1, padding=1)
    needle = needles(images, generator) - 0.6 * needles(images, generator)
    parts = (
        *(2 * fractal(images, generator) - 1, 1.2 * needle, 0.5 * grain),
        0.4 * bumps(images, (2, 5, 10, 24), generator),
        1 - 2 * (2 * fractal(images, generator) - 1).abs(),
    )
    ice = sum((p * uniform(images, 0, 1, generator) ** 2 for p in parts), torch.zeros(()))
    ice = ice - ice.mean((2, 3), keepdim=True)
    return ice / ice.std((2, 3), correction=0, keepdim=True).clamp(min=1e-6)


def icy(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A pane of ice, whose light is added to a dimmed scene, or which hides it where it is
    thick."""
    much, ice = severity.view(-1, 1, 1, 1) / 5, relief(images, generator)
    blue = torch.tensor([-0.11, 0.01, 0.10], device=images.device).view(1, 3, 1, 1)
    tint = 1 + blue * uniform(images, -0.2, 1.3, generator)
    bright, rich = uniform(images, 0.3, 0.9, generator), uniform(images, 0.04, 0.22, generator)
    scene = images * (1 - much * uniform(images, 0.1, 0.6, generator))
    share = much.sqrt() * uniform(images, 0.3, 1, generator)
    added = scene + share * (tint * (bright + rich * ice)).clamp(0, 1)
    thick = ice * uniform(images, 0.2, 1, generator) + uniform(images, -1, 1, generator)
    hidden = torch.lerp(scene, (tint * (0.3 + 0.7 * bright)).clamp(0, 1), share * thick.sigmoid())
    return torch.where(uniform(images, 0, 1, generator) < 0.65, added, hidden).clamp(0, 1)


def mud(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Splashes on the lens that hide the scene."""
    field = bumps(images, (4, 7, 11, 16), generator)
    thick = (field - 2 + 0.22 * severity.view(-1, 1, 1, 1)) * uniform(images, 2, 10, generator)
    brown = torch.tensor([0.25, 0.17, 0.08], device=images.device).view(1, 3, 1, 1)
    brown = brown * uniform(images, 0.4, 1.8, generator)
    return torch.lerp(images, brown.expand_as(images), thick.clamp(0, 1))


def drops(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Drops and trickles of water on the lens: where a random field is high, bright on the slopes
    that face the light."""
    ground = 0.5 + 0.1 * normal(images[:, :1], generator)
    field = convolve(ground, gaussian_kernel(uniform(images, 1.5, 4, generator))) - 0.5
    field = field / field.std((2, 3), correction=0, keepdim=True).clamp(min=1e-6)
    height = field - level(severity, 3, 1.6, 1.3, 1.0, 0.8, 0.6)
    water = (height * uniform(images, 2, 8, generator)).clamp(0, 1)
    angle = uniform(images, 0, 2 * math.pi, generator)
    wide = F.pad(water, (0, 1, 0, 1), mode="replicate")
    down, across = wide[..., 1:, :-1] - water, wide[..., :-1, 1:] - water
    slope = (across * angle.cos() + down * angle.sin()).clamp(min=0)
    slope = slope / slope.amax((2, 3), keepdim=True).clamp(min=1e-6)
    light = (slope + uniform(images, 0, 0.4, generator) * water).clamp(0, 1)
    tint = torch.tensor([0.75, 0.95, 0.95], device=images.device).view(1, 3, 1, 1)
    return (images + tint * light * level(severity, 0, 0.4, 0.55, 0.65, 0.75, 0.85)).clamp(0, 1)


# --- blur and compression --------------------------------------------------------------------


def gaussian_blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A Gaussian of 1 to 5 pixels."""
    return convolve(images, gaussian_kernel(level(severity, 0.1, 1, 1.7, 2.5, 3.5, 5)))


def defocus_blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A disc with a soft rim (ImageNet-C's radii)."""
    x, y = grid(images)
    radius = level(severity, 0, 3, 4, 6, 8, 10).view(-1, 1, 1)
    kernel = (radius + 0.5 - (x.square() + y.square()).sqrt()).clamp(0, 1)
    return convolve(images, kernel / kernel.sum((1, 2), keepdim=True))


def at_nearest(x: Tensor, y: Tensor, amounts: Tensor) -> Tensor:
    """Kernels (N, 2 FAR + 1, 2 FAR + 1) with these amounts, (N, 1, steps), in the pixels that are
    nearest to (x, y) from the middle."""
    side = 2 * FAR + 1
    places = ((y.round() + FAR) * side + x.round() + FAR).long()
    kernels = amounts.new_zeros(len(amounts), side * side)
    return kernels.scatter_add(1, places.flatten(1), amounts.flatten(1)).unflatten(1, (side, side))


def moving_kernels(
    like: Tensor, generator: Generator, length: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Straight moves that are even, come to rest, or fade: angles in radians (N,), and kernels
    (N, 2 FAR + 1, 2 FAR + 1), as a camera makes them or by whole pixels, as software does. All
    begin in the middle. How long they are is drawn, or says `length` (N, 1, 1), from -1 for next to
    nothing to 1.

    Half of them go nearly across or down, as most things do and as a camera is swung: where a
    photograph has lines of its own such a move is told the least."""
    angle = uniform(like, 0, 4, generator)[:, 0]
    nearly = angle.round() + 0.05 * normal(angle, generator)
    upright = uniform(like, 0, 1, generator)[:, 0] < 0.5
    angle = torch.where(upright, nearly, angle) * (math.pi / 2)
    sort, drawn, by_wholes = (uniform(like, 0, 1, generator)[:, 0] for _ in range(3))
    far = drawn if length is None else length

    def way(along: Tensor) -> Tensor:
        even = (2.5 + 23 * far.clamp(min=-0.1) - along).clamp(0, 1)
        halting = torch.exp(-along.square() / (2 * (1.5 * 10**far).square()))
        fading = torch.exp(-along.clamp(min=0) / (1.2 * 7**far))
        going = torch.where(sort < 1 / 3, even, torch.where(sort < 2 / 3, halting, fading))
        return going * (along + 1).clamp(0, 1)

    x, y = grid(like, FAR)
    across = (y * angle.cos() - x * angle.sin()).abs()
    smooth = way(x * angle.cos() + y * angle.sin()) * (1 - across).clamp(0, 1)
    steps = torch.arange(-FAR, FAR + 1.0, device=like.device)
    stepped = at_nearest(steps * angle.cos(), steps * angle.sin(), way(steps))
    kernels = torch.where(by_wholes < 0.5, stepped, smooth)
    return angle.flatten(), kernels / kernels.sum((1, 2), keepdim=True)


def discs(like: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """What a lens out of focus makes of a point: radii in pixels (N,), and kernels
    (N, 2 FAR + 1, 2 FAR + 1), with a rim of parts of pixels or, as software has it, of whole ones,
    more or less softened."""
    radius = uniform(like, 1.5, 10.5, generator)[:, 0]
    softness = uniform(like, 0.1, 1, generator)
    by_wholes = uniform(like, 0, 1, generator)[:, 0] < 0.4
    x, y = grid(like, FAR)
    distance = (x.square() + y.square()).sqrt()
    radius = torch.where(by_wholes, radius.round(), radius)
    sharp = torch.where(
        by_wholes, (distance <= radius).float(), (radius + 0.5 - distance).clamp(0, 1)
    )
    kernels = convolve(sharp[:, None], gaussian_kernel(softness))[:, 0]
    return radius.flatten(), kernels / kernels.sum((1, 2), keepdim=True)


def motion_blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A straight move of the camera (ImageNet-C's lengths where it comes to rest)."""
    length = level(severity, -1, 0.25, 0.5, 0.7, 0.9, 1.15)[:, 0]
    return convolve(images, moving_kernels(images, generator, length)[1])


def warped(images: Tensor, shift: Tensor) -> Tensor:
    """Every pixel taken from elsewhere: shifts (N, 2, H, W) in pixels, x before y."""
    height, width = images.shape[-2:]
    identity = torch.eye(2, 3, device=images.device).expand(len(images), 2, 3)
    here = F.affine_grid(identity, list(images.shape), align_corners=False)
    size = torch.tensor([width, height], device=images.device)
    there = here + shift.movedim(1, 3) * 2 / size
    return F.grid_sample(images, there, padding_mode="reflection", align_corners=False)


def zoom_blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """The lens zooms while the shutter is open: the mean of enlarged copies (ImageNet-C)."""
    most = level(severity, 0, 0.11, 0.16, 0.21, 0.26, 0.31).flatten()
    total = images
    for part in torch.linspace(0, 1, 9)[1:].tolist():
        scale = 1 / (1 + part * most)
        theta = scale.view(-1, 1, 1) * torch.eye(2, 3, device=images.device)
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        total = total + F.grid_sample(images, grid, padding_mode="border", align_corners=False)
    return total / 9


def glass_blur(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Rough glass: pixels change places with near ones, alone or a few together, and run into each
    other before and after."""
    fine, coarse = (normal(images[:, :2], generator) for _ in range(2))
    # five pixels together, of the same size as one alone
    coarse = 5 * F.avg_pool2d(coarse, 5, stride=1, padding=2)
    share = uniform(images, 0, 1, generator)
    far = level(severity, 0, 1.0, 1.6, 2.7, 3.4, 4.6) * uniform(images, 1, 2, generator)
    shift = far * (fine * (1 - share) + coarse * share)
    softness = severity * uniform(images, 0.1, 0.7, generator).flatten()
    ragged = warped(gaussian_blur(images, softness, generator), shift)
    return gaussian_blur(ragged, softness, generator)


def elastic(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Hot air or water: smooth shifts of up to a few pixels."""
    count, _, height, width = images.shape
    size = max(2, height // 16), max(2, width // 16)
    coarse = torch.randn(count, 2, *size, generator=generator, device=images.device)
    smooth = F.interpolate(coarse, (height, width), mode="bicubic")
    return warped(images, level(severity, 0, 0.5, 0.8, 1.2, 1.6, 2.2) * smooth)


def areas(length: int, parts: int, device: torch.device) -> Tensor:
    """What share each pixel of a line has in each of so many equal parts of it (parts, length)."""
    start = torch.arange(parts, device=device)[:, None] * (length / parts)
    pixel = torch.arange(length, device=device)
    common = (start + length / parts).minimum(pixel + 1) - start.maximum(pixel)
    return common.clamp(min=0) * (parts / length)


def whole_areas(length: int, parts: int, device: torch.device) -> Tensor:
    """The same where every pixel is of the part alone that its middle lies in, as in Pillow."""
    middles = torch.arange(length, device=device) + 0.5
    found = (middles * (parts / length)).floor().clamp(max=parts - 1)
    of = (found == torch.arange(parts, device=device)[:, None]).float()
    return of / of.sum(1, keepdim=True)


def resampled(images: Tensor, severity: Tensor, mode: str, generator: Generator) -> Tensor:
    """Down by area, half of them by whole pixels, and up again; every image has its own size in
    between."""
    share = level(severity, 1, 0.6, 0.5, 0.4, 0.3, 0.25).flatten().tolist()
    wholes = (uniform(images, 0, 1, generator) < 0.5).flatten().tolist()
    height, width = images.shape[-2:]
    results = []
    for image, part, whole in zip(images.split(1), share, wholes, strict=True):
        size = max(1, round(height * part)), max(1, round(width * part))
        mean = whole_areas if whole else areas
        rows, columns = (mean(*n, images.device) for n in zip((height, width), size, strict=True))
        small = rows @ image @ columns.T
        results.append(F.interpolate(small, (height, width), mode=mode))
    return torch.cat(results)


def pixelate(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """Large square pixels (ImageNet-C)."""
    return resampled(images, severity, "nearest", generator)


def down_sample(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """A small image enlarged smoothly."""
    return resampled(images, severity, "bilinear", generator)


# the luminance and chrominance tables of ITU-T T.81, annex K
LUMINANCE = (
    (16, 11, 10, 16, 24, 40, 51, 61),
    (12, 12, 14, 19, 26, 58, 60, 55),
    (14, 13, 16, 24, 40, 57, 69, 56),
    (14, 17, 22, 29, 51, 87, 80, 62),
    (18, 22, 37, 56, 68, 109, 103, 77),
    (24, 35, 55, 64, 81, 104, 113, 92),
    (49, 64, 78, 87, 103, 121, 120, 101),
    (72, 92, 95, 98, 112, 100, 103, 99),
)
CHROMINANCE = (
    (17, 18, 24, 47, 99, 99, 99, 99),
    (18, 21, 26, 66, 99, 99, 99, 99),
    (24, 26, 56, 99, 99, 99, 99, 99),
    (47, 66, 99, 99, 99, 99, 99, 99),
    *((99,) * 8,) * 4,
)
# JFIF: full-range YCbCr from RGB
YCBCR = ((0.299, 0.587, 0.114), (-0.168736, -0.331264, 0.5), (0.5, -0.418688, -0.081312))


def quantised(plane: Tensor, table: Tensor) -> Tensor:
    """One plane (N, H, W), multiples of 8, through the 8x8 DCT and a table (N, 8, 8)."""
    steps = torch.arange(8, device=plane.device, dtype=torch.float32)
    dct = torch.cos(math.pi / 8 * (steps + 0.5) * steps[:, None]) / 2
    dct[0] /= math.sqrt(2)
    table = table[:, None, None]
    blocks = plane.unflatten(2, (-1, 8)).unflatten(1, (-1, 8)).transpose(2, 3)
    coefficients = (dct @ blocks @ dct.T / table).round() * table
    return (dct.T @ coefficients @ dct).transpose(2, 3).flatten(3).flatten(1, 2)


def jpeg(images: Tensor, severity: Tensor, generator: Generator) -> Tensor:
    """JPEG's colour conversion, 4:2:0 subsampling, DCT and quantisation; qualities 95 to 7."""
    height, width = images.shape[-2:]
    quality = level(severity, 95, 25, 18, 15, 10, 7).view(-1, 1, 1)
    scale = torch.where(quality < 50, 50 / quality, 2 - quality / 50)
    tables = torch.tensor((LUMINANCE, CHROMINANCE), device=images.device, dtype=torch.float32)
    luma, chroma = ((table * scale).round().clamp(1, 255) for table in tables)
    matrix = torch.tensor(YCBCR, device=images.device)
    padded = F.pad(images * 255, (0, -width % 16, 0, -height % 16), mode="replicate")
    planes = torch.einsum("oc,nchw->nohw", matrix, padded)
    light = quantised(planes[:, 0] - 128, luma) + 128
    colour = F.avg_pool2d(planes[:, 1:], 2).flatten(0, 1)
    colour = quantised(colour, chroma.repeat_interleave(2, 0)).unflatten(0, (-1, 2))
    colour = F.interpolate(colour, scale_factor=2, mode="bilinear")
    planes = torch.cat([light[:, None], colour], 1)
    back = torch.linalg.inv(torch.tensor(YCBCR)).to(images.device)
    rgb = torch.einsum("oc,nchw->nohw", back, planes)
    return (rgb[..., :height, :width] / 255).clamp(0, 1)


# one family for each DNC branch; the last branch belongs to clean images
FAMILIES: tuple[tuple[Degradation, ...], ...] = (
    (haze, mist, low_light, low_contrast, over_exposure, colour_cast),
    (gaussian_noise, shot_noise, impulse_noise, speckle_noise),
    (rain, snow, snowfall, frost, icy, drops, mud),
    (
        *(gaussian_blur, defocus_blur, motion_blur, zoom_blur, glass_blur, elastic),
        *(jpeg, pixelate, down_sample),
    ),
)
CLEAN_FAMILY = len(FAMILIES)
LIGHT_FAMILY, NOISE_FAMILY, WEATHER_FAMILY = 0, 1, 2
# what PixelFilter is for: one linear filter mends them, more or less, and a switching one impulses
FILTERABLE: tuple[Degradation, ...] = (
    *(gaussian_blur, defocus_blur, motion_blur, zoom_blur, glass_blur),
    *(impulse_noise, pixelate, down_sample),
)
# what lies over a scene, and WeatherFilter takes away
COVERS: tuple[Degradation, ...] = (*FAMILIES[WEATHER_FAMILY], jpeg)
# what happens first in the world and in a camera: weather, light, lens, sensor, file
ORDER: tuple[Degradation, ...] = (
    *(elastic, rain, snow, snowfall, haze, mist, frost, icy, drops, mud),
    *(low_light, over_exposure, colour_cast, low_contrast),
    *(glass_blur, gaussian_blur, defocus_blur, motion_blur, zoom_blur),
    *(shot_noise, speckle_noise, gaussian_noise, impulse_noise),
    *(down_sample, pixelate, jpeg),
)
