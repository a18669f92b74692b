"""Which images to leave as they are: a threshold from a user's own clean images, and its bound.

A restorer scores how degraded an image looks to it; images below a threshold come back
bit-identical. An answer that did not change cannot have become wrong, so on clean images the
accuracy falls by at most the share of answers that change.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from .evaluation import Condition, Sample, Task, degraded
from .extras import library
from .measures import Scores

Flags = NDArray[np.bool_]
STEP = 1e-4  # of thresholds: far above what rounding does to a score
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Gate:
    """A threshold, and what it does to clean images that had no part in its choice.

    Attributes:
        threshold: images with a score below it are bypassed.
        chosen_on: how many images it was chosen on.
        images: how many others it was certified on; the counts below are of these.
        bypassed: how many have a score below the threshold.
        changed_ungated: on how many the answer changes if every image is restored.
        changed: on how many it changes behind the threshold.
        bound: with 95 % confidence, the share of all such images on which it changes, at most.
    """

    threshold: float
    chosen_on: int
    images: int
    bypassed: int
    changed_ungated: int
    changed: int
    bound: float


def calibrate(scores: Scores, changed: Flags, most_changed: float, seed: int = 0) -> Gate:
    """Choose a threshold on one half of the images, drawn by the seed, and certify it on the other.

    The images are independent draws of those that will come: frames of one video are not.

    Args:
        scores: of clean images, from 0 to 1, (N,), N >= 2.
        changed: whether restoring an image changes the answer for it, (N,).
        most_changed: the share of changed answers to choose for, from 0 to 1.

    Raises:
        ValueError: fewer than 2 images; or no threshold keeps the share, see `smallest`.
    """
    if len(scores) < 2:
        raise ValueError(f"{len(scores)} image cannot be split into two halves: give hundreds")
    order = np.random.default_rng(seed).permutation(len(scores))
    choose, certify = np.array_split(order, 2)
    threshold = smallest(scores[choose], changed[choose], most_changed)
    restored = scores[certify] >= threshold
    count = int((changed[certify] & restored).sum())
    return Gate(
        threshold,
        len(choose),
        len(certify),
        int((~restored).sum()),
        int(changed[certify].sum()),
        count,
        at_most(count, len(certify)),
    )


def smallest(scores: Scores, changed: Flags, most_changed: float) -> float:
    """The smallest threshold, in steps of 1e-4, that leaves at most this share of answers changed.

    The smallest, since whatever it bypasses is not restored. ValueError where answers change on
    too many images of the highest score that there is, which no threshold bypasses.
    """
    worst = np.sort(scores[changed])[::-1]
    allowed = math.floor(most_changed * len(scores))
    if len(worst) <= allowed:
        return 0.0
    threshold = round((math.floor(worst[allowed] / STEP) + 1) * STEP, 4)
    if threshold > 1:
        raise ValueError(
            f"on {len(worst)} of {len(scores)} clean images the answer changes, too many of them "
            "with a score of 1: this restorer cannot tell them from degraded ones"
        )
    return threshold


def at_most(changed: int, images: int, confidence: float = CONFIDENCE) -> float:
    """The one-sided upper bound of a share of which `changed` of `images` were seen.

    Clopper and Pearson, Biometrika 26, 1934: the share at which so few or fewer have the
    probability 1 - confidence.
    """
    if changed == images:
        return 1.0
    return float(
        library("scipy.stats", "evaluate").beta.ppf(confidence, changed + 1, images - changed)
    )


@torch.inference_mode()
def scores_of(
    task: Task,
    degradation: Callable[[Tensor], Tensor],
    samples: Sequence[Sample],
    condition: Condition,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
) -> Scores:
    """The score of each sample under a condition, (N,); pixels as `evaluate` makes them."""
    batches = degraded(task, samples, condition, batch_size, seed, torch.device(device))
    found = [degradation(batch.degraded).cpu() for batch in batches]
    return torch.cat(found).double().numpy()
