"""The threshold of a restorer, from a user's own clean images, and the bound that goes with it."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from vrdir_plug import UNIT, Restorer, RestorerConfig, RestoreThen
from vrdir_plug.classification import load_image
from vrdir_plug.cli import main
from vrdir_plug.gating import at_most, calibrate, smallest


def test_no_change_of_a_thousand_is_at_most_three_tenths_of_a_percent() -> None:
    assert at_most(0, 1000) == pytest.approx(1 - 0.05 ** (1 / 1000))
    assert f"{100 * at_most(0, 1000):.2f}" == "0.30"
    assert at_most(5, 5) == 1


@pytest.mark.parametrize(("changed", "images"), [(1, 10), (3, 200), (199, 200)])
def test_the_bound_is_the_share_at_which_so_few_changes_are_improbable(
    changed: int, images: int
) -> None:
    p = at_most(changed, images)
    so_few = sum(math.comb(images, k) * p**k * (1 - p) ** (images - k) for k in range(changed + 1))
    assert so_few == pytest.approx(0.05)


def test_the_bound_holds_in_all_but_a_twentieth_of_draws() -> None:
    """With a threshold chosen on other images: that is what the halves are for."""
    rng, rate, missed = np.random.default_rng(0), 0.06, 0
    for draw in range(400):
        scores, changed = rng.random(200), rng.random(200) < rate
        gate = calibrate(scores, changed, 0.02, seed=draw)
        missed += gate.bound < rate * (1 - gate.threshold)  # scores are uniform
    assert missed <= 0.05 * 400 + 2.5 * math.sqrt(400 * 0.05 * 0.95)


@pytest.mark.parametrize("most_changed", [0, 0.03, 0.1, 0.99])
def test_the_threshold_is_the_smallest_that_keeps_the_share(most_changed: float) -> None:
    rng = np.random.default_rng(1)
    scores = rng.random(100).astype(np.float32).astype(np.float64)
    changed = rng.random(100) < 0.3

    def left(threshold: float) -> float:
        return float((changed & (scores >= threshold)).mean())

    threshold = smallest(scores, changed, most_changed)
    assert left(threshold) <= most_changed
    assert threshold == 0 or left(threshold - 2e-4) > most_changed or most_changed == 0.99


def test_changes_that_no_threshold_bypasses_are_said() -> None:
    with pytest.raises(ValueError, match=r"on 4 of 4 clean images .* score of 1"):
        smallest(np.ones(4), np.ones(4, dtype=bool), 0.5)
    with pytest.raises(ValueError, match=r"1 image cannot be split"):
        calibrate(np.ones(1), np.ones(1, dtype=bool), 0.5)


def test_halves_are_disjoint_whole_and_seeded() -> None:
    rng = np.random.default_rng(2)
    scores, changed = rng.random(31), rng.random(31) < 0.5
    gates = [calibrate(scores, changed, 0.1, seed) for seed in (0, 0, 1)]
    assert gates[0] == gates[1] != gates[2]
    assert gates[0].chosen_on + gates[0].images == 31


# --- the command -------------------------------------------------------------------------------

MODULE = """
import torch

class Colours(torch.nn.Module):
    pretrained_cfg = {"mean": (0, 0, 0), "std": (1, 1, 1)}

    def forward(self, x):
        return x.mean(dim=(2, 3))

class Halves(Colours):
    def forward(self, x):
        return x
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """24 images of close colours in `clean`; weights in `shaken` that change some answers."""
    (tmp_path / "clean").mkdir()
    for index in range(24):
        rng = np.random.default_rng(index)
        centre = rng.normal(128, 4, 3)
        pixels = rng.normal(centre, 3 * index, (20, 24, 3))
        image = Image.fromarray(pixels.clip(0, 255).astype(np.uint8))
        image.save(tmp_path / "clean" / f"{index}.png")
    (tmp_path / "painter.py").write_text(MODULE)
    torch.manual_seed(2)
    restorer = Restorer(RestorerConfig("shaken", 48, ((40, 64, 88),)))
    with torch.no_grad():
        for name, parameter in restorer.named_parameters():
            if name.startswith(("ise.fgm", "pixel_dnc")):
                parameter.add_(0.05 * torch.randn_like(parameter))
    restorer.save_pretrained(tmp_path / "shaken")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def gate(*options: str) -> int:
    command = ["gate", "--images", "clean", "--recogniser", "painter:Colours", "--size", "16"]
    command += ["--restorer", "shaken", "--out", "out", "--corruption", "fog"]
    return main([*command, "--device", "cpu", *options])


@torch.inference_mode()
def test_the_folder_written_does_what_was_said(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate("--most-changed", "0.1") == 0
    said = json.loads((folder / "out" / "gate.json").read_text())
    assert said["changed_ungated"] > 0 and 0 < said["bypassed"] < said["images"] == 12
    restorer = Restorer.from_pretrained("out")
    assert restorer.config.bypass == said["threshold"]

    # the certifying half, through the pair that a user will have
    files = sorted((folder / "clean").iterdir())
    half = np.array_split(np.random.default_rng(0).permutation(24), 2)[1]
    images = torch.stack([load_image(files[index], 16) for index in half])
    pair = RestoreThen(lambda x: x.mean(dim=(2, 3)), restorer, pixels=UNIT)
    before, after = images.mean(dim=(2, 3)).argmax(1), pair(images).argmax(1)
    assert said["changed"] == int((before != after).sum())
    untouched = (restorer(images) == images).flatten(1).all(1)
    assert said["bypassed"] == int(untouched.sum())

    out = capsys.readouterr().out
    assert f"falls by at most {100 * said['bound']:.2f} points" in out
    assert "  fog  " in out and "RestoreThen(model, restorer=" in out


def test_a_threshold_that_was_there_is_calibrated_anew(folder: Path) -> None:
    assert gate("--most-changed", "0.1") == 0
    first = (folder / "out" / "gate.json").read_bytes()
    assert gate("--most-changed", "0.1", "--restorer", "out") == 0
    assert (folder / "out" / "gate.json").read_bytes() == first


def test_images_that_cannot_be_read_are_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = folder / "clean" / "3.png"
    file.write_bytes(file.read_bytes()[:200])
    assert gate() == 1
    captured = capsys.readouterr()
    assert "vrdir: left out 3.png: " in captured.err and "12 clean images chose" in captured.out


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--recogniser", "torchreid:osnet_x0_25"], "is no classifier"),
        (["--recogniser", "yolo.pt"], "is no classifier"),
        (["--recogniser", "painter:Halves"], "not logits (N, classes)"),
        (["--images", "absent"], "there is no image in absent"),
        (["--out", "painter.py"], "painter.py is a file"),
        (["--restorer", "absent"], "no weights 'absent'"),
        (["--restorer", "published"], "no score to calibrate"),
        (["--device", "none"], "there is no device 'none'"),
    ],
)
def test_bad_input_is_one_sentence(
    folder: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    if "published" in options:
        Restorer("paper").save_pretrained("published")
    assert gate(*options) == 2
    captured = capsys.readouterr()
    assert sentence in captured.err and captured.err.startswith("vrdir: ")
    assert not (folder / "out").exists()
