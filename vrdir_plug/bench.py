"""What a restorer costs beside a recogniser: ratios measured in one run, never times alone."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .restorer import Restorer


@dataclass(frozen=True)
class Cost:
    """Of a restorer beside a recogniser.

    Attributes:
        ratio: time of the restorer's forward pass / that of the recogniser, median over rounds.
        low, high: the ratio's quartiles over the rounds: how far this machine can be trusted.
        restorer, recogniser: median milliseconds; they hold for this machine only.
    """

    ratio: float
    low: float
    high: float
    restorer: float
    recogniser: float


@torch.inference_mode()
def compare(
    restorer: Callable[[Tensor], Tensor],
    recogniser: Callable[[Tensor], object],
    images: Tensor,
    rounds: int = 15,
) -> Cost:
    """Run the two in turn, so that a machine that changes its pace does not change the ratio.

    Args:
        restorer, recogniser: on the images' device.
        images: (N, 3, H, W), RGB in [0, 1].
        rounds: at least 2; two more come before, to warm up.
    """
    if rounds < 2:
        raise ValueError(f"rounds must be at least 2, came {rounds}")
    pairs = [(seconds(restorer, images), seconds(recogniser, images)) for _ in range(rounds + 2)]
    ours, theirs = zip(*pairs[2:], strict=True)
    ratios = [a / b for a, b in zip(ours, theirs, strict=True)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    times = (1000 * statistics.median(times) for times in (ours, theirs))
    return Cost(middle, low, high, *times)


def seconds(network: Callable[[Tensor], object], images: Tensor) -> float:
    settle(images.device)
    start = time.perf_counter()
    network(images)
    settle(images.device)
    return time.perf_counter() - start


def settle(device: torch.device) -> None:
    """A GPU works on after the call returns."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    if device.type == "mps":
        torch.mps.synchronize()


def at_work(profile: str) -> Restorer:
    """An untrained network whose filters are those of the embedded set: what noise and streaks
    need is not computed on the CPU for images that have none, and untrained ones find none."""
    restorer = Restorer(profile)
    if not restorer.config.published:
        trained = Restorer.from_pretrained("fast")
        for name in (
            "zoom_filter",
            "motion_filter",
            "defocus_filter",
            "streak_filter",
            "pixel_filter",
        ):
            filters = trained.get_submodule(name).state_dict()
            # a Denoiser, which it has none of, is computed for the same images
            filters = restorer.get_submodule(name).state_dict() | filters
            restorer.get_submodule(name).load_state_dict(filters)
    return restorer


def ready(network: nn.Module, device: torch.device, dtype: torch.dtype) -> nn.Module:
    """In eval mode, on the device and in the precision that are measured."""
    return network.eval().to(device=device, dtype=dtype)
