"""Task: one class for each image, against labels or against the answer on the clean image.

The pipeline is that of ImageNet-C: resize and crop to the recogniser's size, then corrupt, then
restore, then recognise.
"""

import csv
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from .evaluation import AnswerError, Cell, Sample
from .files import SUFFIXES, open_rgb
from .measures import RESAMPLES, Mean


@dataclass(frozen=True)
class Classification:
    """Top-1 accuracy of `classify`, RGB (N, 3, size, size) in [0, 1] -> logits (N, classes).

    Without labels it is agreement: the share of images whose class is that of the baseline on the
    clean image. One minus the agreement of restored clean images is the rate of flips, an upper
    bound of what the restorer can cost in accuracy.
    """

    samples: Sequence[Sample]
    classify: Callable[[Tensor], Tensor]
    size: int = 224
    labelled: bool = True
    one_size = True
    resamples = RESAMPLES

    @property
    def measures(self) -> tuple[str, ...]:
        return ("top-1",) if self.labelled else ("agreement",)

    @property
    def facts(self) -> Mapping[str, str | int]:
        return {
            "size": self.size,
            "resize": "short side, bicubic",
            "crop": "centre",
            "corrupted": "after the crop, in 8 bits",
        }

    def load(self, sample: Sample) -> Tensor:
        return load_image(sample.file, self.size)

    def recognise(self, images: Tensor) -> list[int]:
        logits = self.classify(images)
        if not isinstance(logits, Tensor) or logits.shape[:-1] != (len(images),):
            got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            raise AnswerError(
                f"the recogniser returned {got} for {len(images)} images, not logits (N, classes)"
            )
        if not logits.isfinite().all():
            raise ValueError("the recogniser returned logits that are NaN or infinite")
        most = max(sample.label for sample in self.samples)
        if self.labelled and most >= logits.shape[1]:
            raise AnswerError(f"label {most} is beyond the recogniser's {logits.shape[1]} classes")
        return logits.argmax(1).tolist()

    def cell(self, samples: Sequence[Sample], answers: Sequence[int | None]) -> Cell:
        return {"classes": list(answers)}

    def scores(self, samples: Sequence[Sample], cell: Cell, reference: Cell) -> dict[str, Mean]:
        labels = [sample.label for sample in samples] if self.labelled else reference["classes"]
        pairs = zip(cell["classes"], labels, strict=True)
        right = [answer is not None and answer == label for answer, label in pairs]
        return {self.measures[0]: Mean(np.array(right, dtype=np.float64))}


def load_image(file: Path, size: int) -> Tensor:
    """Resize the short side to `size` (bicubic, antialiased) and crop the centre.

    Returns RGB (3, size, size), float32 in [0, 1]. Raises OSError for what Pillow cannot read, and
    for more than 8 bits a channel, which Pillow would clip to white.
    """
    image = open_rgb(file)
    width, height = (size * side // min(image.size) for side in image.size)
    left, top = round((width - size) / 2), round((height - size) / 2)
    image = image.resize((width, height), Image.Resampling.BICUBIC)
    pixels = np.array(image.crop((left, top, left + size, top + size)))  # (size, size, 3)
    return torch.from_numpy(pixels).permute(2, 0, 1) / 255.0  # (3, size, size)


def read_table(folder: Path, table: Path, splits: Sequence[str] = ()) -> list[Sample]:
    """Read a CSV with the columns `path` (below the folder) and `label` (class index from 0).

    With `splits`, only rows whose column `split` names one of them. Raises ValueError, naming
    the line, for a missing column, label or file, an unknown split, or an empty selection.
    """
    with table.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file, restval="")
        for column in ("path", "label", "split") if splits else ("path", "label"):
            if column not in (reader.fieldnames or ()):
                raise ValueError(f"{table} has no column {column!r}, only {reader.fieldnames}")
        rows = [(f"{table}, line {reader.line_num}", row) for row in reader]
    known = {row["split"] for _, row in rows} if splits else set()
    if unknown := set(splits) - known:
        raise ValueError(f"{table} has no split {min(unknown)!r}, only {sorted(known)}")
    samples = [
        sample_of(folder, at, row) for at, row in rows if not splits or row["split"] in splits
    ]
    if not samples:
        raise ValueError(f"{table} lists no images")
    return samples


def sample_of(folder: Path, at: str, row: Mapping[str, str]) -> Sample:
    name, label = row["path"], row["label"]
    if not (label.isascii() and label.isdecimal()):
        raise ValueError(f"{at}: the label of {name!r} is {label!r}, not a class index (0, 1, ...)")
    if not (folder / name).is_file():
        raise ValueError(f"{at}: there is no file {name!r} in {folder}")
    return Sample(name, folder / name, int(label))


def read_class_folders(folder: Path) -> list[Sample]:
    """One folder for each class, classes numbered by name, as torchvision's ImageFolder does."""
    classes = sorted(path.name for path in folder.iterdir() if path.is_dir())
    samples = [
        Sample(sample.name, sample.file, label)
        for label, name in enumerate(classes)
        for sample in read_images(folder, folder / name)
    ]
    if not samples:
        raise ValueError(f"{folder} has no folders with images: expected one for each class")
    return samples


def read_unlabelled(folder: Path) -> list[Sample]:
    """Every image below a folder, in the order of names; ValueError where there is none."""
    samples = read_images(folder, folder)
    if not samples:
        raise ValueError(f"there is no image in {folder}")
    return samples


def read_images(root: Path, folder: Path) -> list[Sample]:
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    return [Sample(file.relative_to(root).as_posix(), file, 0) for file in files]
