"""What is done to the pixels before E learns, by what the synthesis knows of them: stages 0 to 6.

No teacher is asked: a recogniser's gradient at a handful of numbers for a whole image is mostly
noise. But in stage 4 what a part sees of images does not change while it learns, so each sort of
sample is a value of its own, from which it may learn many times.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from . import losses
from .bands import full_precision, image_of
from .data import Pairs
from .defocus import RADII, WHOLES, radii_on, rings_of
from .degradations import (
    LIGHT_FAMILY,
    WEATHER_FAMILY,
    convolve,
    discs,
    moving_kernels,
    normal,
    uniform,
)
from .learner import Learner
from .mosaic import without_mosaic
from .motion import profiles_of as profiles_along
from .motion import windows_on
from .response import STRONGEST, tapered, windows_of
from .restorer import Restorer
from .teachers import Teacher
from .zoom import profiles_in

CONTRAST = 0.3  # of a photograph, as `contrast_of` has it
NOISY = 0.4  # of the images that are moved, or out of focus


class Rays(NamedTuple):
    """What ZoomFilter sees of images, and what it is to ask for: (N, 2, parts, BINS), (N, BINS)."""

    profiles: Tensor
    wanted: Tensor


@torch.no_grad()
def rays_of(pairs: Pairs) -> Rays:
    """Nothing that learns comes before ZoomFilter, so all of it is known beforehand."""
    with full_precision(pairs.degraded):
        both = pairs.clean, without_mosaic(pairs.degraded)
        clean, degraded = (profiles_in(images) for images in both)
        return Rays(degraded, losses.rays_target(degraded, clean))


def zoom_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 0: what ZoomFilter asks for, by the spectra along and across the rays alone."""
    return {"zoom": rays_loss(learner.restorer, rays_of(pairs))}


def rays_loss(restorer: Restorer, rays: Rays) -> Tensor:
    with full_precision(rays.profiles):
        return F.mse_loss(restorer.zoom_filter.asked(rays.profiles), rays.wanted)


class Moves(NamedTuple):
    """What MotionFilter sees of images (N, parts, ANGLES, BINS); the angle of the move in each
    (N,); what that left of the amplitudes along it, and by what they are to be multiplied, as
    logarithms (N, 2 BINS); whether there is a move (N,)."""

    profiles: Tensor
    angle: Tensor
    wanted: Tensor
    moved: Tensor


def on_device(generator: Generator, device: torch.device) -> Generator:
    """Another one there, seeded by this one."""
    seed = int(torch.randint(2**62, (), generator=generator))
    return Generator(device).manual_seed(seed)


def blurred(clean: Tensor, kernels: Tensor, generator: Generator) -> tuple[Tensor, Tensor]:
    """Images (N, 3, H, W) by kernels, some with noise, in 8 bits; the noise's deviation
    (N, 1, 1, 1)."""
    noise = 10 ** uniform(clean, -3.5, -1.2, generator)
    noise = noise * (uniform(clean, 0, 1, generator) < NOISY)
    images = convolve(clean, kernels)
    noisy = images + noise * normal(images, generator)
    return (noisy.clamp(0, 1) * 255).round() / 255, noise


@torch.no_grad()
def moves_of(pairs: Pairs, generator: Generator) -> Moves:
    """Every other clean image moved, some with noise, and as many degraded ones, which MotionFilter
    is to leave. (Those among them that were moved, too, are too few to matter.)"""
    device = pairs.clean.device
    generator = on_device(generator, device)
    clean, rest = pairs.clean[::2], pairs.degraded[1::2]
    angle, kernels = moving_kernels(clean, generator)
    made, noise = blurred(clean, kernels, generator)
    images = torch.cat([made, without_mosaic(rest)])
    with full_precision(images):
        profiles = profiles_along(windows_on(torch.cat([images, clean])).spectrum)
        found, sharp = profiles.split([len(images), len(clean)])
        wanted = losses.move_target(sharp[:, 0], angle, kernels, noise.flatten())
    moved = torch.arange(len(images), device=device) < len(clean)
    return Moves(found, F.pad(angle, (0, len(rest))), F.pad(wanted, (0, 0, 0, len(rest))), moved)


def motion_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 1: what MotionFilter sees, by moves that are known."""
    return {"motion": moves_loss(learner.restorer, moves_of(pairs, generator))}


def moves_loss(restorer: Restorer, moves: Moves) -> Tensor:
    with full_precision(moves.profiles):
        scores, along = restorer.motion_filter.asked(moves.profiles)
        return losses.move_loss(scores, along, moves.angle, moves.wanted, moves.moved)


class Discs(NamedTuple):
    """What DefocusFilter sees of images (N, RINGS), and the radius of the disc in each, in pixels,
    a whole number if it is made of whole ones, 0 if there is none (N,)."""

    rings: Tensor
    radius: Tensor


@torch.no_grad()
def discs_of(restorer: Restorer, pairs: Pairs, generator: Generator) -> Discs:
    """Every other clean image out of focus, some with noise, and as many degraded ones, which
    DefocusFilter is to leave, as MotionFilter leaves them. (Those among them that are out of focus,
    too, are too few to matter.)"""
    generator = on_device(generator, pairs.clean.device)
    clean, rest = pairs.clean[::2], pairs.degraded[1::2]
    radius, kernels = discs(clean, generator)
    images = torch.cat([blurred(clean, kernels, generator)[0], rest])
    with full_precision(images):
        sharp, _ = restorer.zoom_filter(without_mosaic(images))
        rings = rings_of(windows_on(restorer.motion_filter(sharp)).spectrum)
    return Discs(rings, F.pad(radius, (0, len(rest))))


def defocus_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 2: what DefocusFilter sees, by discs that are known."""
    restorer = learner.restorer
    return {"defocus": discs_loss(restorer, discs_of(restorer, pairs, generator))}


def discs_loss(restorer: Restorer, found: Discs) -> Tensor:
    with full_precision(found.rings):
        scores = restorer.defocus_filter.asked(found.rings)
        smooth, wholes, _ = radii_on(scores.device).split([len(RADII), len(WHOLES), 1])
        return losses.disc_loss(scores, found.radius, smooth, wholes)


class Choice(NamedTuple):
    """What a judgement is told of images (N, known), and what would be gone of their error (N,):
    see `losses.change_of`."""

    told: Tensor
    change: Tensor


def choice_loss(judge: Callable[[Tensor], Tensor], choice: Choice) -> Tensor:
    """Of the chances that it gives to what it is told."""
    with full_precision(choice.told):
        return losses.choice_loss(judge(choice.told), choice.change)


@torch.no_grad()
def streaks_of(restorer: Restorer, pairs: Pairs) -> Choice:
    """Nothing before StreakFilter learns with it, and it only judges: all of it is known
    beforehand."""
    streaks = restorer.streak_filter
    with full_precision(pairs.degraded):
        images, _ = restorer.sharpened(pairs.degraded)
        told = streaks.signs(images).mean((2, 3))
        without = streaks.mended(images, torch.ones_like(told[:, 0]))
        return Choice(told, losses.change_of(images, without, pairs.clean))


def streaks_loss(restorer: Restorer, choice: Choice) -> Tensor:
    return choice_loss(restorer.streak_filter.chance, choice)


def streak_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 3: where there are streaks to be taken away, by what is left of an image's error."""
    restorer = learner.restorer
    return {"streaks": streaks_loss(restorer, streaks_of(restorer, pairs))}


def wanted_shares(families: Tensor, branches: int) -> Tensor:
    """Of the branches (N, branches): with fewer of them than families the last ones share."""
    kept, rest = families[:, :branches], families[:, branches:]
    return torch.cat([kept[:, :-1], kept[:, -1:] + rest.sum(1, keepdim=True)], 1)


def light_loss(bands: Tensor, pairs: Pairs) -> Tensor:
    """What PixelDNC is for: its image must come near the clean one where the light was changed, by
    weather too.

    Else it learns to recolour every family as it likes, and what follows learns to undo that.
    """
    light = pairs.families[:, LIGHT_FAMILY] + pairs.families[:, WEATHER_FAMILY]
    return losses.pixel_loss(image_of(bands), pairs.clean, light)


def front_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 4: PixelFilter and PixelDNC, by the little that can be said in pixels."""
    restorer = learner.restorer
    filtered, known = restorer.pixel_filter(restorer.cleared(pairs.degraded)[0])
    wanted = wanted_shares(pairs.families, restorer.config.branches)
    return {
        "filter": losses.filter_loss(filtered, pairs.degraded, pairs.clean, pairs.filterable),
        "normalised": 5 * light_loss(restorer.normalise(filtered, known, wanted), pairs),
    }


def contrast_of(images: Tensor) -> Tensor:
    """The deviation in each image (N, 1, 1, 1), by which an error is more or less seen."""
    return images.std((1, 2, 3), keepdim=True) + 0.05


def change_seen(before: Tensor, after: Tensor, clean: Tensor) -> Tensor:
    """`losses.change_of` (N,), errors by the contrast they are seen in."""
    by = CONTRAST / contrast_of(clean)
    return losses.change_of(*(by * images for images in (before, after, clean)))


@torch.no_grad()
def noises_of(restorer: Restorer, pairs: Pairs) -> Choice:
    """As `streaks_of`, but nothing but noise is an error, which counts by the contrast it is seen
    in: in the dark most of what is wrong is no noise."""
    pixel_filter = restorer.pixel_filter
    with full_precision(pairs.degraded):
        images, _ = restorer.cleared(pairs.degraded)
        mended, known = pixel_filter.without_impulses(images)
        noise = pixel_filter.noise_filter
        levels = noise.levels(windows_of(mended))
        without = noise.mended(mended, levels, torch.ones_like(known[:, 0]))
        return Choice(known, change_seen(mended, without, pairs.noiseless))


def noises_loss(restorer: Restorer, choice: Choice) -> Tensor:
    return choice_loss(restorer.pixel_filter.noise_filter.chance, choice)


def noise_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 5: PixelFilter's judgement of noise, as that of streaks."""
    restorer = learner.restorer
    return {"noise": noises_loss(restorer, noises_of(restorer, pairs))}


class Asked(NamedTuple):
    """What a frequency response is made of (known (N, known), spectrum (N, SIDE, SIDE)), and what
    it is to be: the logarithm (N, SIDE, SIDE), for images of which that share can be filtered."""

    known: Tensor
    spectrum: Tensor
    wanted: Tensor
    filterable: Tensor


@torch.no_grad()
def responses_asked(restorer: Restorer, pairs: Pairs) -> Asked:
    """Nothing before the frequency response learns with it, so all of it is known beforehand."""
    with full_precision(pairs.degraded):
        images, known = restorer.pixel_filter.denoised(restorer.cleared(pairs.degraded)[0])
        degraded, clean = (tapered(windows_of(i)) for i in (images, pairs.clean))
        wanted, spectrum = losses.response_target(degraded, clean, STRONGEST)
        return Asked(known, spectrum, wanted, pairs.filterable)


def response_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 6: PixelFilter's frequency response, by the spectra alone."""
    asked = responses_asked(learner.restorer, pairs)
    return {"response": asked_loss(learner.restorer, asked)}


def asked_loss(restorer: Restorer, asked: Asked) -> Tensor:
    """Of the response that the restorer gives."""
    with full_precision(asked.known):
        response = restorer.pixel_filter.asked(asked.known, asked.spectrum)
        return losses.response_loss(response, asked.wanted, asked.spectrum, asked.filterable)
