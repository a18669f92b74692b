"""ultralytics' data.yaml, read without ultralytics."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vrdir_plug.cli import main
from vrdir_plug.yolo_labels import read_yolo

YAML = "path: ../elsewhere\ntrain: images/train\nval: images/val\nnames: {0: cat, 3: dog}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three images of 40 x 20 (one turned by its EXIF): a box, a polygon, nothing."""
    for name in ("images/val", "labels/val"):
        (tmp_path / name).mkdir(parents=True)
    for name in ("a.png", "b.png", "c.png"):
        Image.new("RGB", (40, 20)).save(tmp_path / "images/val" / name)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.new("RGB", (20, 40)).save(tmp_path / "images/val/b.png", exif=exif)
    (tmp_path / "labels/val/a.txt").write_text("3 0.5 0.5 0.5 0.2\n\n0 0.25 0.5 0.1 1\n")
    (tmp_path / "labels/val/b.txt").write_text("0 0.1 0.2 0.3 0.2 0.2 0.6\n")
    (tmp_path / "data.yaml").write_text(YAML)
    return tmp_path


def test_boxes_and_polygons_are_pixels_of_the_upright_image(folder: Path) -> None:
    samples, content = read_yolo(folder, folder / "data.yaml")
    assert [sample.name for sample in samples] == [f"images/val/{n}.png" for n in "abc"]
    assert content["categories"] == [{"id": 0, "name": "cat"}, {"id": 3, "name": "dog"}]
    notes = content["annotations"]
    assert [(n["image_id"], n["category_id"]) for n in notes] == [(1, 3), (1, 0), (2, 0)]
    boxes = [note["bbox"] for note in notes]
    np.testing.assert_allclose(boxes, [[10, 8, 20, 4], [8, 0, 4, 20], [4, 4, 8, 8]])


def test_lists_of_names_and_of_files(folder: Path) -> None:
    (folder / "val.txt").write_text("./images/val/b.png\nimages/val/a.png\n")
    (folder / "data.yaml").write_text("val: [val.txt]\nnames: [cat, x, y, dog]\n")
    samples, content = read_yolo(folder, folder / "data.yaml")
    assert [sample.name for sample in samples] == ["images/val/b.png", "images/val/a.png"]
    assert len(content["annotations"]) == 3 and content["categories"][3]["name"] == "dog"


def test_below_the_working_directory(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    assert len(read_yolo(Path("."), Path("data.yaml"))[1]["annotations"]) == 3


@pytest.mark.parametrize(
    ("file", "text", "sentence"),
    [
        ("data.yaml", "names: [", "is not YAML"),
        ("data.yaml", "names: [cat]", "no data.yaml of ultralytics with val and names"),
        ("data.yaml", "val: nowhere\nnames: [cat]", "there is no image in val"),
        ("labels/val/b.txt", "0 0.1 0.2 0.3", "b.txt, line 1: 3 numbers after the class"),
        ("labels/val/b.txt", "\n7 0 0 1 1", "b.txt, line 2: there is no class 7 in names"),
        ("labels/val/b.txt", "cat 0 0 1 1", "b.txt, line 1: could not convert"),
    ],
)
def test_bad_files_are_said(folder: Path, file: str, text: str, sentence: str) -> None:
    (folder / file).write_text(text)
    with pytest.raises(ValueError, match=sentence):
        read_yolo(folder, folder / "data.yaml")


def test_without_any_label_file_it_is_no_dataset(folder: Path) -> None:
    (folder / "labels").rename(folder / "lables")
    with pytest.raises(ValueError, match=r"no image of val has a label file: expected .*a\.txt"):
        read_yolo(folder, folder / "data.yaml")


MODULE = """
import torch

class Dogs(torch.nn.Module):
    pretrained_cfg = {"mean": (0, 0, 0), "std": (1, 1, 1)}

    def forward(self, images):
        box = torch.tensor([[10.0, 8, 30, 12]])
        return [{"boxes": box, "scores": torch.ones(1), "labels": torch.tensor([3])}]
"""


def test_evaluate_takes_it(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "kennel.py").write_text(MODULE)
    (folder / "images/val/c.png").write_bytes(b"cut off")
    (folder / "labels/val/c.txt").write_text("0 0.5 0.5 1 1")
    monkeypatch.chdir(folder)
    monkeypatch.syspath_prepend(str(folder))
    command = ["evaluate", "--images", ".", "--labels", "data.yaml", "--device", "cpu"]
    command += ["--recogniser", "kennel:Dogs", "--restorer", "none", "--corruption", "fog"]
    assert main(command) == 1
    captured = capsys.readouterr()
    assert "left out images/val/c.png" in captured.err
    assert "| clean | 50.0% |" in captured.out  # dogs 100 %, cats 0
