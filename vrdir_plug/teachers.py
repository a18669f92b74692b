"""Frozen recognisers as teachers: what they see at several depths, and what they conclude."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

from .pixels import PixelSpec


class Teacher(nn.Module):
    """Features of a frozen classifier at every resolution, and its logits.

    Args:
        model: a classifier, (N, 3, H, W) in its own encoding -> logits (N, K). It is put in
            eval() and its parameters no longer want gradients: hand over one of its own.
        pixels: its encoding.
    """

    def __init__(self, model: nn.Module, pixels: PixelSpec):
        super().__init__()
        self.model = eased(folded(model.eval().requires_grad_(False)))
        self.pixels = pixels
        self.maps: dict[int, Tensor] = {}
        names = self.last_at_each_resolution()
        if len(names) < 2:
            raise ValueError(
                f"{type(model).__name__} has no feature maps at two resolutions: "
                "a teacher must be a convolutional classifier"
            )
        for name, module in model.named_modules():
            if name in names:
                module.register_forward_hook(self.keep)

    def last_at_each_resolution(self) -> set[str]:
        """The module whose output is the last feature map of its size, at a quarter to a 32nd."""
        last: dict[int, str] = {}

        def note(name: str):  # type: ignore[no-untyped-def]
            def hook(module: nn.Module, inputs: object, output: object) -> None:
                if isinstance(output, Tensor) and output.ndim == 4 and 1 < output.shape[-1] <= 32:
                    last[output.shape[-1]] = name

            return hook

        handles = [m.register_forward_hook(note(n)) for n, m in self.model.named_modules() if n]
        with torch.no_grad():
            self.model(self.pixels.encode(torch.zeros(1, 3, 128, 128)))
        for handle in handles:
            handle.remove()
        return set(last.values())

    def keep(self, module: nn.Module, inputs: object, output: Tensor) -> None:
        self.maps[output.shape[-1]] = output

    def forward(self, images: Tensor) -> list[Tensor]:
        """RGB in [0, 1] (N, 3, H, W) -> feature maps from fine to coarse, then logits."""
        self.maps.clear()
        logits = self.model(self.pixels.encode(images))
        return [self.maps[size] for size in sorted(self.maps, reverse=True)] + [logits]


def folded(model: nn.Module) -> nn.Module:
    """Frozen batch norms folded into the convolutions before them: a third less time on a CPU."""
    made: dict[int, tuple[Tensor, nn.Conv2d]] = {}  # the tensor too, or its id could come again
    pairs: list[tuple[nn.Conv2d, str]] = []

    def note(name: str):  # type: ignore[no-untyped-def]
        def hook(module: nn.Module, inputs: Any, output: Any) -> None:
            if isinstance(module, nn.Conv2d):
                made[id(output)] = output, module
            elif isinstance(module, nn.BatchNorm2d) and id(inputs[0]) in made:
                pairs.append((made[id(inputs[0])][1], name))

        return hook

    handles = [m.register_forward_hook(note(n)) for n, m in model.named_modules() if n]
    with torch.no_grad():
        model(torch.zeros(1, 3, 128, 128))
    for handle in handles:
        handle.remove()
    for convolution, name in pairs:
        fold(convolution, model.get_submodule(name))
        # timm's have their activation inside
        after = getattr(model.get_submodule(name), "act", nn.Identity())
        model.set_submodule(name, after)
    return model


def fold(convolution: nn.Conv2d, norm: Any) -> None:
    convolution.weight, bias = fuse_conv_bn_weights(
        *(convolution.weight, convolution.bias, norm.running_mean, norm.running_var),
        *(norm.eps, norm.weight, norm.bias),
    )
    convolution.bias = bias.requires_grad_(False)
    convolution.weight.requires_grad_(False)


class InFloat32(nn.Module):
    """A convolution that stays in float32 on the CPU, channels last, whatever autocast says."""

    def __init__(self, convolution: nn.Conv2d):
        super().__init__()
        self.convolution = convolution

    def forward(self, features: Tensor) -> Tensor:
        found: Tensor
        if features.device.type != "cpu":
            found = self.convolution(features)
            return found
        with torch.autocast("cpu", enabled=False):
            found = self.convolution(features.float().contiguous(memory_format=torch.channels_last))
            return found


def eased(model: nn.Module) -> nn.Module:
    """Strided depthwise convolutions in float32: a MobileNet's gradient waited for four of them.

    torch has no fast kernel for the gradient of those in bfloat16 on a CPU.
    """
    for name, module in list(model.named_modules()):
        if isinstance(module, nn.Conv2d) and module.groups > 1 and module.stride != (1, 1):
            model.set_submodule(name, InFloat32(module))
    return model
