"""Compares restorers, by name, in front of one recogniser on the same clean and degraded images.

A restorer is any callable from RGB images (N, 3, H, W), float32 in [0, 1], to the same; the first
is the baseline. What is recognised, and how well, is the business of a Task.

The pixels of an image depend on its name, the corruption, the severity and the seed alone: every
restorer sees the same ones, whatever the batch size and the selection.
"""

import hashlib
import json
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from glob import escape
from pathlib import Path
from threading import Barrier
from typing import Any, NamedTuple, Protocol

import numpy as np
import PIL
import torch
from torch import Generator, Tensor
from tqdm import tqdm

from .corruptions import CORRUPTIONS
from .files import SUFFIXES, ahead
from .measures import Mean, Score, psnr, ssim

Restore = Callable[[Tensor], Tensor]
Cell = dict[str, Any]


class Condition(NamedTuple):
    """A name from CORRUPTIONS at a severity from 1 to 5; or CLEAN; or, at severity 0, photographs
    that are really degraded: those in `folder` that have the names of the clean ones."""

    corruption: str
    severity: int
    folder: str = ""


CLEAN = Condition("clean", 0)


@dataclass(frozen=True)
class Sample:
    """An image: its name, its file, and what is known of it (a class, a person, an image id)."""

    name: str
    file: Path
    label: int


class Task(Protocol):
    """What a recogniser is asked, and how its answers are scored.

    `measures` names what `scores` returns. Images of one size are recognised in batches.
    `resamples` is how many bootstrap draws its intervals are from.
    """

    @property
    def measures(self) -> tuple[str, ...]: ...
    @property
    def one_size(self) -> bool: ...
    @property
    def resamples(self) -> int: ...
    @property
    def samples(self) -> Sequence[Sample]: ...
    @property
    def facts(self) -> Mapping[str, str | int]: ...

    def load(self, sample: Sample) -> Tensor:
        """RGB (3, H, W), float32 in [0, 1]; OSError for what cannot be read.

        Called on several threads at once.
        """
        ...

    def recognise(self, images: Tensor) -> Sequence[Any]:
        """An answer for each of (N, 3, H, W); AnswerError where it is of no use for the task."""
        ...

    def cell(self, samples: Sequence[Sample], answers: Sequence[Any]) -> Cell:
        """What to keep of the answers, as JSON; None stands for an image without an answer."""
        ...

    def scores(self, samples: Sequence[Sample], cell: Cell, reference: Cell) -> Mapping[str, Score]:
        """A score for each measure; the reference is the baseline's cell on clean images."""
        ...


class AnswerError(ValueError):
    """A recogniser that does not fit the task, whatever the image."""


@dataclass(frozen=True, eq=False)
class Report:
    """Every cell of an evaluation, and what is needed to repeat it.

    `cells[condition, restorer]` is what the task keeps; `scores[condition, restorer]` a score for
    each of `measures`. `conditions` begins with CLEAN, `restorers` with the baseline. `skipped`
    names the images that could not be read, `failed` those that a restorer or the recogniser
    failed on (they count as not recognised), and why.
    """

    pipeline: Mapping[str, str | int]
    resamples: int
    measures: Sequence[str]
    restorers: Sequence[str]
    conditions: Sequence[Condition]
    images: Sequence[str]
    skipped: Sequence[str]
    failed: Sequence[str]
    cells: Mapping[tuple[Condition, str], Cell]
    scores: Mapping[tuple[Condition, str], Mapping[str, Score]]


@dataclass
class State:
    """Finished conditions, kept in a file so that an interrupted run goes on from there.

    A line for each condition is appended; a last line that was cut off is forgotten. Without a
    file everything stays in memory.
    """

    file: Path | None
    key: str
    done: dict[Condition, tuple[dict[str, Cell], list[str]]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.file is None or not self.file.exists():
            return
        content = self.file.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        for entry in map(json.loads, whole.splitlines()):
            if entry["key"] != self.key:
                raise ValueError(
                    f"{self.file} is of an interrupted run with other images, models or options: "
                    "repeat that command to finish it, or delete the file"
                )
            self.done[Condition(*entry["condition"])] = entry["cells"], entry["failed"]
        os.truncate(self.file, len(whole))

    def add(self, condition: Condition, cells: dict[str, Cell], failed: list[str]) -> None:
        self.done[condition] = cells, failed
        if self.file is not None:
            entry = {"key": self.key, "condition": condition, "cells": cells, "failed": failed}
            with self.file.open("a", encoding="utf-8") as file:
                file.write(json.dumps(entry) + "\n")


def evaluate(
    task: Task,
    restorers: Mapping[str, Restore],
    conditions: Sequence[Condition],
    *,
    batch_size: int = 32,
    seed: int = 0,
    device: torch.device | str = "cpu",
    fidelity: bool = False,
    facts: Mapping[str, str | int] | None = None,
    state: Path | None = None,
) -> Report:
    """Put every restorer before the recogniser, on clean images and under each condition.

    Args:
        device: where images are corrupted, and given to the restorers.
        fidelity: measure PSNR and SSIM against the clean image, too (needs scikit-image).
        facts: what else the report should say of the pipeline; part of its hash.
        state: a file that keeps finished conditions; it is deleted by nobody here.

    Raises:
        ValueError: no image can be read; the recogniser fails on every image, or its answers are
            of no use for the task; the state is of another evaluation; two conditions of one name.
    """
    conditions, device = [CLEAN, *conditions], torch.device(device)
    if twice := [name for name, count in Counter(map(title, conditions)).items() if count > 1]:
        raise ValueError(f"two conditions have the name {twice[0]!r}: give them different ones")
    samples, skipped = readable(task, [c for c in conditions if c.folder])
    pipeline: dict[str, str | int] = {**task.facts, "seed": seed, "device": device.type}
    pipeline |= {**versions(), **(facts or {})}
    pipeline["fidelity"] = "measured" if fidelity else "not measured"
    pipeline["bootstrap"] = f"{task.resamples} draws"
    pipeline["images sha256"] = digest([[sample.name, sample.label] for sample in samples])
    pipeline["pipeline sha256"] = digest(pipeline)
    kept = State(state, digest([pipeline, list(restorers)]))
    with tqdm(total=len(conditions) * len(samples), unit="image", disable=None) as bar:
        for condition in conditions:
            bar.set_description(title(condition))
            if condition in kept.done:
                bar.update(len(samples))
                continue
            count = batch_size if task.one_size else 1
            batches = degraded(task, samples, condition, count, seed, device)
            kept.add(condition, *run_condition(task, restorers, condition, batches, fidelity, bar))
    return report(task, samples, skipped, pipeline, list(restorers), conditions, kept)


def report(
    task: Task,
    samples: Sequence[Sample],
    skipped: Sequence[str],
    pipeline: Mapping[str, str | int],
    restorers: Sequence[str],
    conditions: Sequence[Condition],
    kept: State,
) -> Report:
    cells = {(c, name): kept.done[c][0][name] for c in conditions for name in restorers}
    reference = cells[CLEAN, restorers[0]]
    scores = {
        at: {**task.scores(samples, cell, reference), **fidelity_of(cell)}
        for at, cell in cells.items()
    }
    measures = [*task.measures, *fidelity_of(reference)]
    images = [sample.name for sample in samples]
    failed = [line for condition in conditions for line in kept.done[condition][1]]
    return Report(
        pipeline,
        task.resamples,
        measures,
        restorers,
        conditions,
        images,
        skipped,
        failed,
        cells,
        scores,
    )


def fidelity_of(cell: Cell) -> dict[str, Score]:
    return {
        name: Mean(np.array(cell[name], dtype=np.float64))
        for name in ("PSNR", "SSIM")
        if name in cell
    }


def title(condition: Condition) -> str:
    name, severity, _ = condition
    return f"{name} {severity}" if severity else name


def digest(content: object) -> str:
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()


def versions() -> dict[str, str | int]:
    """Of what the pixels go through."""
    return {"torch": torch.__version__, "numpy": np.__version__, "pillow": PIL.__version__}


def readable(task: Task, taken: Sequence[Condition]) -> tuple[list[Sample], list[str]]:
    """The samples that can be read, clean and under the conditions of real photographs."""
    samples, skipped = [], []
    for sample in tqdm(task.samples, desc="reading", unit="image", disable=None):
        try:
            clean = task.load(sample)
            for condition in taken:
                same_size(task.load(photograph(condition, sample)), clean, condition)
            samples.append(sample)
        except OSError as error:
            skipped.append(f"{sample.name}: {error}")
    if not samples:
        raise ValueError(f"none of the {len(skipped)} images can be read: {skipped[:1]}")
    return samples, skipped


def photograph(condition: Condition, sample: Sample) -> Sample:
    """The sample as it was really photographed: the file of its name, whatever the suffix.

    OSError where that is the clean file, as it is for names that are whole paths.
    """
    file = Path(condition.folder, sample.name)
    if file == sample.file:
        raise OSError(f"in {condition.folder} it has no photograph but the clean one itself")
    others = () if file.exists() else sorted(file.parent.glob(f"{escape(file.stem)}.*"))
    return replace(sample, file=next((f for f in others if f.suffix.lower() in SUFFIXES), file))


def same_size(image: Tensor, clean: Tensor, condition: Condition) -> None:
    if image.shape != clean.shape:
        sizes = [f"{width}x{height}" for height, width in (image.shape[1:], clean.shape[1:])]
        raise OSError(f"{sizes[0]} pixels in {condition.folder}, but {sizes[1]} where it is clean")


class Batch(NamedTuple):
    """Samples with their images (N, 3, H, W), clean and degraded, on the evaluation's device."""

    samples: Sequence[Sample]
    clean: Tensor
    degraded: Tensor


def use_one_thread() -> None:
    torch.get_num_threads()  # a thread's first question sets its number anew
    torch.set_num_threads(1)


@contextmanager
def single_threads(count: int) -> Iterator[ThreadPoolExecutor]:
    """Threads in each of which torch uses one: many of them are not to start teams of their own."""
    before, all_here = torch.get_num_threads(), Barrier(count)
    with ThreadPoolExecutor(count, initializer=use_one_thread) as pool:
        list(pool.map(lambda _: all_here.wait(), range(count)))
        torch.set_num_threads(before)  # of this thread; theirs is their own
        yield pool


def degraded(
    task: Task,
    samples: Sequence[Sample],
    condition: Condition,
    batch_size: int,
    seed: int,
    device: torch.device,
) -> Iterator[Batch]:
    """Each made on a thread, ahead of the one that is looked at."""

    def made(part: Sequence[Sample]) -> Batch:
        clean = torch.stack([task.load(sample) for sample in part]).to(device)
        return Batch(part, clean, corrupt(task, condition, part, clean, seed))

    parts = [samples[start : start + batch_size] for start in range(0, len(samples), batch_size)]
    threads = os.cpu_count() or 1
    with single_threads(threads) as pool:
        yield from ahead(pool, made, parts, threads + 1)


def corrupt(
    task: Task, condition: Condition, samples: Sequence[Sample], images: Tensor, seed: int
) -> Tensor:
    """Images (N, 3, H, W) of the samples under a condition, on the device of the clean ones."""
    if condition == CLEAN:
        return images
    if condition.folder:
        taken = [task.load(photograph(condition, sample)) for sample in samples]
        return torch.stack(taken).to(images.device)
    generators = [generator_of(condition, sample, seed, images.device) for sample in samples]
    return CORRUPTIONS[condition.corruption](images, condition.severity, generators)


def generator_of(
    condition: Condition, sample: Sample, seed: int, device: torch.device
) -> Generator:
    key = f"{seed} {sample.name} {condition.corruption} {condition.severity}"
    number = hashlib.sha256(key.encode()).digest()[:8]
    return Generator(device).manual_seed(int.from_bytes(number, "big", signed=True))


def run_condition(
    task: Task,
    restorers: Mapping[str, Restore],
    condition: Condition,
    batches: Iterator[Batch],
    fidelity: bool,
    bar: Any,
) -> tuple[dict[str, Cell], list[str]]:
    samples: list[Sample] = []
    looks: dict[str, list[Look]] = {name: [] for name in restorers}
    for batch in batches:
        samples += batch.samples
        for name, restore in restorers.items():
            looks[name] += look(task, restore, batch, fidelity)
        bar.update(len(batch.samples))
    failed = []
    for name, found in looks.items():
        reasons = [
            f"{sample.name} ({title(condition)}, {name}): {seen.error}"
            for sample, seen in zip(samples, found, strict=True)
            if seen.error
        ]
        if len(reasons) == len(samples):
            raise ValueError(f"{name} before the recogniser fails on every image: {reasons[0]}")
        failed += reasons
    return {name: cell_of(task, samples, found) for name, found in looks.items()}, failed


class Look(NamedTuple):
    """What came of one image: an answer, or why there is none; PSNR and SSIM if measured."""

    answer: Any
    error: str = ""
    fidelity: tuple[float, float] | None = None


def look(task: Task, restore: Restore, batch: Batch, fidelity: bool) -> list[Look]:
    """Restore and recognise; where a batch fails, image by image."""
    try:
        with torch.inference_mode():
            # A copy each: none can change what the next one sees.
            restored = check_restored(restore(batch.degraded.clone()), batch.degraded)
            answers = task.recognise(restored)
    except AnswerError:
        raise
    except Exception as error:
        if len(batch.samples) > 1:
            parts = zip(batch.samples, batch.clean.split(1), batch.degraded.split(1), strict=True)
            singles = (Batch([sample], clean, pixels) for sample, clean, pixels in parts)
            return [seen for single in singles for seen in look(task, restore, single, fidelity)]
        worst = (0.0, 0.0) if fidelity else None
        return [Look(None, f"{type(error).__name__}: {error}", worst)]
    quality: list[tuple[float, float] | None] = [None] * len(batch.samples)
    if fidelity:
        pairs = zip(restored.cpu(), batch.clean.cpu(), strict=True)
        quality = [(round(psnr(*pair), 3), round(ssim(*pair), 4)) for pair in pairs]
    return [Look(answer, "", q) for answer, q in zip(answers, quality, strict=True)]


def check_restored(restored: Tensor, images: Tensor) -> Tensor:
    if not isinstance(restored, Tensor) or restored.shape != images.shape:
        got = tuple(restored.shape) if isinstance(restored, Tensor) else type(restored).__name__
        raise AnswerError(f"a restorer returned {got} for images {tuple(images.shape)}")
    return restored


def cell_of(task: Task, samples: Sequence[Sample], looks: Sequence[Look]) -> Cell:
    cell = task.cell(samples, [seen.answer for seen in looks])
    quality = [seen.fidelity for seen in looks if seen.fidelity]
    if not quality:
        return cell
    return cell | {"PSNR": [q[0] for q in quality], "SSIM": [q[1] for q in quality]}
