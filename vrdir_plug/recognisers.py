"""Building recognisers and restorers from what a user names on the command line.

Libraries are imported when a name asks for them.
"""

import hashlib
import importlib
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from .adapters import find_input
from .baselines import BASELINES
from .pixels import PixelSpec, UnknownPixels
from .restorer import Restorer

STRIDE = 32  # of a YOLO's coarsest features


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


def build_classifier(
    name: str, weights: Path | None, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], str]:
    """A classifier, RGB (N, 3, H, W) in [0, 1] -> logits, and the SHA-256 of its weights.

    ValueError says why it cannot be built. That the network embeds or detects shows only where
    the name tells; what it returns is up to its caller to check.
    """
    if name.endswith(".pt") or name.startswith("torchreid:"):
        raise ValueError(
            f"{name} is no classifier, and only of top-1 is a change bounded: measure what a "
            "restorer does to it with vrdir evaluate"
        )
    return build_batch_recogniser(name, weights, device)


def build_batch_recogniser(
    name: str, weights: Path | None, device: torch.device
) -> tuple[Callable[[Tensor], Tensor], str]:
    """As `build_classifier`, for any network that takes a batch: logits, or features (N, D)."""
    model, pixels = build_recogniser(name, weights)
    model.to(device)
    return lambda images: model(pixels.encode(images.to(device))), fingerprint(model)


def placed(
    function: Callable[[Tensor], Tensor], device: torch.device
) -> Callable[[Tensor], Tensor]:
    """A function, moved to a device where it is a network, for images from anywhere."""
    if isinstance(function, nn.Module):
        function.to(device)
    return lambda images: function(images.to(device))


def build(name: str, pretrained: bool) -> nn.Module:
    library, _, entry = name.partition(":")
    if not (library and entry):
        raise ValueError(
            f"{name!r} is not timm:NAME, torchvision:NAME, torchreid:NAME or MODULE:FUNCTION"
        )
    if library == "timm":
        model = importlib.import_module("timm").create_model(entry, pretrained=pretrained)
    elif library == "torchvision":
        models = importlib.import_module("torchvision.models")
        # a detector's backbone would be downloaded for itself
        bare = {"weights_backbone": None} if entry in models.list_models(models.detection) else {}
        model = models.get_model(entry, weights="DEFAULT" if pretrained else None, **bare)
    elif library == "torchreid":
        model = torchreid_network(entry, pretrained)
    else:
        model = called(library, entry)
    if not isinstance(model, nn.Module):
        raise TypeError(f"came {type(model).__name__}, expected a torch.nn.Module")
    return model


def torchreid_network(name: str, pretrained: bool) -> Any:
    """A network that embeds: without the classifier that it was trained with."""
    models = importlib.import_module("torchreid.reid.models")
    model = models.build_model(name, num_classes=1, pretrained=pretrained)
    model.classifier = nn.Identity()
    return model


def called(module: str, function: str) -> Any:
    """What a function of a module, perhaps in the working directory, returns."""
    # As `python -m` does and an installed command does not.
    sys.path.insert(0, os.getcwd())
    return getattr(importlib.import_module(module), function)()


class Detector(NamedTuple):
    """RGB (1, 3, H, W) in [0, 1] -> rows [x1, y1, x2, y2, score, category id]; the SHA-256 of its
    weights; the long side in pixels that its images are resized to, None where they are not."""

    detect: Callable[[Tensor], Tensor]
    weights: str
    size: int | None


def build_detector(
    name: str,
    weights: Path | None,
    categories: Mapping[str, int],
    device: torch.device,
    size: int | None = None,
) -> Detector:
    """A detector; ValueError says why it cannot be built.

    `categories` are the ids by name. A file `.pt` is a YOLO of ultralytics, whose classes are found
    by their names; anything else is built as a recogniser, and its labels are ids, as those of
    torchvision are. `size` is the long side wanted; default that of the YOLO, else none.
    """
    if name.endswith(".pt"):
        return build_yolo(name, categories, device, size)
    model, pixels = build_recogniser(name, weights)
    model.to(device)

    def detect(images: Tensor) -> Tensor:
        found = model([pixels.encode(images.to(device))[0]])[0]
        return torch.cat([found["boxes"], found["scores"][:, None], found["labels"][:, None]], 1)

    return Detector(detect, fingerprint(model), size)


def build_yolo(
    file: str, categories: Mapping[str, int], device: torch.device, size: int | None
) -> Detector:
    """Not within RestoreThen: what a restorer makes is measured and shown before a recogniser sees
    it. At the YOLO's own size a restorer sees here what it sees there, up to 8 bits."""
    if size and size % STRIDE:
        raise ValueError(f"--size is {size}; a YOLO takes multiples of {STRIDE}")
    if not Path(file).is_file():
        raise ValueError(f"there is no file {file}")
    try:
        yolo = importlib.import_module("ultralytics").YOLO(file)
    except ModuleNotFoundError as error:
        raise ValueError(f"{file} needs ultralytics (AGPL-3.0): install it") from error
    ids = {number: categories[name] for number, name in yolo.names.items() if name in categories}
    if not ids:
        raise ValueError(f"none of the classes of {file} is a category of the labels")
    side = size or int(np.max(yolo.overrides.get("imgsz", 640)))
    # so low a confidence, as its own validation does: mAP wants the whole curve
    settings = {"conf": 0.001, "verbose": False, "device": device, "imgsz": side}

    def detect(images: Tensor) -> Tensor:
        # ultralytics takes arrays as OpenCV reads them: BGR, 8 bits
        pixels = (images[0].flip(0).permute(1, 2, 0) * 255).round().byte().cpu().numpy()
        (found,) = yolo.predict(pixels, **settings)
        rows = [row for row in found.boxes.data.tolist() if int(row[5]) in ids]
        return torch.tensor([[*row[:5], ids[int(row[5])]] for row in rows]).view(-1, 6)

    return Detector(detect, fingerprint(yolo.model), side)


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


def build_restorer(name: str) -> tuple[Callable[[Tensor], Tensor], str]:
    """A restorer and what identifies it: the SHA-256 of its weights, where it has any.

    `name` is one of BASELINES, MODULE:FUNCTION (called without arguments, it returns a callable),
    a built-in profile or a folder with weights. ValueError says why it cannot be built.
    """
    if name in BASELINES:
        return BASELINES[name], "no weights"
    module, _, function = name.partition(":")
    restorer: Any = Restorer.from_pretrained(name) if not function else None
    if restorer is None:
        try:
            restorer = called(module, function)
        except (ImportError, AttributeError, RuntimeError, TypeError) as error:
            raise ValueError(f"cannot build the restorer {name}: {error}") from error
    if not callable(restorer):
        raise ValueError(f"{name} returned {type(restorer).__name__}, expected a callable restorer")
    weights = fingerprint(restorer.eval()) if isinstance(restorer, nn.Module) else "no weights"
    return restorer, weights
