"""Prior-ascribing training without labels: a Stage is a value, one loop runs them all.

Order of the paper: a prior first (E, then SAD), then the enhancement. Ours has what is done to the
pixels before all of them; and where the paper freezes the prior ours learns on, for frozen it did
not pay (docs/ablations.md).
"""

import copy
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from . import losses
from .bands import full_precision, image_of
from .config import RestorerConfig
from .data import Chance, Oftener, Pairs, draw_pairs, mixed
from .defocus import RADII, WHOLES, radii_on, rings_of
from .degradations import (
    CLEAN_FAMILY,
    LIGHT_FAMILY,
    NOISE_FAMILY,
    WEATHER_FAMILY,
    convolve,
    defocus_blur,
    discs,
    down_sample,
    drops,
    frost,
    gaussian_blur,
    gaussian_noise,
    glass_blur,
    haze,
    icy,
    jpeg,
    low_contrast,
    low_light,
    mist,
    motion_blur,
    moving_kernels,
    mud,
    normal,
    over_exposure,
    pixelate,
    rain,
    shot_noise,
    snow,
    snowfall,
    speckle_noise,
    uniform,
    zoom_blur,
)
from .mosaic import without_mosaic
from .motion import profiles_of as profiles_along
from .motion import windows_on
from .processes import Processes
from .progress import LOG_EVERY, Progress
from .response import STRONGEST, tapered, windows_of
from .restorer import Judged, Rebuilt, Restorer
from .teachers import Teacher
from .weights import atomic_torch_save
from .zoom import profiles_in

CHECKPOINT = "checkpoint.pt"
CROP = 112  # pixels
SAVE_EVERY = 120.0  # seconds between checkpoints
RATE = 2e-3  # Adam's
WARM_UP = 100  # steps
EMA_DECAY = 0.999
# Of Light's switches, which no stage learns. The darkest tenth of most clean photographs is darker,
# that of veiled ones paler; most clean ones have a wider range, dark and hazy ones a narrower one;
# are brighter than dark ones in which there is light; and have details of more contrast than foggy
# ones anywhere
PALE, NARROW, DARK, POOR = 0.2, 0.45, 0.22, 0.15
LEFT = 0.2  # of the noise, by pixels: recognisers see more where some is than where all is smooth
CONTRAST = 0.3  # of a photograph, as `contrast_of` has it
TEACHER_LIMIT = 10.0  # their gradient at an image, in lengths of L1's; see `losses.limited`


class Learner(nn.Module):
    """What a training run holds: the restorer, and the throw-away heads of the stage "encoder"."""

    def __init__(self, restorer: Restorer, teachers: Sequence[Teacher]):
        super().__init__()
        self.restorer = restorer
        channels = restorer.config.channels
        with torch.no_grad():
            images = next(restorer.parameters()).new_zeros(1, 3, CROP, CROP)
            depths = [self.target(teacher, images) for teacher in teachers]
        self.heads = nn.ModuleList(nn.Conv2d(channels, d.shape[1], 1) for d in depths)
        # E is also asked to keep the picture, or SAD could not rebuild it
        self.patch = 2 if restorer.config.published else 4
        self.pixels = nn.Conv2d(channels, 3 * self.patch**2, 1)

    @staticmethod
    def target(teacher: Teacher, images: Tensor) -> Tensor:
        """The teacher's features at a quarter and an eighth of the resolution, side by side."""
        fine, coarse = teacher(images)[:2]
        return torch.cat([fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear")], 1)


Loss = Callable[[Learner, Pairs, Sequence[Teacher], Generator], dict[str, Tensor]]


def choose(teachers: Sequence[Teacher], generator: Generator) -> int:
    """One teacher a step, each as often: what all of them need, not one network's taste."""
    return int(torch.randint(len(teachers), (), generator=generator))


def encoder_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 7: from either image E must tell what the teacher sees in the clean one."""
    index = choose(teachers, generator)
    with torch.no_grad():
        target = learner.target(teachers[index], pairs.clean)
    found = {}
    for name, images in (("clean", pairs.clean), ("degraded", pairs.degraded)):
        features = learner.restorer.encode(images)
        seen = F.interpolate(learner.heads[index](features.relu()), target.shape[-2:])
        found[name] = losses.feature_distance(seen, target).mean()
        rebuilt = F.pixel_shuffle(learner.pixels(features), learner.patch)
        # the heavier term: what E loses, nothing behind it can bring back
        found[f"{name}_pixels"] = 20 * losses.pixel_loss(rebuilt, images)
    return found


def decoder_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 8: SAD rebuilds from E's features, clean ones above all."""
    restorer = learner.restorer
    clean = restorer.decode(restorer.encode(pairs.clean))
    degraded = restorer.decode(restorer.encode(pairs.degraded))
    return {
        "clean": losses.pixel_loss(clean, pairs.clean),
        "degraded": 0.1 * losses.pixel_loss(degraded, pairs.degraded),
        "ranking": losses.ranking_loss(clean, degraded, pairs.clean),
    }


def wanted_shares(families: Tensor, branches: int) -> Tensor:
    """Of the branches (N, branches): with fewer of them than families the last ones share."""
    kept, rest = families[:, :branches], families[:, branches:]
    return torch.cat([kept[:, :-1], kept[:, -1:] + rest.sum(1, keepdim=True)], 1)


def gate_losses(rebuilt: Rebuilt, wanted: Tensor) -> Tensor:
    """The synthesis knows what it did: FGM must tell it, in every place and of the whole image."""
    whole = losses.gate_loss(rebuilt.shares[..., None, None], wanted)
    return 0.05 * (losses.gate_loss(rebuilt.gate, wanted) + whole)


def light_loss(bands: Tensor, pairs: Pairs) -> Tensor:
    """What PixelDNC is for: its image must come near the clean one where the light was changed, by
    weather too.

    Else it learns to recolour every family as it likes, and what follows learns to undo that.
    """
    light = pairs.families[:, LIGHT_FAMILY] + pairs.families[:, WEATHER_FAMILY]
    return losses.pixel_loss(image_of(bands), pairs.clean, light)


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


def front_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 4: what is done to the pixels before E, by the little that can be said in pixels.

    A recogniser's gradient at a handful of numbers for a whole image is mostly noise.
    """
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
        seen = CONTRAST / contrast_of(pairs.noiseless)
        mended, without, noiseless = (seen * i for i in (mended, without, pairs.noiseless))
        return Choice(known, losses.change_of(mended, without, noiseless))


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


def branch_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 9: every family of degradations has its own DNC branch, chosen by its label in some
    of the steps, and by FGM, which learns to tell it, in the others.

    The label is the synthesis' own.
    """
    restorer = learner.restorer
    wanted = wanted_shares(pairs.families, restorer.config.branches)
    given = wanted if int(torch.randint(4, (), generator=generator)) == 0 else None
    rebuilt = restorer.rebuild(pairs.degraded, given)
    with torch.no_grad():
        clean = restorer.encode(pairs.clean)
    found = {
        "pixels": losses.pixel_loss(rebuilt.images, pairs.clean),
        "semantic": 0.1 * losses.semantic_loss(rebuilt.features, clean),
        "gate": gate_losses(rebuilt, wanted),
    }
    if not restorer.config.published:
        found["normalised"] = light_loss(rebuilt.given, pairs)
    return found


def whole_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 10: FGM gates the branches; frozen recognisers must see what is in the clean.

    They stand in for L_sem: what they see is what E was taught to see. Pixels are asked for only of
    clean images, and of PixelDNC where the light was changed: recognisers who see more in an image
    of which a part of the noise was taken than in a smooth one must be free to say so. They are
    shown whole things, in crops of the size that they are used at.
    """
    rebuilt = learner.restorer.rebuild(pairs.degraded)
    clean = pairs.families[:, CLEAN_FAMILY]
    found = {"clean": 5 * losses.pixel_loss(rebuilt.images, pairs.clean, clean)}
    if not learner.restorer.config.published:
        found["normalised"] = 5 * light_loss(rebuilt.given, pairs)
        found["gate"] = gate_losses(rebuilt, pairs.families)
    teacher = teachers[choose(teachers, generator)]
    found["teacher"] = teacher_loss(teacher, rebuilt.images.clamp(0, 1), pairs).mean()
    return found


class Valued(NamedTuple):
    """What `Worth` is told of images (N, known), and the divergence of a teacher's answers from
    those on the clean ones before and after they are restored (N,)."""

    told: Tensor
    before: Tensor
    after: Tensor


@torch.no_grad()
def valued(restorer: Restorer, pairs: Pairs, teacher: Teacher) -> Valued:
    """Nothing but `Worth` learns what restoring is worth, so all of it is known beforehand."""
    scene, _ = restorer.uncovered(pairs.degraded)
    judged = restorer.judge(scene)
    restored = restorer.restored(judged).clamp(0, 1)
    wanted = teacher(pairs.clean)[-1]
    found = (losses.divergence(teacher(i)[-1], wanted) for i in (scene, restored))
    return Valued(judged.told, *found)


def valued_loss(restorer: Restorer, given: Valued) -> Tensor:
    """Of the chances that `Worth` gives."""
    return answers_loss(restorer.worth.chance, given)


def answers_loss(judge: Callable[[Tensor], Tensor], given: Valued) -> Tensor:
    """Of the chances that it gives to what it is told."""
    with full_precision(given.told):
        return losses.worth_loss(judge(given.told), given.before, given.after)


def worth_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 16: which images are worth it, by what the teachers see of them restored."""
    given = valued(learner.restorer, pairs, teachers[choose(teachers, generator)])
    return {"worth": valued_loss(learner.restorer, given)}


class Lit(NamedTuple):
    """What is enhanced: images as filters and light leave them, as the fields of `Judged` say, and
    how much they need it (N,); and the clean ones (N, 3, H, W), in 8 bits."""

    bands: Tensor
    amplitude: Tensor
    prior: Tensor
    seen: Tensor
    shares: Tensor
    needed: Tensor
    clean: Tensor


@torch.no_grad()
def lit_of(restorer: Restorer, pairs: Pairs) -> Lit:
    """Nothing before E learns with what is enhanced, so all of it is known beforehand."""
    judged = restorer.judge(pairs.degraded)
    known = {name: getattr(judged, name) for name in Lit._fields[:-1]}
    return Lit(**known, clean=(pairs.clean * 255).round())


def lit_loss(
    restorer: Restorer, given: Lit, teachers: Sequence[Teacher], generator: Generator
) -> Tensor:
    """Of what is shown to a recogniser: enhanced as far as it is needed, no further."""
    unknown = torch.empty(0)  # of no use to what enhances
    judged = Judged(
        *(image_of(given.bands), *given[:5]),
        told=unknown,
        degradation=unknown,
        needed=given.needed,
    )
    restored = restorer.enhanced(judged).clamp(0, 1)
    return seen_loss(teachers[choose(teachers, generator)], restored, given.clean / 255)


def seen_loss(teacher: Teacher, restored: Tensor, clean: Tensor) -> Tensor:
    """What a teacher sees in restored images that are all of the same sort."""
    with torch.no_grad():
        wanted = teacher(clean)
    found = losses.consistency_loss(teacher(restored), wanted)
    losses.limited(restored, torch.full_like(found, TEACHER_LIMIT))
    return found.mean()


def denoiser_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 12: the Denoiser, by the pixels before noise fell on them, a part of which is `LEFT`,
    and by what is seen in the end, where nothing is enhanced.

    An error counts by the contrast it is seen in.
    """
    restorer = learner.restorer
    with torch.no_grad(), full_precision(pairs.degraded):
        images, _ = restorer.cleared(pairs.degraded)
    denoised, known = restorer.pixel_filter.denoised(images)
    with full_precision(denoised):
        filtered = restorer.pixel_filter.filtered(denoised, known)
        lit = restorer.light(filtered, restorer.pixel_filter.clear(known)).clamp(0, 1)
    wanted = torch.lerp(pairs.noiseless, pairs.degraded, LEFT)
    weights = pairs.families[:, NOISE_FAMILY] / contrast_of(pairs.noiseless).flatten()
    teacher = teachers[choose(teachers, generator)]
    return {
        "pixels": losses.pixel_loss(denoised, wanted, weights),
        "teacher": seen_loss(teacher, lit, pairs.clean),
    }


def over_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 11: what WeatherFilter takes away, by the pixels of what is beneath."""
    change, _ = learner.restorer.weather_filter(pairs.degraded)
    return {"pixels": losses.uncovered_loss(pairs.degraded + change, pairs.degraded, pairs.beneath)}


def weather_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 13: the same, by what recognisers see, too."""
    scene = pairs.degraded + learner.restorer.weather_filter(pairs.degraded)[0]
    teacher = teachers[choose(teachers, generator)]
    return {
        "pixels": 0.25 * losses.uncovered_loss(scene, pairs.degraded, pairs.beneath),
        "teacher": seen_loss(teacher, scene.clamp(0, 1), pairs.beneath),
    }


@torch.no_grad()
def covered(restorer: Restorer, pairs: Pairs, teacher: Teacher) -> Valued:
    """What tells WeatherFilter of there being anything to take away, and what a teacher sees in the
    end where nothing and where all of it is: streaks of rain another filter mends better."""
    weather = restorer.weather_filter
    seen = weather.seen(pairs.degraded)
    scene = (pairs.degraded + weather.change(*seen)).clamp(0, 1)
    wanted = teacher(pairs.clean)[-1]
    ends = (restorer.selected(i, restorer.judge(i)) for i in (pairs.degraded, scene))
    found = (losses.divergence(teacher(images)[-1], wanted) for images in ends)
    return Valued(weather.told(seen[-1]).mean((2, 3)), *found)


def covered_by(restorer: Restorer, given: Valued) -> Tensor:
    """Of the chances that WeatherFilter gives."""
    return answers_loss(restorer.weather_filter.asks.chance, given)


def covered_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 14: whether there is anything to take away, by what the teachers see without it."""
    given = covered(learner.restorer, pairs, teachers[choose(teachers, generator)])
    return {"covered": covered_by(learner.restorer, given)}


def enhanced_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 15: all that enhances images, but FGM's prior, which says which those are."""
    restorer = learner.restorer
    return {"teacher": lit_loss(restorer, lit_of(restorer, pairs), teachers, generator)}


def teacher_loss(teacher: Teacher, restored: Tensor, pairs: Pairs) -> Tensor:
    """Of each image (N,). Those that are recognised worse than before have a louder voice."""
    with torch.no_grad():
        wanted = teacher(pairs.clean)
        before = losses.consistency_loss(teacher(pairs.degraded), wanted)
    found = losses.consistency_loss(teacher(restored), wanted)
    losses.limited(restored, torch.where(found > before, 3 * TEACHER_LIMIT, TEACHER_LIMIT))
    return found


@dataclass(frozen=True)
class Stage:
    """What learns, from what, for how long.

    Args:
        name: for logs.
        learns: parts of the learner's parameter names; everything else is frozen.
        loss: the named terms that are summed.
        share: of the run's steps.
        most: degradations at once in an image.
        pace: its learning rate, in shares of the run's.
        sides: of its crops, in sides of the run's: as many fewer images keep the number of pixels.
        oftener: half of its images have one of these degradations alone, or those of a tuple.
    """

    name: str
    learns: tuple[str, ...]
    loss: Loss
    share: float
    most: int
    pace: float = 1.0
    sides: int = 1
    oftener: Oftener = ()


# behind PixelFilter, whose few numbers stay as the first stage has them
BEHIND = (".pixel_dnc.", ".encoder.", ".ise.", ".decoder.")
# and of that all that does not say which images are enhanced, nor changes their light
ENHANCED = (
    *(".encoder.", ".ise.blocks.", ".ise.fgm.local.", ".ise.fgm.gate.", ".ise.fgm.amplitudes."),
    *(".decoder.", ".gains."),
)
# what it must tell apart; movements are of two sorts, and what glass leaves looks like a blur
BLURS = (
    *(gaussian_blur, defocus_blur, motion_blur, motion_blur, glass_blur, glass_blur),
    *(zoom_blur, pixelate, pixelate, down_sample),
)
PIXELS = (".pixel_filter.switch", ".pixel_filter.asks.", ".pixel_dnc.")
NOISE, RESPONSE = (".pixel_filter.noise_filter.",), (".pixel_filter.response.",)
# and what must not be taken for them
STREAKS = (
    *(rain, rain, snow, snow, frost, drops, over_exposure),
    *(gaussian_noise, shot_noise, speckle_noise),
)
NOISES = (gaussian_noise, shot_noise, speckle_noise, low_light)
# of which what is pale anyhow is hardly told, and what it is often not worth to restore
DOUBTFUL = (
    *(haze, haze, mist, mist, over_exposure, low_contrast, low_light, low_light),
    *(motion_blur, zoom_blur, drops, drops, snow, frost, jpeg),
    *((haze, jpeg), (mist, jpeg), (low_light, jpeg)),
)
# what takes of the rays alone, and what takes as much of all directions, or of one
ZOOMS = (*(zoom_blur,) * 4, motion_blur, motion_blur, gaussian_blur, defocus_blur)
# what may look like a move, and is none
STILL = (
    *(zoom_blur, zoom_blur, defocus_blur, gaussian_blur, glass_blur, rain, snow, pixelate),
    *(down_sample, low_light, low_light),
)
# and what may look like a disc
FOCUSED = (*(motion_blur, zoom_blur, gaussian_blur, gaussian_blur, glass_blur, pixelate), jpeg)
# what FGM gives to the branch of blur and compression, where filters have done what they can
REMAINING = (
    *(gaussian_blur, gaussian_blur, gaussian_blur, glass_blur, glass_blur, glass_blur),
    *(defocus_blur, zoom_blur, motion_blur, pixelate, down_sample, down_sample),
    *(jpeg, jpeg, jpeg, (haze, jpeg), (mist, jpeg), (low_light, jpeg)),
    *((gaussian_blur, jpeg), (down_sample, jpeg)),
)
# what the Denoiser is for; the noise of a dark image counts as light, and has its teachers alone
DENOISED = (
    *(gaussian_noise, gaussian_noise, shot_noise, shot_noise, speckle_noise, speckle_noise),
    *(low_light, (low_light, gaussian_noise), (low_light, shot_noise), (shot_noise, jpeg)),
)
# what WeatherFilter is for; what else there is, it learns to leave
COVERED = (
    *(snow, *(snowfall,) * 4, frost, *(icy,) * 4, *(drops,) * 3, mud, rain),
    *(jpeg, jpeg, jpeg, (haze, jpeg), (low_contrast, jpeg), (snowfall, jpeg), (drops, jpeg)),
)
# of which it must be told whether it is the one that mends it
DOUBTED = (
    *(rain, rain, snow, snow, snowfall, snowfall, frost, icy, icy, drops, drops, mud, jpeg),
    *(low_contrast, haze, gaussian_noise, glass_blur),
)
ASKED = (".weather_filter.asks.",)
UNCOVERING = tuple(
    f".weather_filter.{part}."
    for part in (
        *("enter", "first", "down", "second", "further", "third"),
        *("back", "fourth", "up", "fifth", "leave"),
    )
)
NOISY = 0.4  # of the images that are moved, or out of focus
STAGES: tuple[Stage, ...] = (
    Stage("zoom", (".zoom_filter.",), zoom_loss, 0.05, 2, 1.5, sides=2, oftener=ZOOMS),
    Stage("motion", (".motion_filter.",), motion_loss, 0.05, 2, 1.5, sides=2, oftener=STILL),
    Stage("defocus", (".defocus_filter.",), defocus_loss, 0.05, 2, 1.5, sides=2, oftener=FOCUSED),
    Stage("streaks", (".streak_filter.",), streak_loss, 0.05, 2, 3.0, sides=2, oftener=STREAKS),
    Stage("pixels", PIXELS, front_loss, 0.10, 2, 3.0, sides=2),
    Stage("noise", NOISE, noise_loss, 0.05, 2, 3.0, sides=2, oftener=NOISES),
    Stage("response", RESPONSE, response_loss, 0.10, 1, 1.5, sides=2, oftener=BLURS),
    Stage("encoder", (".encoder.", "heads.", "pixels."), encoder_loss, 0.03, 1),
    Stage("decoder", (".decoder.",), decoder_loss, 0.01, 1),
    Stage("branches", BEHIND, branch_loss, 0.35, 2),
    Stage("ise", BEHIND, whole_loss, 0.23, 2, 0.4, sides=2),
    Stage("over", UNCOVERING, over_loss, 0.15, 1, 0.2, oftener=COVERED),
    Stage("denoiser", (".denoiser.",), denoiser_loss, 0.15, 2, 0.5, sides=2, oftener=DENOISED),
    Stage("weather", UNCOVERING, weather_loss, 0.15, 1, 0.15, sides=2, oftener=COVERED),
    Stage("covered", ASKED, covered_loss, 0.05, 2, 1.5, sides=2, oftener=DOUBTED),
    Stage("enhanced", ENHANCED, enhanced_loss, 0.05, 2, 0.3, sides=2, oftener=REMAINING),
    Stage("worth", (".worth.",), worth_loss, 0.05, 2, 1.5, sides=2, oftener=DOUBTFUL),
)


def stages_of(config: RestorerConfig) -> list[int]:
    """Which of the stages a network has: as published nothing is before E and behind SAD."""
    fronts = {"zoom", "motion", "defocus", "streaks", "pixels", "noise", "response"}
    lacks = fronts | {"enhanced", "worth"} if config.published else set()
    if not config.denoiser:
        lacks |= {"denoiser"}
    if not config.weather:
        lacks |= {"over", "weather", "covered"}
    return [n for n, stage in enumerate(STAGES) if stage.name not in lacks]


def first_repeated(config: RestorerConfig) -> int:
    """The first of the stages that fit trained weights to other teachers and images."""
    stages = stages_of(config)
    repeated = ("denoiser", "weather", "covered", "enhanced", "worth")
    return next((n for n in stages if STAGES[n].name in repeated), stages[-1])


def release(learner: nn.Module, parts: tuple[str, ...]) -> list[nn.Parameter]:
    """Freeze everything but the parameters with one of the parts in their names; return those."""
    for name, parameter in learner.named_parameters():
        parameter.requires_grad_(any(part in name for part in parts))
    return [p for p in learner.parameters() if p.requires_grad]


def pace(step: int, steps: int) -> float:
    """Of the learning rate: up in a straight line, down in half a cosine."""
    decay = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1.0, (step + 1) / WARM_UP) * max(decay, 0.01)


def kept(step: int, most: float = EMA_DECAY) -> float:
    """Of the average of the weights (EMA) in a step: less of what the first ones were."""
    return min(most, (1 + step) / (10 + step))


class Run:
    """A training run's state: exactly what a checkpoint holds, and the step that moves it on."""

    def __init__(
        self,
        images: list[Tensor],
        restorer: Restorer,
        teachers: Sequence[Teacher],
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        device: torch.device | str = "cpu",
        crop: int = CROP,
        first: int = 0,
    ):
        self.processes = Processes(device)
        self.device = self.processes.device
        self.images = [image.to(self.device) for image in images]
        self.teachers = [teacher.to(self.device) for teacher in teachers]
        self.steps, self.batch, self.rate, self.seed = steps, batch, rate, seed
        self.crop = crop
        self.stages = [n for n in stages_of(restorer.config) if n >= first]
        self.setting = {
            "network": repr(restorer.config),
            "images": len(images),
            "teachers": [type(teacher.model).__name__ for teacher in teachers],
            "steps": steps,
            "batch": batch,
            "crop": crop,
            "first": STAGES[self.stages[0]].name,
            "processes": self.processes.count,
            "rate": rate,
            "seed": seed,
        }
        self.learner = Learner(restorer.to(self.device), self.teachers).to(self.device)
        self.learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.learner)
        self.stage = self.stages[0]
        self.begin_stage()

    def begin_stage(self) -> None:
        """Go on from the average of the stage before, with a fresh optimiser."""
        self.step = 0
        self.learner.load_state_dict(self.average.state_dict())
        learning = release(self.learner, STAGES[self.stage].learns)
        self.optimiser = torch.optim.Adam(learning, self.rate, betas=(0.9, 0.99))

    def steps_of(self, stage: int) -> int:
        """0 for stages that are not of the run."""
        if stage not in self.stages:
            return 0
        whole = sum(STAGES[n].share for n in self.stages)
        return max(1, round(self.steps * STAGES[stage].share / whole))

    @property
    def stage_steps(self) -> int:
        return self.steps_of(self.stage)

    @property
    def count(self) -> int:
        """Images of the present stage's step in this process."""
        return max(1, self.batch // STAGES[self.stage].sides ** 2)

    @property
    def images_a_step(self) -> int:
        return self.count * self.processes.count

    def current_rate(self) -> float:
        return self.rate * STAGES[self.stage].pace * pace(self.step, self.stage_steps)

    def chance(self) -> Chance:
        """Of this step in this process: nothing of it needs to be kept to go on exactly."""
        seed = mixed(self.seed % 2**64, self.processes.rank, self.stage, self.step)
        return Chance.of(seed, self.device)

    def losses(self) -> dict[str, Tensor]:
        """Of this process' share of the step's images, still on the device."""
        stage, chance = STAGES[self.stage], self.chance()
        side = self.crop * stage.sides
        pairs = draw_pairs(self.images, self.count, side, stage.most, chance, stage.oftener)
        with in_bfloat16(self.device):
            return stage.loss(self.learner, pairs, self.teachers, chance.choices)

    def advance(self) -> dict[str, Tensor]:
        """One step; returns the loss terms, still on the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.current_rate()
        terms = self.losses()
        total = torch.stack(list(terms.values())).sum()
        if total.requires_grad:  # not where no image has what the stage is for
            total.backward()
        learning = self.optimiser.param_groups[0]["params"]
        self.processes.average_gradients(learning)
        if nn.utils.clip_grad_norm_(learning, 1.0).isfinite():
            self.optimiser.step()
        else:
            warnings.warn(f"step {self.step} had no finite gradient and was left out", stacklevel=2)
        self.optimiser.zero_grad(set_to_none=True)
        self.follow(kept(self.step))
        self.step += 1
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the learner; frozen parts stay bit-identical."""
        both = zip(self.average.parameters(), self.learner.parameters(), strict=True)
        moving = [(mean, now) for mean, now in both if now.requires_grad]
        means, learnt = map(list, zip(*moving, strict=True))
        get_ema_multi_avg_fn(decay)(means, learnt, None)  # in one call: a GPU's time is calls

    def finished(self) -> bool:
        """Move on to the next stage where one is over; True after the last."""
        while self.step >= self.stage_steps:
            if self.stage == self.stages[-1]:
                return True
            self.stage = self.stages[self.stages.index(self.stage) + 1]
            self.begin_stage()
        return False

    @property
    def done(self) -> int:
        """Steps of all stages so far."""
        return sum(map(self.steps_of, range(self.stage))) + self.step

    @property
    def all_steps(self) -> int:
        """With a stage's rounding, and at least one step of each."""
        return sum(map(self.steps_of, range(len(STAGES))))

    def state(self) -> dict[str, Any]:
        return {
            "setting": self.setting,
            "stage": self.stage,
            "step": self.step,
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue bit for bit; ValueError if the checkpoint belongs to another setting."""
        if state["setting"] != self.setting:
            raise ValueError(
                f"the checkpoint was made with {state['setting']}, this run has {self.setting}: "
                "use the same, or another folder"
            )
        self.stage = state["stage"]
        self.average.load_state_dict(state["average"])
        self.begin_stage()
        self.step = state["step"]
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])

    def save(self, folder: Path) -> None:
        """The checkpoint, and what has been learnt so far as loadable weights; by one process."""
        if self.processes.rank > 0:
            return
        atomic_torch_save(self.state(), folder / CHECKPOINT)
        # rounded to half: the file is half as large, and what is evaluated is what is shipped
        copy.deepcopy(self.average.restorer).half().save_pretrained(folder / "weights")


def has_bfloat16(device: torch.device) -> bool:
    """Elsewhere it is emulated, and slower than float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def in_bfloat16(device: torch.device) -> torch.autocast:
    """Where the device has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that is asked between steps."""
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, lambda number, frame: came.append(number)) for s in signals]
    try:
        yield lambda: bool(came)
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)


@contextmanager
def tuned() -> Iterator[None]:
    """The sizes of a run never change: let a GPU try which convolutions are the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def follow_steps(run: Run, folder: Path, stopped: Callable[[], bool], progress: Progress) -> bool:
    """Advance until the end (True) or until stopped (False); saves now and then and at last."""
    saved = time.monotonic()
    # several processes must all stop at the same step, and to agree costs a message
    every = 1 if run.processes.count == 1 else LOG_EVERY
    while not (done := run.finished()):
        if run.step % every == 0 and run.processes.any(stopped()):
            break
        stage, terms = STAGES[run.stage].name, run.advance()
        progress.follow(stage, run.step, terms, run.images_a_step)
        if time.monotonic() - saved > SAVE_EVERY:
            run.save(folder)
            saved = time.monotonic()
    run.save(folder)
    return done


def switched_on(restorer: Restorer) -> Restorer:
    """With the light changed as all that learns behind it meets it."""
    if not restorer.config.published:
        nn.init.constant_(restorer.light.veil_switch.switch[:1], PALE)
        nn.init.constant_(restorer.light.range_switch.switch[:1], NARROW)
        nn.init.constant_(restorer.light.shadow_switch.switch[:1], DARK)
        nn.init.constant_(restorer.light.contrast_switch.switch[:1], POOR)
    return restorer


def train(
    images: list[Tensor],
    teachers: Sequence[Teacher],
    folder: Path,
    profile: str | RestorerConfig = "fast",
    steps: int = 8000,
    batch: int = 32,
    rate: float = RATE,
    seed: int = 0,
    device: torch.device | str = "cpu",
    tensorboard: bool = False,
    crop: int = CROP,
    start: str | Path | None = None,
) -> bool:
    """Train a restorer, or go on where the folder's checkpoint ends.

    Under `torchrun` every process trains on `batch` images of its own, and their gradients are
    averaged by accelerate; all must see the folder.

    Args:
        images: clean images, (3, H, W) uint8 RGB each, as `data.read_folder` returns them.
        teachers: frozen recognisers, the cheapest first; none that later evaluates.
        folder: receives checkpoint.pt, log.csv and weights/ (config.json, model.safetensors).
        profile: the sizes of the network.
        steps: of all stages together; batch: images a step; rate: Adam's learning rate;
            to go on from trained weights (`start`) a lower one unlearns less.
        seed: of the initial weights, the pairs and the choice of teachers.
        device: on which everything happens; the images are held there too.
        tensorboard: write TensorBoard's files into the folder as well.
        crop: side of the square crops, in pixels, a multiple of the restorer's `stride`. In larger
            ones the teachers see more of what is shown, and statistics are nearer to those of
            whole images.
        start: trained weights, by a name as `Restorer.from_pretrained` takes it, in the profile's
            place: all steps are then those of the last stages ("denoiser", if it has one,
            "enhanced" and "worth"; "ise" of the profile "paper"), which fit them to these teachers
            and images.

    Returns:
        True when it came to its end, False when it was interrupted: call it again to go on.

    Raises:
        ValueError: the folder's checkpoint belongs to another setting; the crop does not fit; the
            weights to start from are damaged.
        FileNotFoundError, ConnectionError: they are not there, or cannot be downloaded.
        ModuleNotFoundError: accelerate or tensorboard is asked for and not installed.
    """
    torch.manual_seed(seed)
    restorer = switched_on(Restorer(profile)) if start is None else Restorer.from_pretrained(start)
    if crop <= 0 or crop % restorer.stride:
        raise ValueError(f"crop must be a multiple of {restorer.stride} pixels, came {crop}")
    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if start is None else first_repeated(restorer.config)
    run = Run(images, restorer, teachers, steps, batch, rate, seed, device, crop, first)
    if (folder / CHECKPOINT).exists():
        run.restore(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True))
    place = folder if run.processes.rank == 0 else None
    progress = Progress(place, run.all_steps, run.done, tensorboard)
    with interruptible() as stopped, tuned():
        done = follow_steps(run, folder, stopped, progress)
    progress.close()
    return done
