"""Which images of an evaluation to show, by a rule and not by taste, and their pixels."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from .evaluation import Condition, Report, Restore, Sample, Task, corrupt
from .measures import Mean, Scores

SIDE = 224


@dataclass(frozen=True)
class Crop:
    """The middle of one image, (3, h, w) in [0, 1], h and w up to 224, and its score alone."""

    restorer: str
    condition: Condition
    image: str
    before: float
    after: float
    clean: Tensor
    degraded: Tensor
    restored: Tensor


def crops_of(report: Report, task: Task, restorers: Mapping[str, Restore]) -> Iterator[Crop]:
    """For each restorer and condition the image whose first measure rises most, and falls most.

    The first in the order of the images where several do; none where none does. A measure of all
    images together, as mAP of a detector is, is taken of each alone.
    """
    samples = {sample.name: sample for sample in task.samples}
    for name in report.restorers[1:]:
        for condition in report.conditions:
            for index, before, after in extremes(report, condition, name):
                sample = samples[report.images[index]]
                pixels = shown(report, task, restorers[name], condition, sample)
                yield Crop(name, condition, sample.name, before, after, *pixels)


def extremes(report: Report, condition: Condition, name: str) -> list[tuple[int, float, float]]:
    """The numbers of the images with the largest rise and fall, and their scores."""
    before, after = (alone(report, condition, each) for each in (report.restorers[0], name))
    change = after - before
    found = (int(change.argmax()), int(change.argmin()))
    return [(i, float(before[i]), float(after[i])) for i in dict.fromkeys(found) if change[i]]


def alone(report: Report, condition: Condition, restorer: str) -> Scores:
    """The first measure of each image alone (N,); 0 where it has none, as an empty street's mAP."""
    score = report.scores[condition, restorer][report.measures[0]]
    if isinstance(score, Mean):
        return score.values
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # of means over no class at all
        return np.nan_to_num(score.drawn(np.eye(len(report.images))))


@torch.inference_mode()
def shown(
    report: Report, task: Task, restore: Restore, condition: Condition, sample: Sample
) -> tuple[Tensor, Tensor, Tensor]:
    """Clean, degraded and restored, as the evaluation had them."""
    clean = task.load(sample)[None].to(str(report.pipeline["device"]))
    degraded = corrupt(task, condition, [sample], clean, int(report.pipeline["seed"]))
    try:
        restored = restore(degraded.clone()).to(clean.device)
    except Exception:
        # the report names the image: the evaluation went on, and so does the page
        restored = torch.zeros_like(degraded)
    first, second, third = (middle(images[0].cpu()) for images in (clean, degraded, restored))
    return first, second, third


def middle(image: Tensor) -> Tensor:
    height, width = image.shape[1:]
    top, left = (max(0, (side - SIDE) // 2) for side in (height, width))
    return image[:, top : top + SIDE, left : left + SIDE]
