"""Weights files: a folder as on the Hub, config.json beside model.safetensors, never a pickle."""

import json
import os
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

CONFIG = "config.json"
MODEL = "model.safetensors"
FORMAT = 1
HERE = Path(__file__).parent
# in a wheel the sets lie inside the package; in a checkout, beside it
EMBEDDED = (HERE / "embedded", HERE.parent / "weights")


class WeightsError(ValueError):
    """The weights files are not what they should be; says which and how."""


def locate(name: str | Path) -> Path:
    """The folder of an embedded set or of the user's own; FileNotFoundError names the sets."""
    embedded = {
        path.parent.name: path.parent for root in EMBEDDED for path in root.glob(f"*/{MODEL}")
    }
    if str(name) in embedded:
        return embedded[str(name)]
    if any((Path(name) / file).is_file() for file in (CONFIG, MODEL)):
        return Path(name)
    raise FileNotFoundError(
        f"no weights {str(name)!r}: not a folder with {CONFIG} and {MODEL}, and not one of the "
        f"embedded sets ({', '.join(sorted(embedded)) or 'none'})"
    )


def read_config(folder: Path) -> dict[str, Any]:
    """The restorer's config as JSON values; WeightsError if it is missing or of another format."""
    path = folder / CONFIG
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} has no {CONFIG}: sizes are never guessed") from error
    except (UnicodeDecodeError, json.JSONDecodeError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise WeightsError(f"{path} is not a vrdir-plug config of format {FORMAT}")
    return values


def load(network: nn.Module, folder: Path) -> None:
    """Fill the network, strictly; WeightsError on a damaged file, other keys or shapes, NaN."""
    path = folder / MODEL
    try:
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
        tensors = load_file(path)
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} has no {MODEL}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    if header.get("config") != (folder / CONFIG).read_text(encoding="utf-8"):
        raise WeightsError(f"{path} was not written with the {CONFIG} beside it")
    damaged = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if damaged:
        raise WeightsError(f"{path} has NaN or infinite values in {', '.join(damaged)}")
    try:
        network.load_state_dict(tensors, strict=True)
    except RuntimeError as error:
        raise WeightsError(f"{path} does not fit its {CONFIG}: {error}") from error


def save(network: nn.Module, config: dict[str, Any], folder: Path) -> None:
    """Write both files, each whole or not at all; the header of one repeats the other.

    So a pair torn by a crash between the two is refused, not loaded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps({"format": FORMAT, **config}, indent=2) + "\n"
    tensors = {name: tensor.contiguous() for name, tensor in network.state_dict().items()}
    parts = folder / (MODEL + ".part"), folder / (CONFIG + ".part")
    save_file(tensors, parts[0], metadata={"format": "pt", "config": text})
    parts[1].write_text(text, encoding="utf-8")
    os.replace(parts[0], folder / MODEL)
    os.replace(parts[1], folder / CONFIG)


def atomic_torch_save(value: object, path: Path) -> None:
    """torch.save that leaves either the old file or the new one."""
    half_written = path.with_name(path.name + ".part")
    torch.save(value, half_written)
    os.replace(half_written, path)
