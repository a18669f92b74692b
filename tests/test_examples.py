"""The examples do what they say, on small models of initial weights."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
import torchvision.models as tv
from cases import feature_extractor, hugging_face_pipeline, torchvision_detector
from onnx import TensorProto, helper
from PIL import Image
from test_ultralytics import video, yolo

from vrdir_plug import Restorer

EXAMPLES = Path(__file__).parents[1] / "examples"
NAMES = sorted(path.stem for path in EXAMPLES.glob("*.py") if path.stem != "demo")


def example(name: str) -> Any:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(autouse=True)
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, ...]]:
    """Shapes that the embedded restorer was given."""
    shapes: list[tuple[int, ...]] = []
    forward = Restorer.forward

    def counted(self: Restorer, images: torch.Tensor) -> torch.Tensor:
        shapes.append(tuple(images.shape))
        return forward(self, images)

    monkeypatch.setattr(Restorer, "forward", counted)
    return shapes


@pytest.fixture
def photos(tmp_path: Path) -> list[str]:
    files = []
    for i, size in enumerate([(48, 64, 3), (64, 64, 3)]):
        pixels = np.random.default_rng(i).integers(0, 256, size, dtype=np.uint8)
        files.append(str(tmp_path / f"{i}.png"))
        Image.fromarray(pixels).save(files[-1])
    return files


Calls = list[tuple[int, ...]]


@pytest.mark.parametrize("name", NAMES)
def test_examples_are_short(name: str) -> None:
    text = (EXAMPLES / f"{name}.py").read_text(encoding="utf-8")
    assert len(text.splitlines()) <= 40
    assert f"python examples/{name}.py" in text


def test_every_example_has_a_test() -> None:
    assert all(f"test_{name}" in globals() for name in NAMES)


def test_classify(photos: list[str], calls: Calls) -> None:
    weights = tv.MobileNet_V3_Small_Weights.DEFAULT
    names = example("classify").main(photos, tv.mobilenet_v3_small(), weights)
    assert len(names) == 2 and set(names) <= set(weights.meta["categories"])
    assert calls == [(2, 3, 224, 224)]


def test_detect(photos: list[str], calls: Calls) -> None:
    found = example("detect").main(photos, torchvision_detector())
    assert all({"boxes", "labels", "scores"} <= objects.keys() for objects in found)
    assert calls == [(1, 3, 48, 64), (1, 3, 64, 64)]


def test_track(tmp_path: Path, calls: Calls) -> None:
    assert len(example("track").main(yolo(), str(video(tmp_path / "film.avi")))) == 4
    assert calls == [(1, 3, 48, 64)] * 4


def test_video(tmp_path: Path, calls: Calls) -> None:
    frames = list(example("video").main(yolo(), str(video(tmp_path / "film.avi"))))
    assert [frame.shape for frame in frames] == [(48, 64, 3)] * 4
    assert calls == [(1, 3, 48, 64)] * 4


def test_reidentify(photos: list[str], calls: Calls) -> None:
    (best, photo), (second, _) = example("reidentify").main(feature_extractor(), photos[0], photos)
    assert photo == photos[0] and best == pytest.approx(1, abs=1e-4) and best >= second
    assert calls == [(1, 3, 256, 128), (2, 3, 256, 128)]


def test_pipeline(photos: list[str], calls: Calls) -> None:
    labels = example("pipeline").main(hugging_face_pipeline(), photos)
    assert len(labels) == 2 and all(label.startswith("LABEL_") for label in labels)
    assert calls == [(1, 3, 64, 64)] * 2


def test_own_restorer(photos: list[str], calls: Calls) -> None:
    module = example("own_restorer")
    assert len(module.main(photos, tv.mobilenet_v3_small())) == 2
    assert not calls
    stretched = module.stretch(torch.tensor([0.2, 0.3, 0.4]).reshape(1, 3, 1, 1))
    torch.testing.assert_close(stretched.flatten(), torch.tensor([0.0, 0.5, 1.0]))


def test_onnx_session(tmp_path: Path, calls: Calls) -> None:
    pixels = helper.make_tensor_value_info("pixels", TensorProto.FLOAT, ["n", 3, "h", "w"])
    means = helper.make_tensor_value_info("means", TensorProto.FLOAT, ["n", 3, 1, 1])
    node = helper.make_node("GlobalAveragePool", ["pixels"], ["means"])
    graph = helper.make_graph([node], "means", [pixels], [means])
    model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
    onnx.save(model, tmp_path / "means.onnx")
    images = torch.randn(2, 3, 32, 48, generator=torch.Generator().manual_seed(0)) / 2
    result = example("onnx_session").main(str(tmp_path / "means.onnx"), images)
    assert result.shape == (2, 3, 1, 1) and calls == [(2, 3, 32, 48)]
