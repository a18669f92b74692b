"""A device that is not there: shows, without a GPU, whether code keeps to the one of its images.

Tensors that say they are on a device "meta", computed on the CPU. An operation that mixes them with
tensors of the CPU fails, as it would on a real GPU.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

DEVICE = torch.device("meta")


class Elsewhere(Tensor):
    """Numbers `there`, a tensor of the CPU, that are said to be on DEVICE."""

    there: Tensor

    @staticmethod
    def __new__(cls, there: Tensor) -> "Elsewhere":
        self: Elsewhere = Tensor._make_wrapper_subclass(
            cls, there.shape, strides=there.stride(), dtype=there.dtype, device=DEVICE
        )
        self.there = there
        return self

    def tolist(self) -> Any:
        return self.there.tolist()

    def new_tensor(self, *args: Any, **kwargs: Any) -> Tensor:
        return Elsewhere(self.there.new_tensor(*args, **kwargs))

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        with Pretended():
            return function(*args, **(kwargs or {}))


class Drawing(torch.Generator):
    """A generator of the CPU that says it is on DEVICE."""

    device = DEVICE


class Pretended(TorchDispatchMode):
    """Within it DEVICE can be named."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]

    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        kwargs = dict(kwargs or {})
        tensors = [t for t in tree_flatten((args, kwargs))[0] if isinstance(t, Tensor)]
        elsewhere = any(isinstance(t, Elsewhere) for t in tensors)
        moves = str(function) in ("aten._to_copy.default", "aten.copy_.default")
        if elsewhere and not moves:
            here = [t.shape for t in tensors if not isinstance(t, Elsewhere) and t.ndim]
            assert not here, f"{function} mixes {DEVICE} with tensors of the CPU: {here}"
        wanted = kwargs.get("device")
        if wanted is not None:
            kwargs["device"] = torch.device("cpu")
            elsewhere = torch.device(wanted).type == DEVICE.type
        found = function(*tree_map(inner, args), **tree_map(inner, kwargs))
        return tree_map(Elsewhere, found) if elsewhere and not is_number(found) else found


def inner(value: Any) -> Any:
    return value.there if isinstance(value, Elsewhere) else value


def is_number(found: Any) -> bool:
    return not isinstance(found, Tensor | tuple | list)
