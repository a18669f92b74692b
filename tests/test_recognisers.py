import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn
from torchvision import models

from vrdir_plug.pixels import IMAGENET
from vrdir_plug.recognisers import build_detector, build_recogniser

CPU = torch.device("cpu")


class Yolo:
    """As ultralytics' YOLO: classes by number; arrays in BGR, 8 bits; boxes with scores."""

    overrides: dict[str, Any] = {"imgsz": 96}  # noqa: RUF012
    names: dict[int, str] = {0: "person", 1: "griffin", 2: "bicycle"}  # noqa: RUF012

    def __init__(self, file: str):
        self.model = nn.Linear(1, 1)

    def predict(self, image: np.ndarray, conf: float, imgsz: int, **settings: Any) -> list[Any]:
        assert image.dtype == np.uint8 and image.shape == (4, 5, 3)
        assert conf == 0.001 and imgsz == 64 and settings == {"verbose": False, "device": CPU}
        blue, green, red = (float(value) for value in image[0, 0])
        rows = [[blue, green, red, 4, 0.9, 2], [0, 0, 1, 1, 0.8, 1], [0, 1, 2, 3, 0.7, 0]]
        return [SimpleNamespace(boxes=SimpleNamespace(data=torch.tensor(rows)))]


@pytest.fixture
def yolo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "ultralytics", SimpleNamespace(YOLO=Yolo))
    file = tmp_path / "yolo.pt"
    file.touch()
    return str(file)


def test_yolo_sees_bgr_and_answers_in_the_categories_of_the_labels(yolo: str) -> None:
    detect, _, size = build_detector(yolo, None, {"person": 1, "bicycle": 7, "unicorn": 9}, CPU, 64)
    image = torch.tensor([10, 20, 30]).view(1, 3, 1, 1).expand(1, 3, 4, 5) / 255
    expected = torch.tensor([[30, 20, 10, 4, 0.9, 7], [0, 1, 2, 3, 0.7, 1]])
    torch.testing.assert_close(detect(image), expected)
    assert size == 64 and build_detector(yolo, None, {"person": 1}, CPU).size == 96


def test_yolo_without_a_common_category_is_refused(yolo: str) -> None:
    with pytest.raises(ValueError, match=r"none of the classes of .* is a category of the labels"):
        build_detector(yolo, None, {"unicorn": 9}, CPU)
    with pytest.raises(ValueError, match=r"--size is 500; a YOLO takes multiples of 32"):
        build_detector(yolo, None, {"person": 9}, CPU, 500)


def test_torchvision_detectors_take_one_image_at_its_size(tmp_path: Path) -> None:
    name = "ssdlite320_mobilenet_v3_large"
    network = models.get_model(name, weights=None, weights_backbone=None)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    detect, sha256, size = build_detector(f"torchvision:{name}", tmp_path / "weights.pth", {}, CPU)
    with torch.inference_mode():
        boxes = detect(torch.rand(1, 3, 40, 60, generator=torch.Generator().manual_seed(0)))
    assert boxes.ndim == 2 and boxes.shape[1] == 6 and len(sha256) == 64 and size is None


@pytest.mark.filterwarnings("ignore")
def test_torchreid_networks_embed(tmp_path: Path) -> None:
    reid = pytest.importorskip("torchreid.reid.models", reason="torchreid is not installed")
    network = reid.build_model("osnet_x0_25", num_classes=1, pretrained=False)
    del network.classifier  # published weights come without
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    model, pixels = build_recogniser("torchreid:osnet_x0_25", tmp_path / "weights.pth")
    assert pixels == IMAGENET and not model.training
    with torch.inference_mode():
        assert model(torch.rand(2, 3, 64, 32)).shape == (2, 512)
