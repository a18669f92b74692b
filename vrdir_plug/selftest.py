"""Numbers that the embedded weights must give, wherever they run."""

from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from . import weights
from .restorer import Restorer


def waves() -> Tensor:
    """(1, 3, 40, 56), by a formula, so that no decoder or resizer has a part in it."""
    y, x = torch.meshgrid(torch.arange(40.0), torch.arange(56.0), indexing="ij")
    phases = torch.tensor([0.0, 1.0, 2.0])[:, None, None]
    return (0.3 + 0.2 * torch.sin(0.35 * x + phases) * torch.cos(0.21 * y - phases))[None]


def unverified(folder: Path) -> Restorer:
    """Load a set without a look at what is recorded: of it, that is to be recorded."""
    return Restorer.from_pretrained(folder)


@torch.inference_mode()
def restored(restorer: Callable[[Tensor], Tensor], device: torch.device) -> Tensor:
    """(3, 4, 4) of the restored waves."""
    return restorer(waves().to(device))[0, :, ::13, ::17].cpu()


def numbers(restorer: Restorer) -> list[list[list[float]]]:
    """What is recorded: five decimals."""
    values = restored(restorer, torch.device("cpu")).double()
    return ((values * 1e5).round() / 1e5).tolist()


def deviation(name: str, device: torch.device) -> float:
    """The largest difference of an embedded set on a device from what is recorded of it."""
    restorer = Restorer.from_pretrained(name).to(device)
    expected = torch.tensor(weights.golden()[name]["numbers"])
    return float((restored(restorer, device) - expected).abs().max())
