"""The command ``vrdir``. Exit codes: 0 done, 1 done in part, 2 wrong usage or bad input."""

import argparse
import hashlib
import importlib
import os
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from . import __version__
from .adapters import find_input
from .cli_bench import add_bench
from .cli_doctor import add_doctor
from .cli_download import add_download
from .cli_export import add_export
from .cli_restore import add_restore
from .corruptions import CORRUPTIONS
from .data import read_folder
from .evaluation import Condition, Recogniser, evaluate, read_samples, to_json, to_markdown
from .pixels import PixelSpec, UnknownPixels
from .restorer import Restorer, config_of
from .teachers import Teacher
from .training import train
from .wrap import RestoreThen


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; argparse itself exits with 2 on wrong usage."""
    parser = argparse.ArgumentParser(prog="vrdir", description="Restore images for recognition.")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    add_evaluate(commands)
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


def add_evaluate(commands: Any) -> None:
    command = commands.add_parser(
        "evaluate", help="what corruptions cost a recogniser, and what the restorer gives back"
    )
    command.set_defaults(run=run_evaluate)
    option = command.add_argument
    option("--images", type=Path, required=True, help="folder the paths in --labels start from")
    option("--labels", type=Path, required=True, help="CSV: path, label (from 0), perhaps split")
    option("--split", action="append", default=[], help="only rows of this split; repeatable")
    option("--recogniser", required=True, help="timm:NAME, torchvision:NAME or MODULE:FUNCTION")
    option("--recogniser-weights", type=Path, help=".safetensors or .pth; else downloaded")
    option("--restorer", default="fast", help="fast, a folder with weights, or none")
    option("--severity", type=int, choices=range(1, 6), default=3)
    option("--size", type=positive, default=224, help="side of the square crop, in pixels")
    option("--batch-size", type=positive, default=32)
    option("--seed", type=int, default=0)
    option("--json", type=Path, help="write every cell, image by image, to this file")


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
    option("--profile", default="fast", help="sizes of the network: fast, strong or paper")
    option("--steps", type=positive, default=8000, help="of the four stages together")
    option("--device", default="auto", help="cpu, cuda or auto: the GPU where there is one")
    option("--batch-size", type=positive, default=32)
    option("--seed", type=int, default=0)


def positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not positive")
    return number


def run_evaluate(arguments: argparse.Namespace) -> None:
    if arguments.json and not arguments.json.parent.is_dir():
        raise ValueError(f"there is no folder {arguments.json.parent} to write --json into")
    samples = read_samples(arguments.images, arguments.labels, arguments.split)
    model, pixels = build_recogniser(arguments.recogniser, arguments.recogniser_weights)
    contestants: dict[str, Recogniser] = {"unrestored": lambda rgb: model(pixels.encode(rgb))}
    facts = {
        "vrdir-plug": __version__,
        "recogniser": arguments.recogniser,
        "recogniser sha256": fingerprint(model),
        "restorer": arguments.restorer,
    }
    if arguments.restorer != "none":
        restorer = Restorer.from_pretrained(arguments.restorer)
        pair = RestoreThen(model, restorer)
        contestants["restored"] = lambda rgb: pair(pixels.encode(rgb))
        facts["restorer sha256"] = fingerprint(restorer)
    report = evaluate(
        samples,
        contestants,
        [Condition(name, arguments.severity) for name in CORRUPTIONS],
        size=arguments.size,
        batch_size=arguments.batch_size,
        seed=arguments.seed,
    )
    report = replace(report, pipeline=report.pipeline | facts)
    for line in report.skipped:
        print(f"vrdir: left out {line}", file=sys.stderr)
    print(to_markdown(report), end="")
    if arguments.json:
        arguments.json.write_text(to_json(report), encoding="utf-8")


def run_train(arguments: argparse.Namespace) -> None:
    # a wrong profile or teacher is said before the images are read
    config_of(arguments.profile)
    teachers = [build_teacher(*name.partition("=")[::2]) for name in arguments.teacher]
    images = [image for folder in arguments.images for image in read_folder(folder)]
    done = train(
        images,
        teachers,
        arguments.out,
        arguments.profile,
        steps=arguments.steps,
        batch=arguments.batch_size,
        seed=arguments.seed,
        device=arguments.device if arguments.device != "auto" else accelerator(),
    )
    state = "the weights are" if done else "stopped; the same command goes on. So far they are"
    print(f"{state} in {arguments.out / 'weights'}")


def accelerator() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"


def build_teacher(name: str, weights: str) -> Teacher:
    model, pixels = build_recogniser(name, Path(weights) if weights else None)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Teacher(model, pixels)


def build_recogniser(name: str, weights: Path | None) -> tuple[nn.Module, PixelSpec]:
    """Build a network in eval mode, with its pixel encoding; ValueError says why it cannot be."""
    try:
        model = build(name, pretrained=weights is None)
        pixels = find_input(model).pixels
    except ModuleNotFoundError as error:
        raise ValueError(
            f"{name} needs the module {error.name!r}: install it, or run where it lies"
        ) from error
    except UnknownPixels as error:
        raise ValueError(
            f"{name} does not tell how it expects its pixels: give the network an attribute "
            "pretrained_cfg = {'mean': (r, g, b), 'std': (r, g, b)}"
        ) from error
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(f"cannot build {name}: {error}") from error
    if weights is not None:
        load_weights(model, weights)
    return model.eval(), pixels


def build(name: str, pretrained: bool) -> nn.Module:
    library, _, entry = name.partition(":")
    if not (library and entry):
        raise ValueError(f"{name!r} is not timm:NAME, torchvision:NAME or MODULE:FUNCTION")
    if library == "timm":
        model = importlib.import_module("timm").create_model(entry, pretrained=pretrained)
    elif library == "torchvision":
        models = importlib.import_module("torchvision.models")
        model = models.get_model(entry, weights="DEFAULT" if pretrained else None)
    else:
        # As `python -m` does and an installed command does not.
        sys.path.insert(0, os.getcwd())
        model = getattr(importlib.import_module(library), entry)()
    if not isinstance(model, nn.Module):
        raise TypeError(f"came {type(model).__name__}, expected a torch.nn.Module")
    return model


def load_weights(model: nn.Module, file: Path) -> None:
    try:
        # torchvision publishes pickles; weights_only refuses those that would run code
        pickled = file.suffix in (".pth", ".pt")
        tensors = torch.load(file, "cpu", weights_only=True) if pickled else load_file(file)
    except (SafetensorError, UnpicklingError, EOFError, RuntimeError) as error:
        raise ValueError(f"{file} is not a whole weights file: {error}") from error
    try:
        model.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        raise ValueError(f"{file} does not fit the recogniser: {error}") from error


def fingerprint(network: nn.Module) -> str:
    """SHA-256 of all weights by name; the same for a file, a download and a built-in set."""
    digest = hashlib.sha256()
    for name, tensor in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.cpu().flatten().view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
