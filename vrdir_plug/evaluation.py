"""Compares recognisers, by name, on the same clean and corrupted images.

A contestant is any callable from RGB images (N, 3, H, W), float32 in [0, 1], to logits
(N, classes); what it does inside, restoring first or not, is its own affair. The first contestant
is the baseline.

The pipeline is that of ImageNet-C: resize and crop to the recogniser's size, then corrupt, then
recognise. The pixels of an image depend on its name, the corruption, the severity and the seed
alone: every contestant sees the same ones, whatever the batch size and the selection.
"""

import csv
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import PIL
import torch
from PIL import Image
from torch import Generator, Tensor
from tqdm import tqdm

from .corruptions import CORRUPTIONS
from .files import open_rgb

Recogniser = Callable[[Tensor], Tensor]
Scores = npt.NDArray[np.float64]


class Condition(NamedTuple):
    """A name from CORRUPTIONS at a severity from 1 to 5; or CLEAN."""

    corruption: str
    severity: int


CLEAN = Condition("clean", 0)


@dataclass(frozen=True)
class Sample:
    """A labelled image: its name below the folder, its file, its class index."""

    name: str
    file: Path
    label: int


@dataclass(frozen=True)
class Report:
    """Every cell of an evaluation, and what is needed to repeat it.

    `correct[condition, contestant]` is (N,), one value for each of `images`: 1 where the top-1
    was right, 0 where it was not. `conditions` begins with CLEAN, `contestants` with the
    baseline. `skipped` names the images that could not be read, and why.
    """

    pipeline: dict[str, str | int]
    contestants: Sequence[str]
    conditions: Sequence[Condition]
    images: list[str]
    skipped: list[str]
    correct: Mapping[tuple[Condition, str], Scores]


@dataclass(frozen=True)
class Comparison:
    """A contestant's top-1 accuracy against the baseline's, as fractions of one.

    `interval` holds `top1 - baseline` with 95 % confidence. `recovery` is the share of the
    lost accuracy that came back, (top1 - baseline) / (clean - baseline) with the baseline's own
    clean accuracy; None where nothing was lost.
    """

    condition: str
    baseline: float
    top1: float
    interval: tuple[float, float]
    recovery: float | None


def read_samples(folder: Path, table: Path, splits: Sequence[str] = ()) -> list[Sample]:
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


def evaluate(
    samples: Sequence[Sample],
    contestants: Mapping[str, Recogniser],
    conditions: Sequence[Condition],
    *,
    size: int = 224,
    batch_size: int = 32,
    seed: int = 0,
) -> Report:
    """Run every contestant on the clean images and under each of one or more conditions.

    Images that cannot be read are left out for all and listed in `Report.skipped`. Raises
    ValueError where none can be read, or where a contestant returns anything but finite logits
    (N, classes) with a class for every label.
    """
    conditions = [CLEAN, *conditions]
    flags: dict[tuple[Condition, str], list[bool]] = {
        (condition, name): [] for condition in conditions for name in contestants
    }
    images: list[str] = []
    skipped: list[str] = []
    for start in tqdm(range(0, len(samples), batch_size), unit="batch", disable=None):
        batch = load_batch(samples[start : start + batch_size], size, skipped)
        images += [sample.name for sample, _ in batch]
        for condition in conditions if batch else ():
            pixels = torch.stack([corrupt(condition, *pair, seed) for pair in batch])
            for name, recognise in contestants.items():
                # A copy each: none can change what the next one sees.
                flags[condition, name] += top1(name, recognise, pixels.clone(), batch)
    if not images:
        raise ValueError(f"none of the {len(samples)} images can be read: {skipped[:1]}")
    correct = {key: np.array(values, dtype=np.float64) for key, values in flags.items()}
    return Report(
        pipeline_facts(size, seed), list(contestants), conditions, images, skipped, correct
    )


def load_batch(
    samples: Sequence[Sample], size: int, skipped: list[str]
) -> list[tuple[Sample, Tensor]]:
    loaded = []
    for sample in samples:
        try:
            loaded.append((sample, load_image(sample.file, size)))
        except OSError as error:
            skipped.append(f"{sample.name}: {error}")
    return loaded


def corrupt(condition: Condition, sample: Sample, image: Tensor, seed: int) -> Tensor:
    if condition == CLEAN:
        return image
    key = f"{seed} {sample.name} {condition.corruption} {condition.severity}"
    digest = hashlib.sha256(key.encode()).digest()
    generator = Generator().manual_seed(int.from_bytes(digest[:8], "big", signed=True))
    return CORRUPTIONS[condition.corruption](image, condition.severity, generator)


def top1(
    name: str, recognise: Recogniser, pixels: Tensor, batch: Sequence[tuple[Sample, Tensor]]
) -> list[bool]:
    labels = torch.tensor([sample.label for sample, _ in batch])
    with torch.inference_mode():
        logits = recognise(pixels)
    if not isinstance(logits, Tensor) or logits.shape[:-1] != (len(batch),):
        got = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise ValueError(f"{name} returned {got} for {len(batch)} images, not logits (N, classes)")
    if not logits.isfinite().all():
        raise ValueError(f"{name} returned logits that are NaN or infinite")
    if labels.max() >= logits.shape[1]:
        raise ValueError(f"label {labels.max()} is beyond the {logits.shape[1]} classes of {name}")
    return (logits.argmax(1).cpu() == labels).tolist()


def pipeline_facts(size: int, seed: int) -> dict[str, str | int]:
    return {
        "size": size,
        "resize": "short side, bicubic",
        "crop": "centre",
        "corrupted": "after the crop, in 8 bits",
        "seed": seed,
        "torch": torch.__version__,
        "numpy": np.__version__,
        "pillow": PIL.__version__,
    }


def paired_interval(difference: Scores, resamples: int = 10_000) -> tuple[float, float]:
    """Percentile bootstrap interval, 95 %, of the mean of paired differences (N,)."""
    # Drawing N images with replacement is drawing how often each value occurs among them.
    values, counts = np.unique(difference, return_counts=True)
    rng = np.random.default_rng(0)
    drawn = rng.multinomial(difference.size, counts / difference.size, resamples)
    low, high = np.percentile(drawn @ values / difference.size, [2.5, 97.5])
    return float(low), float(high)


def compare(report: Report, contestant: str) -> list[Comparison]:
    """A row for every condition, CLEAN first, and last the mean over the corruptions."""
    names = (report.contestants[0], contestant)
    clean, *corrupted = (
        np.stack([report.correct[condition, name] for name in names])  # (2, N)
        for condition in report.conditions
    )
    titles = ["clean", *(f"{c.corruption} {c.severity}" for c in report.conditions[1:])]
    # Averaged image by image, so that the interval resamples images, not cells.
    mean = np.mean(corrupted, axis=0)  # (2, N)
    rows = zip([*titles, "mean over corruptions"], [clean, *corrupted, mean], strict=True)
    return [comparison(title, pair, float(clean[0].mean())) for title, pair in rows]


def comparison(title: str, pair: Scores, clean: float) -> Comparison:
    before, after = (float(mean) for mean in pair.mean(axis=1))
    recovery = (after - before) / (clean - before) if clean > before else None
    return Comparison(title, before, after, paired_interval(pair[1] - pair[0]), recovery)


def to_markdown(report: Report) -> str:
    """A table in percent: the baseline, then every other contestant with its difference."""
    baseline, *others = report.contestants
    header = ["corruption", f"{baseline} top-1"]
    rows = [[row.condition, f"{row.baseline:.1%}"] for row in compare(report, baseline)]
    for name in others:
        header += [f"{name} top-1", "difference [95 % CI]", "recovery"]
        for cells, row in zip(rows, compare(report, name), strict=True):
            cells += comparison_cells(row)
    lines = [header, ["---"] + ["---:"] * (len(header) - 1), *rows]
    table = "\n".join(f"| {' | '.join(line)} |" for line in lines)
    facts = "; ".join(f"{key} {value}" for key, value in report.pipeline.items())
    unread = f"; {len(report.skipped)} unreadable images left out" if report.skipped else ""
    return f"{table}\n\n{len(report.images)} images{unread}; {facts}\n"


def comparison_cells(row: Comparison) -> list[str]:
    low, high = row.interval
    points = f"{100 * (row.top1 - row.baseline):+.1f} [{100 * low:+.1f}, {100 * high:+.1f}]"
    return [f"{row.top1:.1%}", points, "" if row.recovery is None else f"{row.recovery:.0%}"]


def to_json(report: Report) -> str:
    """Every cell, image by image; the same evaluation gives the same bytes."""
    cells = [
        {"corruption": condition.corruption, "severity": condition.severity, "contestant": name}
        | {"n": flags.size, "top1": flags.mean(), "correct": "".join(f"{x:.0f}" for x in flags)}
        for (condition, name), flags in report.correct.items()
    ]
    content = {"pipeline": report.pipeline, "images": report.images, "skipped": report.skipped}
    return json.dumps(content | {"cells": cells}, indent=1, ensure_ascii=False) + "\n"
