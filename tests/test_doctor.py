"""The doctor finds what is wrong, and its numbers are those of the weights."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from vrdir_plug import Restorer, doctor, selftest, weights
from vrdir_plug.cli import main


def test_all_is_well(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert all(line.startswith("  ") for line in lines)
    assert any("torch" in line and torch.__version__ in line for line in lines)
    assert any("weights fast" in line and "on cpu: as recorded" in line for line in lines)


def test_a_damaged_set_and_a_missing_package_are_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    Restorer.from_pretrained("fast").save_pretrained(tmp_path / "fast")
    monkeypatch.setattr(weights, "EMBEDDED", (tmp_path,))
    monkeypatch.setattr(doctor, "NEEDED", ("torch", "no-such-package"))
    assert main(["doctor"]) == 1
    marked = [line for line in capsys.readouterr().out.splitlines() if line.startswith("!")]
    assert len(marked) == 2
    assert "no-such-package" in marked[0] and "not the set that was recorded" in marked[1]


def test_no_set_at_all_is_marked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(weights, "EMBEDDED", (tmp_path,))
    assert main(["doctor"]) == 1
    assert "no embedded set" in capsys.readouterr().out


def test_a_machine_that_computes_wrongly_is_marked(monkeypatch: pytest.MonkeyPatch) -> None:
    """The files are right and the numbers are not: as a broken BLAS or driver has it."""
    honest = selftest.restored
    monkeypatch.setattr(selftest, "restored", lambda *args: honest(*args) + 0.01)
    what, found, well = doctor.check_set("fast", torch.device("cpu"))
    assert (what, well) == ("weights fast", False) and "off by 1.0e-02" in found


def test_other_weights_give_other_numbers(tmp_path: Path) -> None:
    """A self-test that any network passes would be worth nothing."""
    folder = weights.embedded()["fast"]
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / weights.MODEL).items()}
    for tensor in tensors.values():
        tensor *= 0.9
    (tmp_path / weights.CONFIG).write_bytes((folder / weights.CONFIG).read_bytes())
    header = {"config": (folder / weights.CONFIG).read_text()}
    save_file(tensors, tmp_path / weights.MODEL, metadata=header)
    numbers = torch.tensor(selftest.numbers(Restorer.from_pretrained(tmp_path)))
    recorded = torch.tensor(weights.golden()["fast"]["numbers"])
    assert (numbers - recorded).abs().max() > doctor.TOLERANCE
