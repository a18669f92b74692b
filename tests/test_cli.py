import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
import torchvision
from PIL import Image, ImageOps
from safetensors.torch import save_file
from torch import nn

from vrdir_plug import Restorer
from vrdir_plug.cli import main

MODULE = """
import torch

class Colours(torch.nn.Module):
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.25, 0.25, 0.25)}

    def forward(self, x):
        assert x.min() >= -2.001 and x.max() <= 2.001
        return x.mean(dim=(2, 3))

class Halving(torch.nn.Module):
    pretrained_cfg = {"mean": (0.5, 0.5, 0.5), "std": (0.5, 0.5, 0.5)}

    def __init__(self):
        super().__init__()
        self.layers = torch.nn.ModuleList(
            torch.nn.Conv2d(3 if n == 0 else 4, 4, 3, 2, 1) for n in range(5)
        )

    def forward(self, x):
        for layer in self.layers:
            x = layer(x)
        return x.mean(dim=(2, 3))

class Moody(Colours):
    # it fails on images of which red is the darkest colour

    def forward(self, x):
        colours = super().forward(x)
        if (colours.argmin(1) == 0).any():
            raise RuntimeError("no")
        return colours

class Unknown(torch.nn.Module):
    pass

class Boxes(torch.nn.Module):
    pretrained_cfg = {"mean": (0, 0, 0), "std": (1, 1, 1)}

    def forward(self, images):
        box = torch.tensor([[2.0, 3, 12, 15]])
        assert len(images) == 1 and images[0].shape == (3, 20, 24)
        return [{"boxes": box, "scores": torch.ones(1), "labels": torch.tensor([3])}]

def text():
    return "not a network"

def inverter():
    return lambda images: 1 - images

def interrupting():
    import pathlib
    mark, calls = pathlib.Path("interrupted"), []

    def restore(images):
        calls.append(images)
        if len(calls) == 3 and not mark.exists():
            mark.touch()
            raise KeyboardInterrupt
        return images

    return restore
"""
COLOURS = ("--recogniser", "home_made:Colours")


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Four small images, red or green, with labels.csv; home_made.py; the working directory."""
    rows = ["path,split,label"]
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 120, (20, 24, 3), dtype=np.uint8)
        pixels[..., index % 2] += 100
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
        rows.append(f"{index}.png,dev,{index % 2}")
    (tmp_path / "labels.csv").write_text("\n".join(rows))
    (tmp_path / "home_made.py").write_text(MODULE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.delitem(sys.modules, "home_made", raising=False)
    return tmp_path


def evaluate(*options: str, labels: str = "labels.csv") -> int:
    return main(["evaluate", "--images", ".", "--labels", labels, "--size", "16", *options])


def only_sentence(capsys: pytest.CaptureFixture[str]) -> str:
    captured = capsys.readouterr()
    assert captured.out == "" and "Traceback" not in captured.err
    assert captured.err.startswith("vrdir: ")
    return captured.err


def test_evaluate_compares_with_and_without_the_restorer(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    Restorer("fast").save_pretrained(folder / "untrained")
    options = ("--recogniser", "home_made:Colours", "--restorer", "untrained", "--split", "dev")
    assert evaluate(*options, "--severity", "2", "--json", "first.json") == 0
    table = capsys.readouterr().out
    assert "| clean | 100.0% | 100.0% | +0.0 [+0.0, +0.0] | no significant change (p 1) |" in table
    assert "| jpeg_compression 2 |" in table and "| mean over corruptions |" in table
    assert "recogniser home_made:Colours" in table and "restorer untrained sha256" in table
    content = json.loads((folder / "first.json").read_text())
    assert len(content["cells"]) == 2 * 26
    assert len(content["pipeline"]["restorer untrained sha256"]) == 64
    assert not (folder / "first.state").exists()
    assert evaluate(*options, "--severity", "2", "--batch-size", "3", "--json", "again.json") == 0
    assert (folder / "first.json").read_bytes() == (folder / "again.json").read_bytes()


def test_evaluate_without_a_restorer(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate(*COLOURS, "--restorer", "none") == 0
    assert "| corruption | none top-1 |\n" in capsys.readouterr().out


def test_evaluate_several_restorers_on_chosen_corruptions(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--restorer", "unsharp", "--restorer", "home_made:inverter", "--corruption", "fog"]
    options += ["--severity", "1", "--severity", "4", "--fidelity", "--csv", "table.csv"]
    options += ["--html", "page.html"]
    assert evaluate(*COLOURS, *options) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "| unsharp top-1 |" in lines[0] and "| home_made:inverter top-1 |" in lines[0]
    assert [line.split(" | ")[0] for line in lines[2:7]] == [
        "| clean",
        "| fog 1",
        "| fog 4",
        "| mean over seen",
        "| mean over corruptions",
    ]
    assert "none PSNR" in lines[8] and "none SSIM" in lines[16]
    page = (folder / "page.html").read_text()
    assert "against PSNR" in page and "recogniser, ms" in page
    assert "What home_made:inverter spoils" in page and "data:image/jpeg" in page
    assert len((folder / "table.csv").read_text().splitlines()) == 1 + 3 * 3 * 5


def test_a_page_is_made_where_the_model_fails_on_some_images(folder: Path) -> None:
    for index in range(4):
        (folder / f"{index}.png").rename(folder / f"photo ({index}).png")
    options = ["evaluate", "--images", ".", "--size", "16", "--recogniser", "home_made:Moody"]
    options += ["--corruption", "fog", "--restorer", "unsharp", "--html", "page.html"]
    Image.new("RGB", (20, 20), (10, 90, 20)).save(folder / "a (1).png")
    assert main(options) == 1
    page = (folder / "page.html").read_text()
    assert "a (1).png (clean, none): RuntimeError: no" in page and "recogniser, ms" in page


def test_evaluate_without_labels_measures_agreement(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ("--images", ".", "--size", "16", *COLOURS, "--restorer", "home_made:inverter")
    assert main(["evaluate", *options, "--corruption", "brightness"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("| corruption | none agreement | home_made:inverter agreement |")
    assert lines[2].startswith("| clean | 100.0% | 0.0% |")


def test_evaluate_really_degraded_photographs(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("clean", "night"):
        (folder / name).mkdir()
        for file in folder.glob("*.png"):
            image = Image.open(file)
            (image if name == "clean" else ImageOps.invert(image)).save(folder / name / file.name)
    options = ["evaluate", "--images", "clean", "--degraded", "night", "--size", "16", *COLOURS]
    options += ["--restorer", "home_made:inverter", "--html", "page.html"]
    assert main([*options, "--json", "run.json"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[3].startswith("| night | 0.0% | 100.0% |") and lines[4] == ""
    assert "home_made:inverter" in (folder / "page.html").read_text()
    cells = json.loads((folder / "run.json").read_text())["cells"]
    assert [(cell["corruption"], cell["severity"]) for cell in cells[::2]] == [
        ("clean", 0),
        ("night", 0),
    ]
    assert main([*options, "--corruption", "fog", "--severity", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[4].startswith("| fog 1 |")


def test_evaluate_class_folders(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index, name in enumerate(("red", "green", "red", "green")):
        (folder / "root" / name).mkdir(parents=True, exist_ok=True)
        (folder / f"{index}.png").rename(folder / "root" / name / f"{index}.png")
    options = ("--images", "root", "--labels", "folders", "--size", "16", *COLOURS)
    assert main(["evaluate", *options, "--restorer", "none", "--corruption", "fog"]) == 0
    assert "| clean | 0.0% |" in capsys.readouterr().out  # green comes first in the alphabet


def test_evaluate_reidentification(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name in ("query", "gallery"):
        (folder / name).mkdir()
    for index, name in enumerate(("query/1_c1", "query/2_c1", "gallery/1_c2", "gallery/2_c2")):
        (folder / f"{index}.png").rename(folder / f"{name}.png")
    options = ("--images", "query", "--gallery", "gallery", *COLOURS, "--restorer", "none")
    assert main(["evaluate", *options, "--corruption", "fog"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:3:2] == ["| corruption | none rank-1 |", "| clean | 100.0% |"]
    assert lines[7] == "| corruption | none mAP |"


def test_evaluate_detection(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = {
        "images": [{"id": n, "file_name": f"{n}.png"} for n in range(5)],
        "annotations": [
            {"image_id": n, "category_id": 3, "bbox": [2, 3, 10, 12]} for n in range(4)
        ],
        "categories": [{"id": 3, "name": "box"}],
    }
    (folder / "boxes.json").write_text(json.dumps(content))
    options = ("--images", ".", "--labels", "boxes.json", "--recogniser", "home_made:Boxes")
    assert main(["evaluate", *options, "--restorer", "none", "--corruption", "fog"]) == 1
    captured = capsys.readouterr()
    assert "| clean | 100.0% |" in captured.out and "left out 4.png" in captured.err


@pytest.mark.parametrize(
    ("library", "remedy"), [("ultralytics", r"AGPL-3.0"), (None, "there is no file absent.pt")]
)
def test_yolo_files_that_cannot_be_used(
    folder: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    library: str | None,
    remedy: str,
) -> None:
    if library:
        (folder / "absent.pt").touch()
        monkeypatch.setitem(sys.modules, library, None)
    (folder / "boxes.json").write_text(
        '{"images": [{"id": 1, "file_name": "0.png"}], "categories": [], '
        '"annotations": [{"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}]}'
    )
    options = ("--images", ".", "--labels", "boxes.json", "--recogniser", "absent.pt")
    assert main(["evaluate", *options]) == 2
    assert remedy in only_sentence(capsys)


def test_the_size_reaches_what_it_is_for(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("query", "gallery"):
        (folder / name).mkdir()
    for index, name in enumerate(("query/1_c1", "gallery/1_c2")):
        (folder / f"{index}.png").rename(folder / f"{name}.png")
    options = ["evaluate", "--images", "query", *COLOURS, "--restorer", "none"]
    options += ["--corruption", "fog", "--device", "cpu"]
    for size, shown in (("32x16", "32 x 16"), ("24", "24 x 24")):
        assert main([*options, "--gallery", "gallery", "--size", size]) == 0
        assert f"; size {shown}; " in capsys.readouterr().out
    assert main([*options, "--size", "32x16"]) == 2
    assert "HEIGHTxWIDTH is for re-identification" in only_sentence(capsys)


def test_a_device_that_is_not_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if torch.cuda.is_available():
        pytest.skip("there is a GPU")
    assert evaluate(*COLOURS, "--device", "cuda") == 2
    assert "there is no device 'cuda' here" in only_sentence(capsys)


def test_a_gallery_with_a_truncated_image_is_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("query", "gallery"):
        (folder / name).mkdir()
    for index, name in enumerate(("query/1_c1", "gallery/1_c2")):
        (folder / f"{index}.png").rename(folder / f"{name}.png")
    broken = folder / "gallery/1_c2.png"
    broken.write_bytes(broken.read_bytes()[:200])
    options = ["--images", "query", "--gallery", "gallery", *COLOURS, "--restorer", "none"]
    assert main(["evaluate", *options]) == 2
    assert "the gallery's 1_c2.png cannot be read: " in only_sentence(capsys)


def test_ctrl_c_in_any_command_is_130(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("vrdir_plug.cli_gate.read_unlabelled", interrupted)
    assert main(["gate", "--images", ".", *COLOURS, "--out", "gated"]) == 130
    assert only_sentence(capsys) == "vrdir: interrupted\n"
    assert not (folder / "gated").exists()


def test_an_interrupted_run_goes_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options = (*COLOURS, "--corruption", "fog", "--corruption", "snow", "--json", "run.json")
    assert evaluate(*options, "--restorer", "home_made:interrupting") == 130
    assert "interrupted; finished conditions are kept" in capsys.readouterr().err
    assert len((folder / "run.state").read_text().splitlines()) == 2
    assert evaluate(*options, "--restorer", "none") == 2
    assert "run.state is of an interrupted run" in capsys.readouterr().err
    assert evaluate(*options, "--restorer", "home_made:interrupting") == 0
    assert len(json.loads((folder / "run.json").read_text())["cells"]) == 6
    assert not (folder / "run.state").exists()


@pytest.mark.parametrize(
    ("recogniser", "network"),
    [
        ("timm:test_efficientnet", lambda: timm.create_model("test_efficientnet")),
        ("torchvision:squeezenet1_1", lambda: torchvision.models.squeezenet1_1()),
    ],
)
def test_recognisers_by_name_with_weights_from_a_file(
    folder: Path, capsys: pytest.CaptureFixture[str], recogniser: str, network: type[nn.Module]
) -> None:
    save_file(network().state_dict(), folder / "weights.safetensors")
    options = ("--recogniser", recogniser, "--restorer", "none", "--size", "32")
    assert evaluate(*options, "--recogniser-weights", "weights.safetensors") == 0
    assert f"recogniser {recogniser}; recogniser sha256" in capsys.readouterr().out


def test_unreadable_images_are_named(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "2.png").write_text("not an image")
    assert evaluate(*COLOURS, "--restorer", "none") == 1
    captured = capsys.readouterr()
    assert "vrdir: left out 2.png: " in captured.err
    assert "3 images; 1 images could not be read and are left out" in captured.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--recogniser", "home_made"], "'home_made' is not timm:NAME, torchvision:NAME, torch"),
        (["--recogniser", "home_made:absent"], "cannot build home_made:absent: module"),
        (["--recogniser", "home_made:text"], "came str, expected a torch.nn.Module"),
        (["--recogniser", "home_made:Unknown"], "Unknown does not tell how it expects its pixels"),
        (["--recogniser", "not_there:Net"], "needs the module 'not_there': install it"),
        (["--recogniser", "timm:no_such_net"], "cannot build timm:no_such_net: Unknown model"),
        (["--recogniser", "torchvision:no_such_net"], "Unknown model no_such_net"),
        (["--recogniser", "home_made:Colours", "--restorer", "absent"], "no weights 'absent'"),
        (
            [*COLOURS, "--restorer", "home_made:absent"],
            "cannot build the restorer home_made:absent",
        ),
        ([*COLOURS, "--restorer", "home_made:text"], "returned str, expected a callable restorer"),
        (["--recogniser", "home_made:Colours", "--split", "x"], "no split 'x'"),
        ([*COLOURS, "--labels", "folders", "--split", "x"], "--split needs --labels with a CSV"),
        ([*COLOURS, "--images", "absent"], "there is no folder absent"),
        ([*COLOURS, "--degraded", "absent"], "there is no folder absent"),
        ([*COLOURS, "--degraded", ".", "--degraded", "."], "two conditions have the name"),
        (["--recogniser", "home_made:Colours", "--json", "no/where.json"], "no folder no"),
        ([*COLOURS, "--html", "."], ". is a folder, expected a file"),
        ([*COLOURS, "--labels", "x.json", "--split", "x"], "are not for detection"),
    ],
)
def test_bad_input_is_one_sentence_and_exit_code_2(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert evaluate(*options) == 2
    assert sentence in only_sentence(capsys)


def test_missing_labels_file(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert evaluate("--recogniser", "home_made:Colours", labels="absent.csv") == 2
    assert "absent.csv" in only_sentence(capsys)


def test_missing_timm(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "timm", None)
    assert evaluate("--recogniser", "timm:resnet18") == 2
    assert "timm:resnet18 needs the module 'timm': install it" in only_sentence(capsys)


@pytest.mark.parametrize("content", [b"not safetensors", None], ids=["broken", "other network"])
def test_wrong_recogniser_weights(
    folder: Path, capsys: pytest.CaptureFixture[str], content: bytes | None
) -> None:
    file = folder / "weights.safetensors"
    save_file({"other": torch.zeros(2)}, file)
    if content:
        file.write_bytes(content)
    options = ("--recogniser", "timm:test_efficientnet", "--recogniser-weights", file.name)
    assert evaluate(*options) == 2
    reason = "is not a whole weights file" if content else "does not fit the recogniser"
    assert f"{file.name} {reason}" in only_sentence(capsys)


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["unknown"],
        ["evaluate"],
        ["evaluate", "--images", ".", "--labels", "x", "--recogniser", "x", "--severity", "6"],
        ["evaluate", "--images", ".", "--labels", "x", "--recogniser", "x", "--size", "0"],
        ["evaluate", "--images", ".", "--labels", "x", "--recogniser", "x", "--size", "1x2x3"],
        ["train", "--images", ".", "--teacher", "x", "--out", "x", "--rate", "0"],
    ],
)
def test_wrong_usage_exits_with_2(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as exit_:
        main(argv)
    assert exit_.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_train_makes_weights_that_evaluate_takes(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    save_file(
        {name: t for name, t in teacher_of(folder).state_dict().items()}, folder / "t.safetensors"
    )
    command = ["train", "--images", ".", "--out", "run", "--steps", "4", "--batch-size", "2"]
    command += ["--teacher", "home_made:Halving=t.safetensors", "--teacher", "home_made:Halving"]
    assert main(command) == 0
    assert "the weights are in run/weights" in capsys.readouterr().out
    assert evaluate("--recogniser", "home_made:Colours", "--restorer", "run/weights") == 0


def teacher_of(folder: Path) -> nn.Module:
    sys.path.insert(0, str(folder))
    return importlib.import_module("home_made").Halving()


@pytest.mark.parametrize(
    ("options", "sentence"),
    (
        (["--teacher", "home_made:Colours"], "convolutional classifier"),
        (["--teacher", "home_made:Unknown"], "pretrained_cfg"),
        (["--teacher", "home_made:Halving=missing.safetensors"], "missing.safetensors"),
        (["--teacher", "home_made:Halving=empty.pth"], "not a whole weights file"),
        (["--teacher", "home_made:Halving=list.pth"], "does not fit"),
        (["--teacher", "home_made:Halving", "--profile", "slow"], "fast, strong, paper"),
        (["--teacher", "home_made:Halving", "--start", "nothing"], "no weights 'nothing'"),
        (["--teacher", "home_made:Halving", "--images", "empty"], "no readable image in empty"),
    ),
)
def test_train_says_what_is_wrong(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    (folder / "empty").mkdir()
    (folder / "empty.pth").touch()
    torch.save([1, 2], folder / "list.pth")
    assert main(["train", "--images", ".", "--out", "run", *options]) == 2
    assert sentence in only_sentence(capsys)


def test_the_module_runs_as_the_command_does() -> None:
    """Where nothing is installed, as on a machine with a GPU that was only lent."""
    command = [sys.executable, "-m", "vrdir_plug.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "evaluate" in done.stdout
