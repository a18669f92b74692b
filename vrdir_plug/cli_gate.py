"""``vrdir gate``: parsing and printing; the work is in `gating`."""

import argparse
import json
import math
import sys
from collections.abc import Callable, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm

from .classification import Classification, read_unlabelled
from .corruptions import CORRUPTIONS
from .evaluation import CLEAN, Condition, Report, evaluate
from .gating import Flags, Gate, calibrate, scores_of
from .measures import Scores
from .recognisers import build_classifier, placed
from .restorer import Restorer
from .restoring import pick_device
from .tables import missing_of

DESCRIPTION = """\
Find out which images to leave as they are, on your own clean images, for your own classifier; no
labels. One half of the images, drawn by --seed, chooses the smallest threshold of the restorer's
degradation score behind which at most --most-changed of the top-1 answers change. The other half
certifies it: with 95 % confidence (one-sided Clopper-Pearson) top-1 on such clean images falls by
at most so many points. Some of the images are then corrupted, to see how many degraded ones the
threshold leaves as they are.

FOLDER gets config.json with the threshold, model.safetensors, and gate.json, which says what it was
calibrated on. Restorer.from_pretrained and every --restorer take it.

The bound is for top-1, so the recogniser must be a classifier, and for images drawn as these are,
each on its own: frames of one video are not. For detection and re-identification there is no bound:
measure the folder that this command writes with vrdir evaluate --restorer FOLDER."""

EXAMPLES = """\
example:
  vrdir gate --images my_clean_photographs --recogniser timm:tf_efficientnet_lite2 --out gated

exit codes: 0 done; 1 done, but images were left out or not answered; 2 wrong usage or bad input;
130 interrupted"""

MOST_CORRUPTED = 50  # of each kind
Score = Callable[[Condition, int], Scores]


def add_gate(commands: Any) -> None:
    command = commands.add_parser(
        "gate",
        help="leave clean images as they are: calibrate on yours, with a bound of what is lost",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_gate)
    option = command.add_argument
    option("--images", type=Path, required=True, help="folder of clean images: hundreds, or more")
    option("--recogniser", required=True, help="timm:NAME, torchvision:NAME or MODULE:FUNCTION")
    option("--recogniser-weights", type=Path, help=".safetensors or .pth; else downloaded")
    option(
        "--restorer",
        default="fast",
        help="fast, strong, a folder with weights, or org/name on the Hub",
    )
    option("--out", type=Path, required=True, help="folder for the calibrated weights")
    option("--most-changed", type=share, default=0.01, help="share from 0 to 1 (default: 0.01)")
    option("--corruption", action="append", choices=CORRUPTIONS, help="repeatable; default all")
    option("--severity", type=int, choices=range(1, 6), default=3)
    option("--size", type=int, default=224, help="side of the square crop, in pixels")
    option("--batch-size", type=int, default=32)
    option("--seed", type=int, default=0)
    option("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")


def share(text: str) -> float:
    number = float(text)
    if not 0 <= number < 1:
        raise argparse.ArgumentTypeError(f"{number} is no share from 0 to below 1")
    return number


def run_gate(arguments: argparse.Namespace) -> int:
    if arguments.out.exists() and not arguments.out.is_dir():
        raise ValueError(f"{arguments.out} is a file; --out names a folder")
    device = pick_device(arguments.device)
    restorer = ungated(arguments.restorer).to(device)
    classify, sha256 = build_classifier(arguments.recogniser, arguments.recogniser_weights, device)
    task = Classification(read_unlabelled(arguments.images), classify, arguments.size, False)
    report = evaluate(
        task,
        {"none": lambda images: images, "restored": placed(restorer, device)},
        [],
        batch_size=arguments.batch_size,
        seed=arguments.seed,
        device=device,
        facts={"recogniser": arguments.recogniser, "recogniser sha256": sha256},
    )
    score = scoring(task, report, restorer, arguments)
    gate = calibrate(score(CLEAN, 1), changed(report), arguments.most_changed, arguments.seed)
    missed = bypassed(score, gate, report, arguments)
    restorer.config = replace(restorer.config, bypass=gate.threshold)
    restorer.save_pretrained(arguments.out)
    facts = {**asdict(gate), "bypassed_of_corrupted": missed, "pipeline": dict(report.pipeline)}
    (arguments.out / "gate.json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return tell(report, gate, missed, arguments)


def ungated(name: str) -> Restorer:
    """The restorer without the threshold that it may have; ValueError where it cannot have one."""
    restorer = Restorer.from_pretrained(name)
    if restorer.config.published:
        raise ValueError(f"{name} is of the profile paper, whose gate has no score to calibrate")
    restorer.config = replace(restorer.config, bypass=0.0)
    return restorer


def scoring(
    task: Classification, report: Report, restorer: Restorer, arguments: argparse.Namespace
) -> Score:
    """Scores of every n-th image that could be read, under a condition."""
    read = set(report.images)
    samples = [sample for sample in task.samples if sample.name in read]
    device = next(restorer.parameters()).device

    def score(condition: Condition, nth: int) -> Scores:
        batch, seed = arguments.batch_size, arguments.seed
        return scores_of(task, restorer.degradation, samples[::nth], condition, batch, seed, device)

    return score


def changed(report: Report) -> Flags:
    """Where the restored image gets another class, or none."""
    before, after = (report.cells[CLEAN, name]["classes"] for name in report.restorers)
    return np.array([a is None or a != b for a, b in zip(after, before, strict=True)])


def bypassed(
    score: Score, gate: Gate, report: Report, arguments: argparse.Namespace
) -> dict[str, float]:
    """The share of corrupted images below the threshold, by kind."""
    nth = math.ceil(len(report.images) / MOST_CORRUPTED)
    kinds = dict.fromkeys(arguments.corruption or CORRUPTIONS)
    return {
        kind: float((score(Condition(kind, arguments.severity), nth) < gate.threshold).mean())
        for kind in tqdm(kinds, desc="corrupted", disable=None)
    }


def tell(
    report: Report, gate: Gate, missed: Mapping[str, float], arguments: argparse.Namespace
) -> int:
    for line in missing_of(report):
        print(f"vrdir: {line}", file=sys.stderr)
    print(in_words(gate))
    print(f"Of corrupted images (severity {arguments.severity}) come back untouched:")
    print(*(f"  {kind:<18} {part:.0%}" for kind, part in missed.items()), sep="\n")
    print(f"{arguments.out} has the weights with this threshold: --restorer {arguments.out}, or")
    print(f"  RestoreThen(model, restorer=Restorer.from_pretrained({str(arguments.out)!r}))")
    return 1 if missing_of(report) else 0


def in_words(gate: Gate) -> str:
    return (
        f"{gate.chosen_on} clean images chose the threshold {gate.threshold:g}, {gate.images} "
        "others certify it:\n"
        f"  {gate.bypassed / gate.images:.1%} come back untouched\n"
        f"  top-1 changes on {gate.changed} of {gate.images} "
        f"({gate.changed_ungated} if all are restored)\n"
        f"With 95 % confidence top-1 on such clean images falls by at most {100 * gate.bound:.2f} "
        "points (one-sided Clopper-Pearson)."
    )
