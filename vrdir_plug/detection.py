"""Task: objects in boxes, against a COCO json.

Images are corrupted, restored and recognised at their own size, or all at one.
"""

import contextlib
import io
import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .evaluation import AnswerError, Cell, Sample
from .extras import library
from .files import open_rgb
from .measures import Score, Scores

RECALLS = np.linspace(0, 1, 101)
THRESHOLDS = np.linspace(0.5, 0.95, 10)
MOST = 100  # detections of a class in an image


@dataclass(frozen=True)
class Detection:
    """mAP (of IoU 0.5 to 0.95) and AP50 of `detect`, by COCO's definitions and pycocotools.

    `detect` takes RGB (1, 3, H, W) in [0, 1] and returns rows [x1, y1, x2, y2, score, category]:
    pixels, and a category id of the json. With `size`, images are resized before they are corrupted
    so that the long side has as many pixels, bilinear, as ultralytics does within its letterbox:
    a restorer then sees what it sees in front of a YOLO in RestoreThen.
    """

    samples: Sequence[Sample]
    annotations: Mapping[str, Any]
    detect: Callable[[Tensor], Tensor]
    size: int | None = None
    scales: dict[int, float] = field(default_factory=dict)  # by image id, of those loaded
    measures = ("mAP", "AP50")
    one_size = False
    resamples = 200  # each counts all detections again

    @property
    def facts(self) -> Mapping[str, str | int]:
        size = f"long side {self.size}, bilinear" if self.size else "as it is"
        when = "after resizing, in 8 bits" if self.size else "in 8 bits"
        return {"size": size, "corrupted": when, "boxes": "pycocotools, all areas"}

    def load(self, sample: Sample) -> Tensor:
        image = torch.from_numpy(np.array(open_rgb(sample.file))).permute(2, 0, 1) / 255.0
        height, width = image.shape[1:]
        scale = self.size / max(height, width) if self.size else 1.0
        self.scales[sample.label] = scale
        if scale == 1:
            return image
        size = (max(1, round(height * scale)), max(1, round(width * scale)))
        resized = F.interpolate(image[None], size, mode="bilinear")[0]
        return (resized * 255).round() / 255

    def recognise(self, images: Tensor) -> list[list[list[float]]]:
        boxes = self.detect(images)
        if not isinstance(boxes, Tensor) or boxes.ndim != 2 or boxes.shape[1] != 6:
            got = tuple(boxes.shape) if isinstance(boxes, Tensor) else type(boxes).__name__
            raise AnswerError(f"the detector returned {got}, not boxes (N, 6)")
        best = boxes[boxes[:, 4].argsort(descending=True, stable=True)].cpu().double()
        return [[[round(value, 4) for value in row] for row in best.tolist()]]

    def cell(self, samples: Sequence[Sample], answers: Sequence[Any]) -> Cell:
        """Boxes in pixels of the file."""
        return {
            "boxes": [
                None if answer is None else [self.as_in_file(sample, row) for row in answer]
                for sample, answer in zip(samples, answers, strict=True)
            ]
        }

    def as_in_file(self, sample: Sample, row: Sequence[float]) -> list[float]:
        scale = self.scales.get(sample.label, 1.0)
        corners = row[:4] if scale == 1 else [round(value / scale, 4) for value in row[:4]]
        return [*corners, *row[4:]]

    def scores(self, samples: Sequence[Sample], cell: Cell, reference: Cell) -> dict[str, Score]:
        classes = tuple(matched(self.truth, samples, cell["boxes"]))
        return {
            "mAP": AveragePrecision(classes, len(samples)),
            "AP50": AveragePrecision(tuple(c.at_half() for c in classes), len(samples)),
        }

    @cached_property
    def truth(self) -> Any:
        coco = library("pycocotools.coco", "evaluate").COCO()
        # areas and crowds are optional in what people have
        objects = [
            {"area": note["bbox"][2] * note["bbox"][3], "iscrowd": 0, "id": number, **note}
            for number, note in enumerate(self.annotations["annotations"], 1)
        ]
        coco.dataset = {**self.annotations, "annotations": objects}
        with contextlib.redirect_stdout(io.StringIO()):
            coco.createIndex()
        return coco


@dataclass(frozen=True)
class Matches:
    """One class: detections D by falling score, over all images.

    `image` (D,) is the number of the image, `hit` and `miss` (T, D) whether a detection counts as
    right or wrong at each IoU threshold, `objects` (N,) how many each image has.
    """

    image: np.ndarray
    hit: np.ndarray
    miss: np.ndarray
    objects: Scores

    def at_half(self) -> "Matches":
        return Matches(self.image, self.hit[:1], self.miss[:1], self.objects)


@dataclass(frozen=True)
class AveragePrecision:
    """COCO's mean over classes and thresholds of the precision at 101 recalls."""

    classes: tuple[Matches, ...]
    images: int

    @property
    def value(self) -> float:
        return float(self.drawn(np.ones((1, self.images)))[0])

    def drawn(self, counts: Scores) -> Scores:
        found = np.stack([precision(matches, counts) for matches in self.classes])  # (C, B)
        return np.nanmean(found, axis=0)


def precision(matches: Matches, counts: Scores) -> Scores:
    """The class's AP with every image counted (B, N) times: (B,), NaN where it has no objects."""
    objects = counts @ matches.objects  # (B,)
    weight = counts[:, matches.image]  # (B, D)
    result = np.zeros(len(counts))
    for hit, miss in zip(matches.hit, matches.miss, strict=True):
        hits, misses = (weight * hit).cumsum(1), (weight * miss).cumsum(1)
        exact = hits / np.maximum(hits + misses, 1e-12)
        best = np.maximum.accumulate(exact[:, ::-1], axis=1)[:, ::-1]
        best = np.concatenate([best, np.zeros((len(best), 1))], axis=1)  # unreached recalls
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = hits / objects[:, None]
        for row, (reached, height) in enumerate(zip(recall, best, strict=True)):
            result[row] += height[np.searchsorted(reached, RECALLS)].mean()
    return np.where(objects > 0, result / len(matches.hit), np.nan)


def matched(truth: Any, samples: Sequence[Sample], boxes: Sequence[Any]) -> list[Matches]:
    """pycocotools' assignment of detections to objects, class by class."""
    rows = [
        {
            "image_id": sample.label,
            "category_id": int(category),
            "bbox": [x1, y1, x2 - x1, y2 - y1],
            "score": score,
        }
        for sample, found in zip(samples, boxes, strict=True)
        for x1, y1, x2, y2, score, category in found or ()
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        detections = truth.loadRes(rows) if rows else library("pycocotools.coco", "evaluate").COCO()
        evaluator = library("pycocotools.cocoeval", "evaluate").COCOeval(truth, detections, "bbox")
        evaluator.params.imgIds = [sample.label for sample in samples]
        evaluator.params.areaRng, evaluator.params.areaRngLbl = [[0, 1e10]], ["all"]
        evaluator.params.maxDets = [MOST]
        evaluator.evaluate()
    number = {sample.label: index for index, sample in enumerate(samples)}
    by_class = defaultdict(list)
    for entry in filter(None, evaluator.evalImgs):
        by_class[entry["category_id"]].append(entry)
    found = [class_matches(entries, number) for _, entries in sorted(by_class.items())]
    return [matches for matches in found if matches.objects.any()]


def class_matches(entries: Sequence[Any], number: Mapping[int, int]) -> Matches:
    objects = np.zeros(len(number))
    for entry in entries:
        objects[number[entry["image_id"]]] = (entry["gtIgnore"] == 0).sum()
    score = np.concatenate([entry["dtScores"] for entry in entries])
    image = np.repeat(
        [number[entry["image_id"]] for entry in entries], [len(e["dtScores"]) for e in entries]
    )
    order = np.argsort(-score, kind="mergesort")
    match = np.concatenate([entry["dtMatches"] for entry in entries], axis=1)[:, order] > 0
    ignored = np.concatenate([entry["dtIgnore"] for entry in entries], axis=1)[:, order] > 0
    return Matches(image[order].astype(int), match & ~ignored, ~match & ~ignored, objects)


def read_coco(folder: Path, file: Path) -> tuple[list[Sample], Mapping[str, Any]]:
    """The images and the annotations of a COCO json.

    A file that it names and that is absent is found out when it is read. ValueError where it is
    no COCO json.
    """
    try:
        content = json.loads(file.read_text("utf-8"))
        for part in ("images", "annotations", "categories"):
            content[part]
        samples = [
            Sample(entry["file_name"], folder / entry["file_name"], entry["id"])
            for entry in content["images"]
        ]
        check_annotations(content["annotations"])
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"{file} is no COCO json with images, annotations, categories: {error!r}"
        ) from error
    if not samples:
        raise ValueError(f"{file} lists no images")
    return samples, content


def check_annotations(annotations: Sequence[Mapping[str, Any]]) -> None:
    """KeyError or ValueError unless each has an image, a category and a box; or where none is."""
    if not annotations:
        raise ValueError("there is no annotation")
    for note in annotations:
        _, _, box = note["image_id"], note["category_id"], note["bbox"]
        if len(box) != 4:
            raise ValueError(f"the bbox {box} has not 4 numbers")
