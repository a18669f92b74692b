"""Prior-ascribing training without labels: one loop runs all the stages."""

import copy
import math
import signal
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from . import stages
from .config import RestorerConfig
from .data import Chance, draw_pairs, mixed
from .learner import CROP, Learner
from .processes import Processes
from .progress import LOG_EVERY, Progress
from .restorer import Restorer
from .teachers import Teacher
from .weights import atomic_torch_save

CHECKPOINT = "checkpoint.pt"
SAVE_EVERY = 120.0  # seconds between checkpoints
RATE = 2e-3  # Adam's
WARM_UP = 100  # steps
EMA_DECAY = 0.999
# Of Light's switches, which no stage learns. The darkest tenth of most clean photographs is darker,
# that of veiled ones paler; most clean ones have a wider range, dark and hazy ones a narrower one;
# are brighter than dark ones in which there is light; and have details of more contrast than foggy
# ones anywhere
PALE, NARROW, DARK, POOR = 0.2, 0.45, 0.22, 0.15


def pace(step: int, steps: int) -> float:
    """Of the learning rate: up in a straight line, down in half a cosine."""
    decay = 0.5 + 0.5 * math.cos(math.pi * step / steps)
    return min(1.0, (step + 1) / WARM_UP) * max(decay, 0.01)


def kept(step: int, most: float = EMA_DECAY) -> float:
    """Of the average of the weights (EMA) in a step: less of what the first ones were."""
    return min(most, (1 + step) / (10 + step))


class Run:
    """A training run's state: exactly what a checkpoint holds, and the step that moves it on."""

    def __init__(
        self,
        images: list[Tensor],
        restorer: Restorer,
        teachers: Sequence[Teacher],
        steps: int,
        batch: int,
        rate: float,
        seed: int,
        device: torch.device | str = "cpu",
        crop: int = CROP,
        first: int = 0,
    ):
        self.processes = Processes(device)
        self.device = self.processes.device
        self.images = [image.to(self.device) for image in images]
        self.teachers = [teacher.to(self.device) for teacher in teachers]
        self.steps, self.batch, self.rate, self.seed = steps, batch, rate, seed
        self.crop = crop
        self.stages = [n for n in stages.stages_of(restorer.config) if n >= first]
        self.setting = {
            "network": repr(restorer.config),
            "images": len(images),
            "teachers": [type(teacher.model).__name__ for teacher in teachers],
            "steps": steps,
            "batch": batch,
            "crop": crop,
            "first": stages.STAGES[self.stages[0]].name,
            "processes": self.processes.count,
            "rate": rate,
            "seed": seed,
        }
        self.learner = Learner(restorer.to(self.device), self.teachers).to(self.device)
        self.learner.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.average = copy.deepcopy(self.learner)
        self.stage = self.stages[0]
        self.begin_stage()

    def begin_stage(self) -> None:
        """Go on from the average of the stage before, with a fresh optimiser."""
        self.step = 0
        self.learner.load_state_dict(self.average.state_dict())
        learning = stages.release(self.learner, self.now.learns)
        self.optimiser = torch.optim.Adam(learning, self.rate, betas=(0.9, 0.99))

    def steps_of(self, stage: int) -> int:
        """0 for stages that are not of the run."""
        if stage not in self.stages:
            return 0
        whole = sum(stages.STAGES[n].share for n in self.stages)
        return max(1, round(self.steps * stages.STAGES[stage].share / whole))

    @property
    def now(self) -> stages.Stage:
        """The present stage."""
        return stages.STAGES[self.stage]

    @property
    def stage_steps(self) -> int:
        return self.steps_of(self.stage)

    @property
    def count(self) -> int:
        """Images of the present stage's step in this process."""
        return max(1, self.batch // self.now.sides**2)

    @property
    def images_a_step(self) -> int:
        return self.count * self.processes.count

    def current_rate(self) -> float:
        return self.rate * self.now.pace * pace(self.step, self.stage_steps)

    def chance(self) -> Chance:
        """Of this step in this process: nothing of it needs to be kept to go on exactly."""
        seed = mixed(self.seed % 2**64, self.processes.rank, self.stage, self.step)
        return Chance.of(seed, self.device)

    def losses(self) -> dict[str, Tensor]:
        """Of this process' share of the step's images, still on the device."""
        stage, chance = self.now, self.chance()
        side = self.crop * stage.sides
        pairs = draw_pairs(self.images, self.count, side, stage.most, chance, stage.oftener)
        with in_bfloat16(self.device):
            return stage.loss(self.learner, pairs, self.teachers, chance.choices)

    def advance(self) -> dict[str, Tensor]:
        """One step; returns the loss terms, still on the device."""
        for group in self.optimiser.param_groups:
            group["lr"] = self.current_rate()
        terms = self.losses()
        total = torch.stack(list(terms.values())).sum()
        if total.requires_grad:  # not where no image has what the stage is for
            total.backward()
        learning = self.optimiser.param_groups[0]["params"]
        self.processes.average_gradients(learning)
        if nn.utils.clip_grad_norm_(learning, 1.0).isfinite():
            self.optimiser.step()
        else:
            warnings.warn(f"step {self.step} had no finite gradient and was left out", stacklevel=2)
        self.optimiser.zero_grad(set_to_none=True)
        self.follow(kept(self.step))
        self.step += 1
        return {name: term.detach() for name, term in terms.items()}

    @torch.no_grad()
    def follow(self, decay: float) -> None:
        """Move the average towards the learner; frozen parts stay bit-identical."""
        both = zip(self.average.parameters(), self.learner.parameters(), strict=True)
        moving = [(mean, now) for mean, now in both if now.requires_grad]
        means, learnt = map(list, zip(*moving, strict=True))
        get_ema_multi_avg_fn(decay)(means, learnt, None)  # in one call: a GPU's time is calls

    def finished(self) -> bool:
        """Move on to the next stage where one is over; True after the last."""
        while self.step >= self.stage_steps:
            if self.stage == self.stages[-1]:
                return True
            self.stage = self.stages[self.stages.index(self.stage) + 1]
            self.begin_stage()
        return False

    @property
    def done(self) -> int:
        """Steps of all stages so far."""
        return sum(map(self.steps_of, range(self.stage))) + self.step

    @property
    def all_steps(self) -> int:
        """With a stage's rounding, and at least one step of each."""
        return sum(map(self.steps_of, range(len(stages.STAGES))))

    def state(self) -> dict[str, Any]:
        return {
            "setting": self.setting,
            "stage": self.stage,
            "step": self.step,
            "learner": self.learner.state_dict(),
            "average": self.average.state_dict(),
            "optimiser": self.optimiser.state_dict(),
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Continue bit for bit; ValueError if the checkpoint belongs to another setting."""
        if state["setting"] != self.setting:
            raise ValueError(
                f"the checkpoint was made with {state['setting']}, this run has {self.setting}: "
                "use the same, or another folder"
            )
        self.stage = state["stage"]
        self.average.load_state_dict(state["average"])
        self.begin_stage()
        self.step = state["step"]
        self.learner.load_state_dict(state["learner"])
        self.optimiser.load_state_dict(state["optimiser"])

    def save(self, folder: Path) -> None:
        """The checkpoint, and what has been learnt so far as loadable weights; by one process."""
        if self.processes.rank > 0:
            return
        atomic_torch_save(self.state(), folder / CHECKPOINT)
        # rounded to half: the file is half as large, and what is evaluated is what is shipped
        copy.deepcopy(self.average.restorer).half().save_pretrained(folder / "weights")


def has_bfloat16(device: torch.device) -> bool:
    """Elsewhere it is emulated, and slower than float32."""
    return device.type != "cpu" or torch.cpu._is_avx512_bf16_supported()


def in_bfloat16(device: torch.device) -> torch.autocast:
    """Where the device has it."""
    return torch.autocast(device.type, torch.bfloat16, enabled=has_bfloat16(device))


@contextmanager
def interruptible() -> Iterator[Callable[[], bool]]:
    """Turn Ctrl-C and SIGTERM into a question that is asked between steps."""
    came: list[int] = []
    signals = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(s, lambda number, frame: came.append(number)) for s in signals]
    try:
        yield lambda: bool(came)
    finally:
        for s, handler in zip(signals, before, strict=True):
            signal.signal(s, handler)


@contextmanager
def tuned() -> Iterator[None]:
    """The sizes of a run never change: let a GPU try which convolutions are the fastest."""
    before = torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = True
    try:
        yield
    finally:
        torch.backends.cudnn.benchmark = before


def follow_steps(run: Run, folder: Path, stopped: Callable[[], bool], progress: Progress) -> bool:
    """Advance until the end (True) or until stopped (False); saves now and then and at last."""
    saved = time.monotonic()
    # several processes must all stop at the same step, and to agree costs a message
    every = 1 if run.processes.count == 1 else LOG_EVERY
    while not (done := run.finished()):
        if run.step % every == 0 and run.processes.any(stopped()):
            break
        stage, terms = run.now.name, run.advance()
        progress.follow(stage, run.step, terms, run.images_a_step)
        if time.monotonic() - saved > SAVE_EVERY:
            run.save(folder)
            saved = time.monotonic()
    run.save(folder)
    return done


def switched_on(restorer: Restorer) -> Restorer:
    """With the light changed as all that learns behind it meets it."""
    if not restorer.config.published:
        nn.init.constant_(restorer.light.veil_switch.switch[:1], PALE)
        nn.init.constant_(restorer.light.range_switch.switch[:1], NARROW)
        nn.init.constant_(restorer.light.shadow_switch.switch[:1], DARK)
        nn.init.constant_(restorer.light.contrast_switch.switch[:1], POOR)
    return restorer


def train(
    images: list[Tensor],
    teachers: Sequence[Teacher],
    folder: Path,
    profile: str | RestorerConfig = "fast",
    steps: int = 8000,
    batch: int = 32,
    rate: float = RATE,
    seed: int = 0,
    device: torch.device | str = "cpu",
    tensorboard: bool = False,
    crop: int = CROP,
    start: str | Path | None = None,
) -> bool:
    """Train a restorer, or go on where the folder's checkpoint ends.

    Under `torchrun` every process trains on `batch` images of its own, and their gradients are
    averaged by accelerate; all must see the folder.

    Args:
        images: clean images, (3, H, W) uint8 RGB each, as `data.read_folder` returns them.
        teachers: frozen recognisers, the cheapest first; none that later evaluates.
        folder: receives checkpoint.pt, log.csv and weights/ (config.json, model.safetensors).
        profile: the sizes of the network.
        steps: of all stages together; batch: images a step; rate: Adam's learning rate;
            to go on from trained weights (`start`) a lower one unlearns less.
        seed: of the initial weights, the pairs and the choice of teachers.
        device: on which everything happens; the images are held there too.
        tensorboard: write TensorBoard's files into the folder as well.
        crop: side of the square crops, in pixels, a multiple of the restorer's `stride`. In larger
            ones the teachers see more of what is shown, and statistics are nearer to those of
            whole images.
        start: trained weights, by a name as `Restorer.from_pretrained` takes it, in the profile's
            place: all steps are then those of the last stages ("denoiser", if it has one,
            "enhanced" and "worth"; "ise" of the profile "paper"), which fit them to these teachers
            and images.

    Returns:
        True when it came to its end, False when it was interrupted: call it again to go on.

    Raises:
        ValueError: the folder's checkpoint belongs to another setting; the crop does not fit; the
            weights to start from are damaged.
        FileNotFoundError, ConnectionError: they are not there, or cannot be downloaded.
        ModuleNotFoundError: accelerate or tensorboard is asked for and not installed.
    """
    torch.manual_seed(seed)
    restorer = switched_on(Restorer(profile)) if start is None else Restorer.from_pretrained(start)
    if crop <= 0 or crop % restorer.stride:
        raise ValueError(f"crop must be a multiple of {restorer.stride} pixels, came {crop}")
    folder.mkdir(parents=True, exist_ok=True)
    first = 0 if start is None else stages.first_repeated(restorer.config)
    run = Run(images, restorer, teachers, steps, batch, rate, seed, device, crop, first)
    if (folder / CHECKPOINT).exists():
        run.restore(torch.load(folder / CHECKPOINT, map_location="cpu", weights_only=True))
    place = folder if run.processes.rank == 0 else None
    progress = Progress(place, run.all_steps, run.done, tensorboard)
    with interruptible() as stopped, tuned():
        done = follow_steps(run, folder, stopped, progress)
    progress.close()
    return done
