"""The folder job on a local Ray cluster: every image once, none lost, though a worker is killed."""

import gc
import os
import signal
import time
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor, nn

from vrdir_plug.cli import main
from vrdir_plug.restoring import Item, Work, restore_files
from vrdir_plug.spreading import Worker, lost, on_ray


class Negative(nn.Module):
    """White minus the image; notes in a folder which processes are at work."""

    def __init__(self, notes: Path):
        super().__init__()
        self.notes = notes

    def forward(self, images: Tensor) -> Tensor:
        time.sleep(0.05)
        with (self.notes / str(os.getpid())).open("a") as file:
            file.write(f"{len(images)}\n")
        return 1 - images


def photographs(folder: Path, count: int) -> list[str]:
    """Every one of a shape of its own, so that none are restored together."""
    folder.mkdir()
    for index in range(count):
        pixels = np.random.default_rng(index).integers(0, 256, (9 + index, 7, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{index:02}.png")
    return [f"{index:02}.png" for index in range(count)]


def pixels(path: Path) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    with Image.open(path) as file:
        return np.asarray(file)


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two workers' worth of this machine; the smallest object store that Ray makes."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'vrdir-plug[ray]'")
    quiet = {"include_dashboard": False, "log_to_driver": False, "logging_level": "ERROR"}
    ray.init(num_cpus=2, object_store_memory=100_000_000, **quiet)
    yield
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it leaves its processes to be collected
        ray.shutdown()
        gc.collect()


@pytest.mark.filterwarnings("ignore")  # Ray's own sockets and files
def test_a_worker_is_killed_and_every_image_is_there_once(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("vrdir_plug.spreading.PART", 6)
    names, notes = photographs(tmp_path / "in", 40), tmp_path / "notes"
    (tmp_path / "in" / "broken.png").write_text("not an image")
    notes.mkdir()
    killed: list[int] = []

    def kill_one(work: Work, waiting: Iterator[Item]) -> Iterator[Item]:
        """When the first part is done, a worker in the midst of another."""
        for item in on_ray(2)(work, waiting):
            at_work = sorted(int(file.name) for file in notes.iterdir())
            if not killed and len(at_work) == 2:
                killed.append(at_work[0])
                os.kill(at_work[0], signal.SIGKILL)
            yield item

    out = tmp_path / "out"
    summary = restore_files([tmp_path / "in"], Negative(notes), out, device="cpu", engine=kill_one)
    assert len(killed) == 1 and len(list(notes.iterdir())) == 3  # one was started in its place
    assert (summary.restored, summary.skipped, summary.failed) == (40, 0, 1)
    assert sorted(file.name for file in out.iterdir()) == names
    for name in names:
        assert np.array_equal(pixels(out / name), 255 - pixels(tmp_path / "in" / name))
    assert summary.failures[0]["file"].endswith("broken.png")


@pytest.mark.filterwarnings("ignore")
def test_an_image_that_kills_every_worker_is_a_failure(cluster: None, tmp_path: Path) -> None:
    photographs(tmp_path / "in", 1)
    summary = restore_files([tmp_path / "in"], Deadly(), tmp_path / "out", engine=on_ray(1))
    assert (summary.restored, summary.failed) == (0, 1)
    assert "the worker died 4 times" in summary.failures[0]["reason"]


class Deadly(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        os.kill(os.getpid(), signal.SIGKILL)
        return images


# --- without a cluster -------------------------------------------------------------------------


def test_what_is_there_already_is_not_restored_again(tmp_path: Path) -> None:
    """A worker that was started anew gets the files of the one that died."""
    names, notes = photographs(tmp_path / "in", 3), tmp_path / "notes"
    notes.mkdir()
    work = Work(Negative(notes), torch.device("cpu"), 4, 10**6, False)
    files = [(tmp_path / "in" / name, tmp_path / "out" / name) for name in names]
    assert Worker(work).restore(files[:2]) == [(None, False)] * 2
    assert Worker(work).restore(files) == [(None, False)] * 3
    assert (notes / str(os.getpid())).read_text().split() == ["1"] * 3
    assert lost(Item(*files[0]), "why") == (None, False)
    assert lost(Item(files[0][0], tmp_path / "not"), "why")[0] == "the worker died 4 times: why"


def test_wrong_use_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match="workers must be positive, came 0"):
        on_ray(0)
    assert main(["restore", str(tmp_path), "--workers", "2"]) == 2
    assert "--workers are those of --engine ray" in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["restore", str(tmp_path), "--engine", "ray"]) == 2
    assert "pip install 'vrdir-plug[ray]'" in capsys.readouterr().err
