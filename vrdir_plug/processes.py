"""The processes of one training run, by Accelerate where `torchrun` started several."""

import atexit
import os
from typing import Any

import torch
from torch import nn


class Processes:
    """How many there are, which of them this is, and what they tell each other.

    Args:
        device: "cpu", or "cuda": then each process has a GPU of its own.

    Raises:
        ModuleNotFoundError: there are several, and accelerate is not installed.
    """

    def __init__(self, device: torch.device | str = "cpu"):
        self.device = torch.device(device)
        self.engine: Any = None
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            self.engine = accelerator(cpu=self.device.type == "cpu")
            self.device = self.engine.device

    @property
    def count(self) -> int:
        return 1 if self.engine is None else int(self.engine.num_processes)

    @property
    def rank(self) -> int:
        """0 is the one that writes files."""
        return 0 if self.engine is None else int(self.engine.process_index)

    def average_gradients(self, parameters: list[nn.Parameter]) -> None:
        """Give each its mean gradient over the processes, in one message; none counts as zero."""
        if self.engine is None:
            return
        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        gradients = [torch.as_tensor(parameter.grad) for parameter in parameters]
        together = self.engine.reduce(torch.cat([g.flatten() for g in gradients]), "mean")
        parts = together.split([g.numel() for g in gradients])
        for gradient, part in zip(gradients, parts, strict=True):
            gradient.copy_(part.view_as(gradient))

    def any(self, flag: bool) -> bool:
        """Whether it is so in one of them; waits for all."""
        if self.engine is None:
            return flag
        told = torch.tensor(float(flag), device=self.device)
        return bool(self.engine.reduce(told, "sum") > 0)


def accelerator(cpu: bool) -> Any:
    try:
        from accelerate import Accelerator
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(
            "several processes share their gradients through accelerate: pip install accelerate"
        ) from error
    engine = Accelerator(cpu=cpu)
    # or now and then a process dies as it ends: gloo's threads are still running
    atexit.register(leave)
    return engine


def leave() -> None:
    """End what the processes share, if there is anything."""
    if torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()
