"""Weights files: a folder as on the Hub, config.json beside model.safetensors, never a pickle."""

import hashlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import nn

from . import hub

CONFIG = "config.json"
MODEL = "model.safetensors"
FORMAT = 20
# the largest that a set of ours could have, with room
MOST_CONFIG, MOST_HEADER, MOST_MODEL = 65_536, 1_000_000, 2_000_000_000
FLOATS = {"F32", "F16", "BF16"}
HERE = Path(__file__).parent
# in a wheel the sets lie inside the package; in a checkout, beside it
EMBEDDED = (HERE / "embedded", HERE.parent / "weights")


class WeightsError(ValueError):
    """The weights files are not what they should be; says which and how."""


def embedded() -> dict[str, Path]:
    """The folders of the embedded sets by name."""
    return {path.parent.name: path.parent for root in EMBEDDED for path in root.glob(f"*/{MODEL}")}


def locate(name: str | Path, revision: str | None = None) -> Path:
    """The folder of an embedded set, of the user's own, or of the Hub's cache, in this order.

    Raises:
        FileNotFoundError: it is nowhere.
        ConnectionError: it is not in the cache, and the network does not bring it.
        WeightsError: an embedded set or a download is not what it was.
        ValueError: a revision of something that is not on the Hub.
    """
    sets = embedded()
    folder = sets.get(str(name), Path(name))
    if any((folder / file).is_file() for file in (CONFIG, MODEL)):
        if revision is not None:
            raise ValueError(f"{name} is not on the Hub: it has no revision {revision!r}")
        if str(name) in sets:
            check_embedded(folder)
        return folder
    if hub.REPOSITORY.fullmatch(str(name)):
        return fetch(str(name), revision)
    raise FileNotFoundError(
        f"no weights {str(name)!r}: not a folder with {CONFIG} and {MODEL}, not org/name on the "
        f"Hub, and not one of the embedded sets ({', '.join(sorted(sets)) or 'none'})"
    )


def fetch(repository: str, revision: str | None = None, refresh: bool = False) -> Path:
    """A set on the Hub as a folder of the cache, downloaded if it is not there; see `hub.fetch`."""
    limits = {CONFIG: MOST_CONFIG, MODEL: MOST_MODEL}
    try:
        return hub.fetch(repository, "main" if revision is None else revision, limits, refresh)
    except FileNotFoundError as error:
        sets = ", ".join(sorted(embedded())) or "none"
        message = f"{error}. It is no folder here either; the embedded sets are: {sets}"
        raise FileNotFoundError(message) from error
    except ValueError as error:
        raise WeightsError(f"{repository}: {error}") from error


def golden() -> dict[str, Any]:
    """What is recorded of the embedded sets: name -> sha256 by file, and restored numbers."""
    return json.loads((HERE / "golden.json").read_text(encoding="utf-8"))


def digests(folder: Path) -> dict[str, str]:
    """SHA-256 of the files of a set."""
    names = CONFIG, MODEL
    return {name: hashlib.sha256((folder / name).read_bytes()).hexdigest() for name in names}


def check_embedded(folder: Path) -> None:
    """WeightsError unless the files are those that were recorded."""
    recorded = golden().get(folder.name, {}).get("sha256")
    if digests(folder) != recorded:
        raise WeightsError(
            f"{folder} is not the set that was recorded for this version: install vrdir-plug "
            "again, or, if you replaced it on purpose, run python tools/golden.py"
        )


def read_config(folder: Path) -> dict[str, Any]:
    """The restorer's config as JSON values; WeightsError if it is missing or of another format."""
    path = folder / CONFIG
    try:
        values = json.loads(read_text(path))
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} has no {CONFIG}: sizes are never guessed") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is not JSON: {error}") from error
    if not isinstance(values, dict) or values.pop("format", None) != FORMAT:
        raise WeightsError(f"{path} is not a vrdir-plug config of format {FORMAT}")
    return values


def read_text(path: Path) -> str:
    with path.open("rb") as file:
        data = file.read(MOST_CONFIG + 1)
    if len(data) > MOST_CONFIG:
        raise ValueError(f"it has more than {MOST_CONFIG} bytes")
    return data.decode("utf-8")


def check(network: nn.Module, folder: Path) -> None:
    """WeightsError unless the file's header fits the network and the config; reads no tensor.

    The network may be on the meta device: nothing of the size that a stranger's files ask for is
    allocated before it is known that as many bytes are there.
    """
    path = folder / MODEL
    try:
        check_length(path)
        with safe_open(path, "pt") as file:
            header = file.metadata() or {}
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            found = {name: tuple(piece.get_shape()) for name, piece in slices.items()}
            kinds = {piece.get_dtype() for piece in slices.values()}
    except FileNotFoundError as error:
        raise WeightsError(f"{folder} has no {MODEL}") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    if header.get("config") != read_text(folder / CONFIG):
        raise WeightsError(f"{path} was not written with the {CONFIG} beside it")
    if not kinds <= FLOATS:
        raise WeightsError(f"{path} has values of {sorted(kinds)}, expected {sorted(FLOATS)}")
    expected = {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()}
    if found != expected:
        others = {str(name) for name, _ in found.items() ^ expected.items()}
        raise WeightsError(
            f"{path} does not fit its {CONFIG}: it differs in {', '.join(sorted(others)[:5])}"
        )


def check_length(path: Path) -> None:
    """ValueError if the header is longer than ours ever are, before anything parses it."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > MOST_HEADER:
        raise ValueError(f"its header has {length} bytes, expected {MOST_HEADER} at most")


def load(network: nn.Module, folder: Path) -> None:
    """Fill the network, strictly; WeightsError on a damaged file, other keys or shapes, NaN."""
    check(network, folder)
    path = folder / MODEL
    try:
        tensors = load_file(path)
    except (SafetensorError, OSError, ValueError) as error:
        raise WeightsError(f"{path} is not a whole safetensors file: {error}") from error
    damaged = [name for name, tensor in tensors.items() if not tensor.isfinite().all()]
    if damaged:
        raise WeightsError(f"{path} has NaN or infinite values in {', '.join(damaged)}")
    network.load_state_dict(tensors, strict=True)


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


def publish(
    network: nn.Module, config: dict[str, Any], repository: str, card: str, private: bool
) -> str:
    """Upload a set with its card as one commit; returns the commit."""
    with tempfile.TemporaryDirectory() as folder:
        save(network, config, Path(folder))
        Path(folder, "README.md").write_text(card, encoding="utf-8")
        return hub.publish(Path(folder), repository, private)


def model_card(name: str, facts: str, scores: str, data: str, license: str) -> str:
    """A card with what was measured: the README.md of a repository on the Hub.

    Args:
        name: of the repository, "org/name".
        facts: one sentence on the network.
        scores: the table that `vrdir evaluate` prints.
        data: which images were seen in training, and their terms.
        license: as the Hub names it, "apache-2.0".
    """
    return CARD.format(name=name, facts=facts, scores=scores, data=data, license=license)


CARD = """\
---
license: {license}
library_name: vrdir-plug
tags: [image-restoration, robustness, recognition]
---

# {name}

Restores degraded photographs for frozen recognition models: RGB in [0, 1], (N, 3, H, W), any size.
{facts}

```python
from vrdir_plug import Restorer

restorer = Restorer.from_pretrained("{name}")
```

## Scores

{scores}

## Data

{data}
"""


def atomic_torch_save(value: object, path: Path) -> None:
    """torch.save that leaves either the old file or the new one."""
    half_written = path.with_name(path.name + ".part")
    torch.save(value, half_written)
    os.replace(half_written, path)
