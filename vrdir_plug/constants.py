"""What is the same for all images: made once for each device, or again in every graph."""

from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

import torch

P = ParamSpec("P")
Made = TypeVar("Made")


def recorded() -> bool:
    """Whether what is computed now becomes a graph that is to serve all images."""
    traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_compiling() or traced


def constant(make: Callable[P, Made]) -> Callable[P, Made]:
    """Keeps what is made of sizes and a device, or every image would pay for it again. Nobody may
    change it in place.

    Where no device is named torch chooses one, and on "meta" nothing has values: neither is kept.
    """
    kept: dict[object, Made] = {}

    @wraps(make)
    def get(*args: P.args, **kwargs: P.kwargs) -> Made:
        kinds = [part.type for part in args if isinstance(part, torch.device)]
        if recorded() or not kinds or kinds[0] == "meta":
            return make(*args, **kwargs)
        key = (*args, *kwargs.items())
        if key in kept:
            return kept[key]
        # of use in training, too, and in full precision whoever asks first
        with torch.inference_mode(False), torch.autocast(kinds[0], enabled=False):
            made = make(*args, **kwargs)
        # what is made while a CUDA graph is captured has values only once that is replayed
        if kinds[0] != "cuda" or not torch.cuda.is_current_stream_capturing():
            kept[key] = made
        return made

    return get
