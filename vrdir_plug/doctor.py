"""What is installed and found where, and whether the embedded weights give the recorded numbers."""

import os
import platform
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from . import __version__, selftest, weights

NEEDED = ("torch", "numpy", "pillow", "safetensors", "huggingface_hub")
OPTIONAL = ("torchvision", "timm", "onnx", "onnxscript", "onnxruntime", "ultralytics")
# other processors and cuDNN's TF32 round otherwise; 8-bit pixels are 4e-3 apart
TOLERANCE = 2e-3


def examine() -> Iterator[tuple[str, str, bool]]:
    """What was looked at, what was found, and whether that is well; the costly checks last."""
    yield "vrdir-plug", f"{__version__} in {Path(__file__).parent}", True
    yield "python", f"{platform.python_version()} on {platform.platform()}", True
    for name in NEEDED:
        found = installed(name)
        yield name, found or "missing: pip install vrdir-plug", found is not None
    yield "optional", ", ".join(f"{name} {installed(name) or '-'}" for name in OPTIONAL), True
    yield "hub cache", hub_cache(), True
    for device in devices():
        yield "device", in_words(device), True
    yield from (
        check_set(name, device) for name in sorted(weights.embedded()) for device in devices()
    )
    if not weights.embedded():
        yield "weights", "no embedded set: install vrdir-plug again", False


def installed(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def hub_cache() -> str:
    from huggingface_hub import constants

    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return f"{constants.HF_HUB_CACHE}, of {constants.ENDPOINT}{offline}"


def devices() -> list[torch.device]:
    gpus = [torch.device("cuda", index) for index in range(torch.cuda.device_count())]
    apple = [torch.device("mps")] if torch.backends.mps.is_available() else []
    return [torch.device("cpu"), *gpus, *apple]


def in_words(device: torch.device) -> str:
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{device}: {facts.name}, {facts.total_memory / 1e9:.0f} GB"
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    return f"{device}{threads}"


def check_set(name: str, device: torch.device) -> tuple[str, str, bool]:
    """An embedded set on a device against the numbers that were recorded of it."""
    what = f"weights {name}"
    try:
        off = selftest.deviation(name, device)
    except (OSError, ValueError, RuntimeError, KeyError) as error:
        return what, f"on {device}: {error}", False
    if not off <= TOLERANCE:
        return what, f"on {device}: off by {off:.1e}, expected at most {TOLERANCE:.0e}", False
    return what, f"on {device}: as recorded, within {off:.0e}, in {weights.embedded()[name]}", True
