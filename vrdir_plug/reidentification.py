"""Task: find the same person (or thing) in another camera's images.

The queries are corrupted and restored; the gallery is what a user has indexed already: clean
images, as the recogniser alone sees them.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .evaluation import AnswerError, Cell, Sample
from .files import open_rgb
from .measures import RESAMPLES, Mean, Scores

NAME = re.compile(r"(\d+)_c(\d+)")


@dataclass(frozen=True)
class Reidentification:
    """Rank-1 and mAP of `embed`, RGB (N, 3, H, W) in [0, 1] -> (N, D), by cosine similarity.

    As usual since Market-1501 (Zheng et al., ICCV 2015), gallery images of the query's person in
    the query's camera are left out. Both measures are means over queries; a query without an
    answer counts 0. Images are resized to `size` (height, width), 256 x 128 as networks for
    persons take them.
    """

    samples: Sequence[Sample]
    gallery: Sequence[Sample]
    embed: Callable[[Tensor], Tensor]
    size: tuple[int, int] = (256, 128)
    indexed: list[Tensor] = field(default_factory=list)
    measures = ("rank-1", "mAP")
    one_size = True
    resamples = RESAMPLES

    @property
    def facts(self) -> Mapping[str, str | int]:
        return {
            "size": "{} x {}".format(*self.size),
            "resize": "whole image, bilinear",
            "corrupted": "queries, after resizing, in 8 bits",
            "gallery": f"{len(self.gallery)} images, clean, not restored",
            "similarity": "cosine",
        }

    def load(self, sample: Sample) -> Tensor:
        image = open_rgb(sample.file).resize(self.size[::-1], Image.Resampling.BILINEAR)
        return torch.from_numpy(np.array(image)).permute(2, 0, 1) / 255.0

    def recognise(self, images: Tensor) -> list[Tensor]:
        features = self.embed(images)
        if not isinstance(features, Tensor) or features.shape[:-1] != (len(images),):
            got = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise AnswerError(
                f"the recogniser returned {got} for {len(images)} images, not features (N, D)"
            )
        if not features.isfinite().all():
            raise ValueError("the recogniser returned features that are NaN or infinite")
        return list(torch.nn.functional.normalize(features.float(), dim=1).cpu())

    def index(self) -> Tensor:
        """The gallery's features (G, D), computed once."""
        if not self.indexed:
            images = [self.load_indexed(sample) for sample in self.gallery]
            with torch.inference_mode():
                for start in range(0, len(images), 32):
                    self.indexed.extend(self.recognise(torch.stack(images[start : start + 32])))
        return torch.stack(self.indexed)

    def load_indexed(self, sample: Sample) -> Tensor:
        try:
            return self.load(sample)
        except OSError as error:
            raise ValueError(f"the gallery's {sample.name} cannot be read: {error}") from error

    def cell(self, samples: Sequence[Sample], answers: Sequence[Tensor | None]) -> Cell:
        identity = np.array([key_of(sample) for sample in self.gallery])  # (G, 2)
        first, precision = [], []
        for sample, feature in zip(samples, answers, strict=True):
            person, camera = key_of(sample)
            among = (identity[:, 0] != person) | (identity[:, 1] != camera)
            wanted = identity[among, 0] == person
            if feature is None:
                wanted = np.zeros(0, dtype=bool)
            else:
                likeness = (self.index() @ feature).numpy()[among]
                wanted = wanted[np.argsort(-likeness, kind="stable")]
            first.append(float(wanted[:1].any()))
            precision.append(round(average_precision(wanted), 6))
        return {"rank-1": first, "mAP": precision}

    def scores(self, samples: Sequence[Sample], cell: Cell, reference: Cell) -> dict[str, Mean]:
        return {name: Mean(np.array(cell[name], dtype=np.float64)) for name in self.measures}


def average_precision(wanted: Scores | np.ndarray) -> float:
    """Of a ranking (G,), true where the image is of the person: the mean precision at each hit."""
    hits = np.flatnonzero(wanted)
    return float(np.mean(np.arange(1, len(hits) + 1) / (hits + 1))) if len(hits) else 0.0


def key_of(sample: Sample) -> tuple[int, int]:
    """The person and the camera that a file's name tells."""
    found = NAME.match(Path(sample.name).name)
    if found is None:
        raise ValueError(f"{sample.name} is not named PERSON_cCAMERA..., such as 0007_c2_v1.jpg")
    return int(found[1]), int(found[2])


def matched(queries: Sequence[Sample], gallery: Sequence[Sample]) -> list[Sample]:
    """The queries that have their person in another camera of the gallery.

    ValueError where there is none, or where a name does not tell person and camera.
    """
    there = {key_of(sample) for sample in gallery}
    found = [
        sample
        for sample in queries
        if any(p == key_of(sample)[0] and c != key_of(sample)[1] for p, c in there)
    ]
    if not found:
        raise ValueError("no query has its person in another camera of the gallery")
    return found
