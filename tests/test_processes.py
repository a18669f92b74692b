"""Several processes train as one: gloo on the CPU, started by torchrun as a user would."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from vrdir_plug import processes, progress, stages, training
from vrdir_plug.processes import Processes

PROGRAM = """
import sys, torch
from pathlib import Path
from skimage.data import astronaut
from test_training import TINY, run, teachers
from vrdir_plug import stages, training

folder = Path(sys.argv[1])
images = [torch.from_numpy(astronaut().copy()).permute(2, 0, 1).contiguous()]
state = run(images)
state.stage = [stage.name for stage in stages.STAGES].index("branches")
state.begin_stage()
torch.stack(list(state.losses().values())).sum().backward()
learning = state.optimiser.param_groups[0]["params"]
state.processes.average_gradients(learning)
torch.save([p.grad for p in learning], folder / f"gradients_{state.processes.rank}.pt")
settings = {"teachers": teachers(), "profile": TINY, "steps": 70, "batch": 2}
done = training.train(images, folder=folder / "run", **settings)
assert done and state.processes.count == 2
"""


def launch(program: Path, *arguments: str) -> None:
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", str(program), *arguments]
    environment = {"PYTHONPATH": f"{Path(__file__).parent}:{Path(__file__).parents[1]}"}
    environment |= {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
    result = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=600)
    assert result.returncode == 0, result.stderr[-3000:]


def gradients_alone(images: list[Tensor], rank: int, monkeypatch: pytest.MonkeyPatch) -> Any:
    """What one process makes of the images that the one of this rank drew."""
    from test_training import run

    state = run(images)
    state.stage = [stage.name for stage in stages.STAGES].index("branches")
    state.begin_stage()
    with monkeypatch.context() as patched:
        patched.setattr(Processes, "rank", rank)
        torch.stack(list(state.losses().values())).sum().backward()
    return [p.grad for p in state.optimiser.param_groups[0]["params"]]


def test_two_processes_have_the_gradients_of_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from skimage.data import astronaut

    program = tmp_path / "program.py"
    program.write_text(PROGRAM)
    launch(program, str(tmp_path))
    images = [torch.from_numpy(astronaut().copy()).permute(2, 0, 1).contiguous()]
    alone = [gradients_alone(images, rank, monkeypatch) for rank in (0, 1)]
    first, second = (torch.cat([g.flatten() for g in gradients]) for gradients in alone)
    wanted = (first + second) / 2
    assert (first - wanted).norm() > 0.1 * wanted.norm()
    for rank in (0, 1):
        gradients = torch.load(tmp_path / f"gradients_{rank}.pt", weights_only=True)
        found = torch.cat([g.flatten() for g in gradients])
        # other numbers of threads add in another order
        assert (found - wanted).norm() < 1e-3 * wanted.norm()
    # one of them wrote, each line once
    lines = (tmp_path / "run" / progress.LOG).read_text().splitlines()
    assert len(lines) == len(set(lines))
    assert (tmp_path / "run" / training.CHECKPOINT).exists()


def test_several_processes_without_accelerate_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setitem(sys.modules, "accelerate", None)
    with pytest.raises(ModuleNotFoundError, match="pip install accelerate"):
        processes.Processes()


def test_one_process_is_alone() -> None:
    alone = Processes()
    assert (alone.rank, alone.count) == (0, 1)
    assert alone.any(True) and not alone.any(False)
