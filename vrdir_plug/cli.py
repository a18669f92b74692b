"""The command ``vrdir``. Exit codes: 0 done, 1 in part, 2 wrong usage or bad input, 130 Ctrl-C."""

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from . import __version__
from .baselines import BASELINES
from .bench import Cost, compare
from .classification import Classification, read_class_folders, read_table, read_unlabelled
from .cli_bench import add_bench
from .cli_doctor import add_doctor
from .cli_download import add_download
from .cli_export import add_export
from .cli_gate import add_gate
from .cli_restore import add_restore
from .config import config_of
from .corruptions import CORRUPTIONS
from .crops import crops_of
from .data import read_folder
from .detection import Detection, read_coco
from .evaluation import Condition, Report, Restore, Sample, Task, evaluate
from .learner import CROP
from .page import to_html
from .recognisers import (
    build,
    build_batch_recogniser,
    build_detector,
    build_recogniser,
    build_restorer,
    placed,
)
from .reidentification import Reidentification, matched
from .restoring import pick_device
from .tables import missing_of, to_csv, to_json, to_markdown
from .teachers import Teacher
from .training import RATE, train
from .weights import locate
from .yolo_labels import read_yolo

ROUNDS = 5  # of measuring the time of a restorer for the page


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse itself exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="vrdir", description="Restore images for recognition.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_evaluate(commands)
    add_gate(commands)
    add_train(commands)
    add_restore(commands)
    add_export(commands, build_recogniser)
    add_download(commands)
    add_bench(commands, build)
    add_doctor(commands)
    arguments = parser.parse_args(argv)
    try:
        return int(arguments.run(arguments) or 0)
    except (ValueError, OSError) as error:
        print(f"vrdir: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("vrdir: interrupted", file=sys.stderr)
        return 130


def add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate",
        help="what bad conditions cost a recogniser, and what restorers give back",
        description="Compare restorers in front of a recogniser, clean and corrupted. Without "
        "--labels it measures agreement with the answers on clean images. Ctrl-C keeps finished "
        "conditions beside --json: the same command goes on. Exit codes: 0 done; 1 done, but "
        "images were left out or not answered; 2 wrong usage or bad input; 130 interrupted.",
    )
    command.set_defaults(run=run_evaluate)
    option = command.add_argument
    option("--images", type=Path, required=True, help="folder of images; of queries with --gallery")
    option(
        "--labels",
        help="a CSV (path, label from 0, perhaps split), `folders` (one for each class); for "
        "detection a COCO .json, or the data.yaml of ultralytics, whose val is below --images",
    )
    option("--split", action="append", default=[], help="only rows of this split; repeatable")
    option("--gallery", type=Path, help="re-identification: folder of clean PID_cCAM*.jpg")
    option(
        "--recogniser",
        required=True,
        help="timm:NAME, torchvision:NAME, torchreid:NAME, MODULE:FUNCTION or a YOLO .pt",
    )
    option("--recogniser-weights", type=Path, help=".safetensors or .pth; else downloaded")
    option(
        "--restorer",
        action="append",
        help="fast, strong, a folder with weights, MODULE:FUNCTION, none or a classical baseline "
        f"({', '.join(BASELINES)}); repeatable; default fast",
    )
    option(
        "--degraded",
        type=Path,
        action="append",
        default=[],
        help="folder of really degraded photographs of what --images shows, under the same names; "
        "repeatable; what is made is left out then, unless --corruption asks for it",
    )
    option("--corruption", action="append", choices=CORRUPTIONS, help="repeatable; default all")
    option("--severity", action="append", type=int, choices=range(1, 6), help="repeatable; or 3")
    option(
        "--size",
        type=size_of,
        help="pixels: N, a classifier's square crop (default 224) or the long side of a detector's "
        "images (default: a YOLO's own, often 640; others as they are); HEIGHTxWIDTH for "
        "re-identification (default 256x128)",
    )
    option("--device", choices=("auto", "cpu", "cuda"), default="auto", help="default: auto")
    option("--batch-size", type=positive, default=32)
    option("--seed", type=int, default=0)
    option("--fidelity", action="store_true", help="PSNR and SSIM, too")
    option("--json", type=Path, help="write every cell, image by image, to this file")
    option("--csv", type=Path, help="write a line for every comparison to this file")
    option("--html", type=Path, help="write one page with tables and figures to this file")


def add_train(commands: Any) -> None:
    command = commands.add_parser(
        "train",
        help="train a restorer on clean images, without labels",
        description="Train a restorer on clean images, without labels. "
        "Ctrl-C keeps the state: the same command goes on from there.",
    )
    command.set_defaults(run=run_train)
    option = command.add_argument
    option(
        "--images",
        type=Path,
        required=True,
        action="append",
        help="folder of clean images; repeatable",
    )
    option(
        "--teacher",
        required=True,
        action="append",
        help="frozen classifier, NAME as evaluate's --recogniser, or NAME=WEIGHTS; repeatable, "
        "the cheapest first; never one that will evaluate",
    )
    option("--out", type=Path, required=True, help="folder for checkpoint, log and weights")
    network = command.add_mutually_exclusive_group().add_argument
    network("--profile", default="fast", help="sizes of the network: fast, strong or paper")
    network(
        "--start",
        help="trained weights (fast, a folder, org/name) in the profile's place: only the last "
        "two stages, which fit them to these teachers and images",
    )
    option("--steps", type=positive, default=8000, help="of all stages together")
    option("--device", default="auto", help="cpu, cuda or auto: the GPU where there is one")
    option("--batch-size", type=positive, default=32, help="images a step, of each process")
    option("--crop", type=positive, default=CROP, help="side of the training crops, in pixels")
    option("--rate", type=rate, default=RATE, help="Adam's learning rate")
    option("--seed", type=int, default=0)
    option("--tensorboard", action="store_true", help="write its files into --out as well")


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def rate(text: str) -> float:
    number = float(text)
    if not 0 < number <= 1:
        raise argparse.ArgumentTypeError(f"{text} is not above 0 and at most 1")
    return number


def size_of(text: str) -> tuple[int, ...]:
    """ "224" -> (224,); "256x128" -> (256, 128)."""
    sides = tuple(map(positive, text.split("x")))
    if len(sides) > 2:
        raise argparse.ArgumentTypeError(f"{text} is neither N nor HEIGHTxWIDTH")
    return sides


def run_evaluate(arguments: argparse.Namespace) -> int:
    outputs = [file for file in (arguments.json, arguments.csv, arguments.html) if file]
    for file in outputs:
        if not file.parent.is_dir():
            raise ValueError(f"there is no folder {file.parent} to write {file.name} into")
        if file.is_dir():
            raise ValueError(f"{file} is a folder, expected a file to write")
    device = pick_device(arguments.device)
    task, facts = task_of(arguments, device)
    restorers: dict[str, Restore] = {"none": lambda images: images}
    for name in arguments.restorer or ["fast"]:
        if name != "none":
            restore, facts[f"restorer {name} sha256"] = build_restorer(name)
            restorers[name] = placed(restore, device)
    state = arguments.json and arguments.json.with_suffix(".state")
    try:
        report = evaluate(
            task,
            restorers,
            conditions_of(arguments),
            batch_size=arguments.batch_size,
            seed=arguments.seed,
            device=device,
            fidelity=arguments.fidelity,
            facts={
                "vrdir-plug": __version__,
                "recogniser": arguments.recogniser,
                **facts,
            },
            state=state,
        )
    except KeyboardInterrupt:
        kept = "finished conditions are kept, the same command goes on" if state else "nothing kept"
        print(f"vrdir: interrupted; {kept}", file=sys.stderr)
        return 130
    code = publish(report, arguments)
    if arguments.html:
        costs = costs_of(report, task, restorers, device)
        crops = list(crops_of(report, task, restorers))
        arguments.html.write_text(to_html(report, costs, crops), encoding="utf-8")
    if state:
        state.unlink()
    return code


def conditions_of(arguments: argparse.Namespace) -> list[Condition]:
    """Real ones first; all synthetic ones where none is named, but only if there is no real one."""
    for folder in arguments.degraded:
        if not folder.is_dir():
            raise ValueError(f"there is no folder {folder}")
    real = [Condition(folder.resolve().name, 0, str(folder)) for folder in arguments.degraded]
    kinds = dict.fromkeys(arguments.corruption or ([] if real else CORRUPTIONS))
    levels = sorted(set(arguments.severity or [3]))
    return [*real, *(Condition(name, level) for name in kinds for level in levels)]


def costs_of(
    report: Report, task: Task, restorers: Mapping[str, Restore], device: torch.device
) -> dict[str, Cost]:
    """Of each restorer beside the recogniser, on the first image that nothing failed on."""
    samples = {sample.name: sample for sample in task.samples}
    whole = [
        samples[name]
        for name in report.images
        if not any(line.startswith(f"{name} (") for line in report.failed)
    ]
    if not whole:
        return {}
    image = task.load(whole[0])[None].to(device)
    names = report.restorers[1:]
    return {name: compare(restorers[name], task.recognise, image, ROUNDS) for name in names}


def publish(report: Report, arguments: argparse.Namespace) -> int:
    for line in missing_of(report):
        print(f"vrdir: {line}", file=sys.stderr)
    print(to_markdown(report), end="")
    if arguments.json:
        arguments.json.write_text(to_json(report), encoding="utf-8")
    if arguments.csv:
        arguments.csv.write_text(to_csv(report), encoding="utf-8")
    return 1 if missing_of(report) else 0


Facts = dict[str, str | int]


def task_of(arguments: argparse.Namespace, device: torch.device) -> tuple[Task, Facts]:
    """The task that the options describe, and what identifies its recogniser."""
    folder, labels = arguments.images, arguments.labels
    if not folder.is_dir():
        raise ValueError(f"there is no folder {folder}")
    if labels and labels.endswith((".json", ".yaml", ".yml")):
        return detection_of(arguments, device)
    samples = read_samples(folder, labels, arguments.split)
    name, weights, size = arguments.recogniser, arguments.recogniser_weights, arguments.size
    if arguments.gallery is None:
        (side,) = one_side(size) or (224,)
        recognise, sha256 = build_batch_recogniser(name, weights, device)
        task: Task = Classification(samples, recognise, side, labels is not None)
    else:
        gallery = read_unlabelled(arguments.gallery)
        queries = matched(samples, gallery)
        recognise, sha256 = build_batch_recogniser(name, weights, device)
        height, width = (*size, *size)[:2] if size else (256, 128)
        task = Reidentification(queries, gallery, recognise, (height, width))
    return task, {"recogniser sha256": sha256}


def one_side(size: tuple[int, ...] | None) -> tuple[int, ...]:
    """ValueError for HEIGHTxWIDTH."""
    if size and len(size) > 1:
        raise ValueError("--size HEIGHTxWIDTH is for re-identification, with --gallery: give N")
    return size or ()


def detection_of(arguments: argparse.Namespace, device: torch.device) -> tuple[Task, Facts]:
    if arguments.split or arguments.gallery:
        raise ValueError("--split and --gallery are not for detection: its labels name the images")
    read = read_coco if arguments.labels.endswith(".json") else read_yolo
    samples, annotations = read(arguments.images, Path(arguments.labels))
    categories = {entry["name"]: entry["id"] for entry in annotations["categories"]}
    (size,) = one_side(arguments.size) or (None,)
    name, weights = arguments.recogniser, arguments.recogniser_weights
    detector = build_detector(name, weights, categories, device, size)
    task = Detection(samples, annotations, detector.detect, detector.size)
    return task, {"recogniser sha256": detector.weights}


def read_samples(folder: Path, labels: str | None, splits: Sequence[str]) -> list[Sample]:
    if splits and labels in (None, "folders"):
        raise ValueError("--split needs --labels with a CSV")
    if labels is None:
        return read_unlabelled(folder)
    return (
        read_class_folders(folder)
        if labels == "folders"
        else read_table(folder, Path(labels), splits)
    )


def run_train(arguments: argparse.Namespace) -> None:
    # a wrong profile, start or teacher is said before the images are read
    config_of(arguments.profile)
    if arguments.start:
        locate(arguments.start)
    teachers = [build_teacher(*name.partition("=")[::2]) for name in arguments.teacher]
    images = [image for folder in arguments.images for image in read_folder(folder)]
    done = train(
        images,
        teachers,
        arguments.out,
        arguments.profile,
        steps=arguments.steps,
        batch=arguments.batch_size,
        crop=arguments.crop,
        rate=arguments.rate,
        start=arguments.start,
        seed=arguments.seed,
        device=pick_device(accelerator() if arguments.device == "auto" else arguments.device),
        tensorboard=arguments.tensorboard,
    )
    state = "the weights are" if done else "stopped; the same command goes on. So far they are"
    print(f"{state} in {arguments.out / 'weights'}")


def accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_teacher(name: str, weights: str) -> Teacher:
    model, pixels = build_recogniser(name, Path(weights) if weights else None)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(model, pixels)


if __name__ == "__main__":
    sys.exit(main())
