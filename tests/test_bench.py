import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor

from vrdir_plug.bench import at_work, compare
from vrdir_plug.cli import main


def sleeping(seconds: float) -> Callable[[Tensor], Tensor]:
    def network(images: Tensor) -> Tensor:
        time.sleep(seconds)
        return images

    return network


def test_the_ratio_is_that_of_the_times() -> None:
    slow, fast = sleeping(0.02), sleeping(0.005)

    cost = compare(slow, fast, torch.rand(1, 3, 8, 8), rounds=5)
    assert 2 < cost.ratio < 6 and cost.low <= cost.ratio <= cost.high
    assert cost.restorer >= 20 and cost.recogniser >= 5


@pytest.mark.parametrize("profile", ("fast", "strong"))
def test_what_is_measured_takes_noise_away(profile: str) -> None:
    """What is not needed is not computed."""
    pixel_filter = at_work(profile).pixel_filter
    with torch.inference_mode():
        known = pixel_filter.without_impulses(torch.rand(1, 3, 64, 64))[1]
        assert pixel_filter.noise_filter.share(known) > 0.5
    assert at_work("paper").pixel_filter is None


def test_command(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = "import torch\ndef net():\n    return torch.nn.Conv2d(3, 8, 3)\n"
    (tmp_path / "convolution.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    command = ["bench", "--recogniser", "convolution:net", "--size", "32", "--rounds", "2"]
    assert main([*command, "--precision", "bfloat16", "--device", "cpu"]) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert "bfloat16, 32 px, batch 1" in first and "fast / convolution:net: " in second


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--recogniser", "absent:net"], "cannot build absent:net"),
        (["--recogniser", "torchvision:resnet18", "--size", "0"], "must be positive"),
        (["--recogniser", "torchvision:squeezenet1_1", "--rounds", "1"], "rounds must be"),
        (["--recogniser", "torchvision:resnet18", "--profile", "slow"], "no profile 'slow'"),
    ],
)
def test_wrong_use(capsys: pytest.CaptureFixture[str], options: list[str], words: str) -> None:
    assert main(["bench", *options]) == 2
    assert words in capsys.readouterr().err
