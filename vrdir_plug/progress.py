"""What a training run says of itself: a bar with rate and ETA, log.csv, TensorBoard's files."""

import csv
import time
from pathlib import Path
from typing import Any

from torch import Tensor
from tqdm import tqdm

LOG = "log.csv"
LOG_EVERY = 20  # steps; a GPU waits for it


class Progress:
    """Follows a run step by step.

    log.csv has one line a term: stage, step, time, term, value. Beside the loss terms:
    `images_per_second`, and `waiting`, the share of the time in which the host waited for the
    device: above zero, a GPU always had work.

    Args:
        folder: receives log.csv; None: nothing is shown or written (all processes but one).
        steps: of the whole run; done: those before this call.
        tensorboard: write TensorBoard's files as well.
    """

    def __init__(self, folder: Path | None, steps: int, done: int, tensorboard: bool = False):
        self.folder, self.done = folder, done
        hidden = None if folder else True  # None: where there is no terminal
        self.bar = tqdm(total=steps, initial=done, unit="step", disable=hidden)
        self.board: Any = None
        if tensorboard and folder:
            from torch.utils.tensorboard import SummaryWriter

            self.board = SummaryWriter(str(folder))
        self.logged, self.since = done, time.monotonic()

    def follow(self, stage: str, step: int, terms: dict[str, Tensor], images: int) -> None:
        """After a step: its number in its stage, its loss terms, on the device, and how many
        images all processes had in it."""
        self.bar.update()
        self.done += 1
        if step % LOG_EVERY == 0:
            asked = time.monotonic()
            values = {name: term.item() for name, term in terms.items()}
            values |= self.rates(asked, images)
            self.show(stage, values)
            if self.folder:
                self.write(self.folder / LOG, stage, step, values)

    def rates(self, asked: float, images: int) -> dict[str, float]:
        now = time.monotonic()
        took, steps = now - self.since, self.done - self.logged
        self.logged, self.since = self.done, now
        return {"images_per_second": steps * images / took, "waiting": (now - asked) / took}

    def show(self, stage: str, values: dict[str, float]) -> None:
        self.bar.set_description(stage, refresh=False)
        self.bar.set_postfix({n: f"{v:.3f}" for n, v in values.items()}, refresh=False)

    def write(self, path: Path, stage: str, step: int, values: dict[str, float]) -> None:
        with path.open("a", newline="") as file:
            now = f"{time.time():.0f}"
            for name, value in values.items():
                csv.writer(file).writerow([stage, step, now, name, f"{value:.5f}"])
        if self.board is not None:
            for name, value in values.items():
                self.board.add_scalar(f"{stage}/{name}", value, step)

    def close(self) -> None:
        self.bar.close()
        if self.board is not None:
            self.board.close()
