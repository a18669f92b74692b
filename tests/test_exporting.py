"""Exported graphs give what torch gives, at sizes they were not traced with, or are not left."""

import sys
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import onnx
import onnxruntime
import pytest
import torch
from torch import Tensor, nn

from vrdir_plug import IMAGENET, Restorer, RestorerConfig, RestoreThen, exporting
from vrdir_plug.cli import main
from vrdir_plug.exporting import export

# neither traced nor compared while exporting: a batch of 1, odd and small sizes
SHAPES = ((1, 3, 33, 47), (5, 3, 64, 50), (2, 3, 224, 224))


def network(channels: int) -> nn.Sequential:
    """A small recogniser of any size."""
    torch.manual_seed(0)
    layers = [nn.Conv2d(3, channels, 3, 2), nn.BatchNorm2d(channels), nn.ReLU()]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(channels, 4)]
    return nn.Sequential(*layers, *head).eval()


def restorer() -> Restorer:
    """Small, and away from the identity at which it starts."""
    torch.manual_seed(0)
    made = Restorer(RestorerConfig("small", 8, ((8,),))).eval()
    with torch.no_grad():
        for parameter in made.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.05)
    return made


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("export") / "pair.onnx"
    assert export(restorer(), path, network(8), IMAGENET) <= 1e-4
    return path


def test_one_onnx_graph_of_the_pair(pair: Path) -> None:
    """Against RestoreThen, which takes the recogniser's own pixels."""
    assert [path.name for path in pair.parent.iterdir()] == ["pair.onnx"]
    onnx.checker.check_model(onnx.load(pair), full_check=True)
    session = onnxruntime.InferenceSession(pair, providers=["CPUExecutionProvider"])
    both = RestoreThen(network(8), restorer(), pixels=IMAGENET)
    for shape in SHAPES:
        images = torch.rand(shape) * 0.8
        (output,) = session.run(["output"], {"images": images.numpy()})
        with torch.no_grad():
            expected = both(IMAGENET.encode(images))
        torch.testing.assert_close(torch.from_numpy(output), expected, atol=1e-4, rtol=1e-4)


def test_the_published_network_is_one_onnx_graph(tmp_path: Path) -> None:
    """Its Fourier transform is of a size that is free."""
    config = RestorerConfig("published", 8, ((),), branches=3, grid=0, skip=False, published=True)
    made = Restorer(config).eval()
    nn.init.normal_(made.ise.fgm.gate.weight)
    assert export(made, tmp_path / "published.onnx") <= 1e-4


class Numbered(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images.mean((2, 3)) + torch.arange(-1.0, 2)


def test_what_is_valid_only_once_it_is_rewritten(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime takes no range from a float to an integer, as the exporter writes it."""
    session_of = Mock(wraps=exporting.session_of)
    monkeypatch.setattr(exporting, "session_of", session_of)
    monkeypatch.setattr(exporting, "folded", lambda model: None)
    assert export(nn.Identity(), tmp_path / "numbered.onnx", Numbered(), IMAGENET) <= 1e-4
    assert session_of.call_count == 2


class OneSize(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        assert images.shape[2:] == (32, 32), "only 32 x 32"
        return images.mean((2, 3))


class Dictionary(nn.Module):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"logits": images}


class Same(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images


def test_recognisers_of_one_size(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"only 32 x 32.*say which"):
        export(Same(), tmp_path / "a.pt2", OneSize(), IMAGENET)
    export(Same(), tmp_path / "a.pt2", OneSize(), IMAGENET, size=32)
    images = torch.rand(7, 3, 32, 32)
    program = torch.export.load(tmp_path / "a.pt2").module()
    expected = IMAGENET.encode(images).mean((2, 3))
    torch.testing.assert_close(program(images), expected, atol=1e-5, rtol=0)


def test_without_a_recogniser_and_without_touching_the_network(tmp_path: Path) -> None:
    made = Same().train()
    assert export(made, tmp_path / "alone.pt2") == 0 and made.training
    images = torch.rand(5, 3, 33, 47)
    program = torch.export.load(tmp_path / "alone.pt2").module()
    assert torch.equal(program(images), images)


def test_a_graph_that_differs_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.pt2").write_text("an older one")
    write = exporting.program_file

    def wrong(program: Any, path: Path) -> exporting.Run:
        run = write(program, path)
        return lambda images: run(images) + 2e-4

    monkeypatch.setattr(exporting, "program_file", wrong)
    with pytest.raises(ValueError, match="differs from torch by"):
        export(Same(), tmp_path / "a.pt2")
    assert [path.read_text() for path in tmp_path.iterdir()] == ["an older one"]


def test_a_graph_that_does_not_run_is_not_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(program: Any, path: Path) -> exporting.Run:
        path.touch()
        raise RuntimeError("no such operator\nand a page of advice")

    monkeypatch.setattr(exporting, "program_file", broken)
    with pytest.raises(ValueError, match=r"written or run: no such operator$"):
        export(Same(), tmp_path / "a.pt2")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "recogniser", "words"),
    [
        ("a.pth", None, r"neither in \.onnx nor in \.pt2"),
        ("no/a.pt2", None, "no folder"),
        ("a.pt2", Dictionary(), "returns a dict, expected one tensor"),
    ],
)
def test_what_cannot_be_exported(
    tmp_path: Path, name: str, recogniser: nn.Module | None, words: str
) -> None:
    with pytest.raises(ValueError, match=words):
        export(Same(), tmp_path / name, recogniser, IMAGENET)
    assert not list(tmp_path.iterdir())


def test_a_missing_extra_is_said_before_anything_is_traced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["export", str(tmp_path / "a.onnx")]) == 2
    assert "pip install 'vrdir-plug[export]'" in capsys.readouterr().err


def test_command_hands_over_what_was_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """The export itself is proven above, and takes a while."""
    module = "import torch\nclass Mean(torch.nn.Module):\n    pretrained_cfg = {'mean': (0.5,) * 3,"
    module += " 'std': (0.25,) * 3}\n    def forward(self, x):\n        return x.mean((2, 3))\n"
    (tmp_path / "means.py").write_text(module)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    given: list[Any] = []

    def record(*arguments: Any, size: int | None) -> float:
        given[:] = [*arguments, size]
        arguments[1].write_bytes(bytes(1_500_000))
        return 3e-6

    monkeypatch.setattr("vrdir_plug.cli_export.export", record)
    restorer().save_pretrained("small")
    command = ["export", "pair.pt2", "--restorer", "small", "--size", "32"]
    assert main([*command, "--recogniser", "means:Mean"]) == 0
    assert "pair.pt2: 1.5 MB, as torch gives on 3 shapes within 3e-06" in capsys.readouterr().out
    network, path, model, pixels, size = given
    assert network.config.profile == "small" and type(model).__name__ == "Mean"
    assert (path, size, pixels.std) == (Path("pair.pt2"), 32, (0.25, 0.25, 0.25))
    assert main(command) == 0
    assert given[2:] == [None, None, 32]
