"""The folder job on a Ray cluster: the outputs of one machine, every file once, whoever dies."""

import json
import logging
import os
import pickle
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from vrdir_plug import Restorer, distributed
from vrdir_plug.cli import main
from vrdir_plug.restoring import Item, Work, restore_files
from vrdir_plug.tiling import Tiled

ray = pytest.importorskip("ray", reason="needs pip install 'vrdir-plug[ray]'")
pytest.importorskip("ray.data", reason="needs pip install 'vrdir-plug[ray]'")
# Ray Data's own defaults set its own deprecated options
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray.data.context")


def photo(path: Path, seed: int) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path)
    return path


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def negative(images: Tensor) -> Tensor:
    """Exact in 8 bits, whatever is restored together."""
    return 1 - images


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    """Two nodes with one CPU each: two machines that see the same folders."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        nodes = Cluster(
            initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
        )
        nodes.add_node(num_cpus=1)
        ray.init(nodes.address, log_to_driver=False, logging_level=logging.ERROR)
        yield
        ray.shutdown()
        nodes.shutdown()


def killed_half_way(out: Path, marks: Path) -> Callable[[Tensor], Tensor]:
    """Leaves the process ids it ran in; the first that sees 15 of 40 outputs kills itself."""

    def restore(images: Tensor) -> Tensor:
        (marks / str(os.getpid())).touch()
        time.sleep(0.1)  # for both workers to have a part in it
        if len(list(out.glob("*.png"))) >= 15:
            try:
                (marks / "killed").open("x").write(str(os.getpid()))
            except FileExistsError:
                return 1 - images
            os.kill(os.getpid(), signal.SIGKILL)
        return 1 - images

    return restore


def test_a_worker_killed_half_way_loses_no_file(cluster: None, tmp_path: Path) -> None:
    for index in range(40):
        photo(tmp_path / "in" / f"{index}.png", index)
    out, marks = tmp_path / "out", tmp_path / "marks"
    marks.mkdir()
    summary = distributed.restore_files(
        [tmp_path / "in"], killed_half_way(out, marks), out, batch_size=4
    )
    assert (summary.restored, summary.skipped, summary.failed) == (40, 0, 0)
    restore_files([tmp_path / "in"], negative, tmp_path / "local")
    assert contents(out) == contents(tmp_path / "local")
    ran = contents(marks)
    # two that began, and the one that Ray started for the dead
    assert ran.pop("killed").decode() in ran and len(ran) == 3


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_task_done_again_comes_to_the_same(tmp_path: Path, overwrite: bool) -> None:
    """As it is after a death between the writing and the counting."""
    items = [Item(photo(tmp_path / f"{i}.png", i), tmp_path / f"out/{i}.png") for i in range(3)]
    worker = distributed.Worker(Work(negative, 2, 1, overwrite), "cpu")
    task = {"items": pickle.dumps([*items, Item(tmp_path / "absent.png", tmp_path / "b.png")])}
    first, written = worker(task), contents(tmp_path / "out")
    times = [item.target.stat().st_mtime_ns for item in items]
    assert worker(task) == first and contents(tmp_path / "out") == written
    made_anew = [
        item.target.stat().st_mtime_ns > then for item, then in zip(items, times, strict=True)
    ]
    assert made_anew == [overwrite] * 3
    errors = {o.source.name: o.error for o in pickle.loads(first["outcomes"])}
    assert "No such file" in errors.pop("absent.png") and set(errors.values()) == {None}


def test_failures_are_counted_and_outputs_skipped(
    cluster: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for index in range(5):
        photo(tmp_path / "in" / f"{index}.png", index)
    (tmp_path / "in" / "broken.png").write_text("not an image")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "0.png").write_text("precious")
    monkeypatch.chdir(tmp_path)  # where the workers are not
    failures: list[Path] = []
    summary = distributed.restore_files(
        ["in"],
        torch.nn.Identity(),
        "out",
        workers=1,
        on_failure=lambda file, _: failures.append(file),
    )
    assert (summary.restored, summary.skipped, summary.failed) == (4, 1, 1)
    assert failures == [tmp_path / "in" / "broken.png"]
    assert "cannot identify" in summary.failures[0]["reason"]
    assert sorted(contents(tmp_path / "out")) == [f"{index}.png" for index in range(5)]
    assert (tmp_path / "out" / "0.png").read_text() == "precious"


def test_what_the_restorer_raises_is_told(cluster: None, tmp_path: Path) -> None:
    def refuse(images: Tensor) -> Tensor:
        raise TypeError("images in no known colour")

    with pytest.raises(OSError, match="images in no known colour"):
        distributed.restore_files([photo(tmp_path / "a.png", 0)], refuse, device="cpu")


def test_command(cluster: None, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for index in range(4):
        photo(tmp_path / "in" / f"{index}.png", index)
    report = tmp_path / "summary.json"
    command = ["restore", str(tmp_path / "in"), "--out", str(tmp_path / "out"), "--json"]
    assert main([*command, str(report), "--engine", "ray", "--workers", "1"]) == 0
    assert capsys.readouterr().out.startswith("4 restored, 0 there already, 0 failed; ")
    assert json.loads(report.read_text())["restored"] == 4
    restorer = Tiled(Restorer.from_pretrained("fast", mode="skip"))
    restore_files([tmp_path / "in"], restorer, tmp_path / "local", device="cpu")
    for index in range(4):
        # float32 rounds by the number of threads and of images restored together
        got, expected = (
            np.asarray(Image.open(tmp_path / folder / f"{index}.png")).astype(int)
            for folder in ("out", "local")
        )
        assert np.abs(got - expected).max() <= 1


def test_a_cluster_of_ours_is_stopped_and_no_other() -> None:
    calls: list[str] = []
    library = SimpleNamespace(
        is_initialized=lambda: False,
        init=lambda **_: calls.append("init"),
        shutdown=lambda: calls.append("shutdown"),
    )
    with pytest.raises(KeyboardInterrupt), distributed.cluster(library):
        raise KeyboardInterrupt
    assert calls == ["init", "shutdown"]
    library.is_initialized = lambda: True
    with distributed.cluster(library):
        pass
    assert calls == ["init", "shutdown"]


def test_a_worker_has_a_gpu_where_there_are_any() -> None:
    mixed = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0, "GPU": 2.0})
    assert distributed.room(mixed, "auto") == distributed.room(mixed, "cuda") == ("num_gpus", 2)
    assert distributed.room(mixed, "cpu") == ("num_cpus", 8)
    without = SimpleNamespace(cluster_resources=lambda: {"CPU": 8.0})
    assert distributed.room(without, "auto") == ("num_cpus", 8)
    with pytest.raises(ValueError, match="has no GPU"):
        distributed.room(without, "cuda")


def test_a_video_is_a_task_alone() -> None:
    items = [Item(Path(name), Path(name)) for name in ("a.png", "b.mp4", "c.png", "d.png")]
    groups = distributed.grouped(items, 2)
    assert [[str(item.source) for item in group] for group in groups] == [
        ["b.mp4"],
        ["a.png", "c.png"],
        ["d.png"],
    ]


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--engine", "ray", "--device", "cuda:1"], "auto, cpu or cuda, came 'cuda:1'"),
        (["--engine", "ray", "--workers", "0"], "workers must be positive, came 0"),
        (["--engine", "ray", "--batch-size", "0"], "batch_size and most_megapixels"),
        (["--workers", "2"], "--workers is for --engine ray"),
    ],
)
def test_wrong_use_is_one_sentence(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], options: list[str], sentence: str
) -> None:
    assert main(["restore", str(photo(tmp_path / "a.png", 0)), *options]) == 2
    assert sentence in capsys.readouterr().err


def test_without_ray_it_says_how_to_get_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    monkeypatch.delitem(sys.modules, "ray.data")
    assert main(["restore", str(photo(tmp_path / "a.png", 0)), "--engine", "ray"]) == 2
    sentence = "needs ray: install it with pip install 'vrdir-plug[ray]'"
    assert sentence in capsys.readouterr().err
