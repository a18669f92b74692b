"""What is made once for each device."""

import torch
from pretended_device import DEVICE, Pretended
from torch import Tensor, nn

from vrdir_plug.constants import constant

CPU = torch.device("cpu")
made: list[tuple[object, ...]] = []


@constant
def table(side: int, device: torch.device | None = None) -> Tensor:
    made.append((side, device))
    steps = torch.arange(float(side), device=device)
    return steps[:, None] @ steps[None]


def calls(*sides: int, device: torch.device | None = CPU) -> int:
    made.clear()
    for side in sides:
        assert torch.equal(table(side, device).cpu(), torch.outer(*[torch.arange(float(side))] * 2))
    return len(made)


def test_it_is_made_once_for_each_size() -> None:
    assert calls(3, 4, 3, 4) == 2
    assert table(3, CPU) is table(3, CPU)


def test_what_inference_made_training_can_use() -> None:
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        first = table(5, CPU)
    assert first.dtype == torch.float32 and not first.is_inference()
    weights = torch.rand(5, 5, requires_grad=True)
    (weights * first).sum().backward()
    assert weights.grad is not None and torch.equal(weights.grad, first)


def test_what_has_no_values_or_device_is_not_kept() -> None:
    assert calls(6, 6, device=None) == 2
    with Pretended():
        assert calls(6, 6, device=DEVICE) == 2


class Scaled(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images * table(7, images.device)


def test_a_graph_makes_its_own() -> None:
    """Not a number of the machine that recorded it."""
    table(7, CPU)
    program = torch.export.export(Scaled(), (torch.rand(7, 7),))
    assert any("arange" in str(node.target) for node in program.graph.nodes)
    assert not program.constants
