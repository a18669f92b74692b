"""What the networks learn from, and what says when they are asked: stages 7 to 16.

From pixels, and from what frozen recognisers see in what is restored.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Generator, Tensor

from . import losses
from .bands import full_precision, image_of
from .data import Pairs
from .degradations import CLEAN_FAMILY, NOISE_FAMILY
from .filter_stages import (
    Choice,
    change_seen,
    choice_loss,
    contrast_of,
    light_loss,
    wanted_shares,
)
from .learner import Learner, choose
from .restorer import Judged, Rebuilt, Restorer
from .teachers import Teacher

LEFT = 0.2  # of the noise, by pixels: recognisers see more where some is than where all is smooth
TEACHER_LIMIT = 10.0  # their gradient at an image, in lengths of L1's; see `losses.limited`


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


def gate_losses(rebuilt: Rebuilt, wanted: Tensor) -> Tensor:
    """The synthesis knows what it did: FGM must tell it, in every place and of the whole image."""
    whole = losses.gate_loss(rebuilt.shares[..., None, None], wanted)
    return 0.05 * (losses.gate_loss(rebuilt.gate, wanted) + whole)


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


def teacher_loss(teacher: Teacher, restored: Tensor, pairs: Pairs) -> Tensor:
    """Of each image (N,). Those that are recognised worse than before have a louder voice."""
    with torch.no_grad():
        wanted = teacher(pairs.clean)
        before = losses.consistency_loss(teacher(pairs.degraded), wanted)
    found = losses.consistency_loss(teacher(restored), wanted)
    losses.limited(restored, torch.where(found > before, 3 * TEACHER_LIMIT, TEACHER_LIMIT))
    return found


def seen_loss(teacher: Teacher, restored: Tensor, clean: Tensor) -> Tensor:
    """What a teacher sees in restored images that are all of the same sort."""
    with torch.no_grad():
        wanted = teacher(clean)
    found = losses.consistency_loss(teacher(restored), wanted)
    losses.limited(restored, torch.full_like(found, TEACHER_LIMIT))
    return found.mean()


def over_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 11: what WeatherFilter takes away, by the pixels of what is beneath."""
    change, _ = learner.restorer.weather_filter(pairs.degraded)
    return {"pixels": losses.uncovered_loss(pairs.degraded + change, pairs.degraded, pairs.beneath)}


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
def covers_of(restorer: Restorer, pairs: Pairs) -> Choice:
    """As `noises_of`: nothing but what lies over the scene is an error."""
    weather = restorer.weather_filter
    seen = weather.seen(pairs.degraded)
    scene = (pairs.degraded + weather.change(*seen)).clamp(0, 1)
    told = weather.told(seen[-1]).mean((2, 3))
    return Choice(told, change_seen(pairs.degraded, scene, pairs.beneath))


def covers_loss(restorer: Restorer, choice: Choice) -> Tensor:
    return choice_loss(restorer.weather_filter.asks.chance, choice)


def covered_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 14: WeatherFilter's judgement, as those of streaks and noise."""
    return {"covered": covers_loss(learner.restorer, covers_of(learner.restorer, pairs))}


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


def enhanced_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 15: all that enhances images, but FGM's prior, which says which those are."""
    restorer = learner.restorer
    return {"teacher": lit_loss(restorer, lit_of(restorer, pairs), teachers, generator)}


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
    with full_precision(given.told):
        chance = restorer.worth.chance(given.told)
        return losses.worth_loss(chance, given.before, given.after)


def worth_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Stage 16: which images are worth it, by what the teachers see of them restored."""
    given = valued(learner.restorer, pairs, teachers[choose(teachers, generator)])
    return {"worth": valued_loss(learner.restorer, given)}
