"""Where the time of a restorer goes: the work of each part, the least it could take, what it takes.

`OMP_NUM_THREADS=1 python benchmarks/parts.py` counts floating-point operations and bytes, measures
what this machine reaches at most (a product of matrices; a sum of two tensors as large as an
image's features), and sets the time of each part beside its floor: the larger of operations /
fastest operations and bytes / fastest bytes, where the bytes are those of what goes in, what comes
out, and the weights, each once. `moved` is what all operations read and write one by one.

Times are of the processor, not of the clock (`time.thread_time`), so that other work beside it
counts little; they hold for one thread only, and the ratios more than the milliseconds.
"""

import argparse
import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from vrdir_plug import Restorer
from vrdir_plug.bench import at_work

REST = "all else"  # cells and bands, statistics, the branches' mixing, edges
ALL = "together"


def parts_of(restorer: Restorer) -> dict[str, nn.Module]:
    """Of profiles other than "paper", by the names of the README."""
    named = {
        "ZoomFilter": restorer.zoom_filter,
        "MotionFilter": restorer.motion_filter,
        "DefocusFilter": restorer.defocus_filter,
        "StreakFilter": restorer.streak_filter,
        "PixelFilter": restorer.pixel_filter,
        "Light": restorer.light,
        "PixelDNC": restorer.pixel_dnc,
        "E": restorer.encoder,
        "FGM": restorer.ise.fgm,
    }
    units = {f"unit {i + 1}": block.unit for i, block in enumerate(restorer.ise.blocks)}
    modules = {**named, **units, "SAD": restorer.decoder, "BandGains": restorer.gains}
    return {name: module for name, module in modules.items() if isinstance(module, nn.Module)}


def size_of(values: object) -> int:
    return sum(v.numel() * v.element_size() for v in tree_leaves(values) if isinstance(v, Tensor))


class Count(TorchDispatchMode):
    """Operations, calls and bytes of what runs, by the part that is running."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.part = [REST]
        self.flops: dict[str, int] = defaultdict(int)
        self.moved: dict[str, int] = defaultdict(int)
        self.calls: dict[str, int] = defaultdict(int)
        self.least: dict[str, int] = defaultdict(int)

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> object:
        output = func(*args, **(kwargs or {}))
        part, formula = self.part[-1], flop_registry.get(func.overloadpacket)
        if formula:
            self.flops[part] += formula(*args, **(kwargs or {}), out_val=output)
        if not func.is_view:
            self.calls[part] += 1
            self.moved[part] += size_of((args, kwargs, output))
        return output

    def enter(self, name: str, module: nn.Module, given: object) -> None:
        self.part.append(name)
        self.least[name] += size_of(given) + size_of(list(module.parameters()))

    def leave(self, output: object) -> None:
        self.least[self.part.pop()] += size_of(output)


class Clock:
    """Seconds of the processor in each part."""

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)

    def enter(self, name: str, module: nn.Module, given: object) -> None:
        self.name, self.start = name, time.thread_time()

    def leave(self, output: object) -> None:
        self.seconds[self.name].append(time.thread_time() - self.start)


def watched(restorer: Restorer, watch: Count | Clock) -> list[Any]:
    """Hooks by which the watch is told of every part."""
    hooks = []
    for name, module in parts_of(restorer).items():

        def enter(module: nn.Module, given: object, name: str = name) -> None:
            watch.enter(name, module, given)

        def leave(module: nn.Module, given: object, output: object) -> None:
            watch.leave(output)

        hooks += [module.register_forward_pre_hook(enter), module.register_forward_hook(leave)]
    return hooks


def run(restorer: Restorer, image: Tensor, watch: Count | Clock, rounds: int) -> None:
    hooks = watched(restorer, watch)
    mode: AbstractContextManager[object] = watch if isinstance(watch, Count) else nullcontext()
    with mode:
        for _ in range(rounds):
            start = time.thread_time()
            restorer(image)
            if isinstance(watch, Clock):
                watch.seconds[ALL].append(time.thread_time() - start)
    for hook in hooks:
        hook.remove()


def fastest(work: Callable[[], object], rounds: int) -> float:
    """Seconds of the processor of the quickest of many."""
    times = []
    for _ in range(rounds):
        start = time.thread_time()
        work()
        times.append(time.thread_time() - start)
    return min(times)


def ceilings(features: Tensor, rounds: int) -> tuple[float, float]:
    """Floating-point operations and bytes a second."""
    a = torch.rand(768, 768)
    out = torch.empty_like(features)
    flops = 2 * 768**3 / fastest(lambda: a @ a, rounds)
    return flops, 3 * size_of(out) / fastest(lambda: torch.add(features, features, out=out), rounds)


@torch.no_grad()
def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="fast", choices=["fast", "strong"])
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--rounds", type=int, default=30)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    restorer = at_work(arguments.profile).eval()
    image = torch.rand(1, 3, arguments.size, arguments.size)
    count, clock = Count(), Clock()
    run(restorer, image, Clock(), 3)  # makes what is the same for all images, too
    run(restorer, image, count, 1)
    run(restorer, image, clock, arguments.rounds)
    features = torch.rand(1, restorer.config.channels, arguments.size // 4, arguments.size // 4)
    flops, moved = ceilings(features, arguments.rounds)
    print(f"{arguments.profile}, {arguments.size} px, batch 1, float32, 1 thread;", end=" ")
    print(f"at most {flops / 1e9:.0f} GFLOP/s, {moved / 1e9:.0f} GB/s")
    print("| part | GFLOP | calls | MB at least | MB moved | floor ms | ms | ms / floor |")
    print("|---|---:|---:|---:|---:|---:|---:|---:|")
    times = {name: 1000 * statistics.median(values) for name, values in clock.seconds.items()}
    times[REST] = times[ALL] - sum(t for name, t in times.items() if name != ALL)
    count.least[REST] = 2 * size_of(image)
    floors = {name: 1000 * max(count.flops[name] / flops, count.least[name] / moved)
              for name in (*parts_of(restorer), REST)}  # fmt: skip
    for name, floor in {**floors, ALL: sum(floors.values())}.items():
        numbers = [
            of[name] if name != ALL else sum(of.values())
            for of in (count.flops, count.calls, count.least, count.moved)
        ]
        cells = [f"{numbers[0] / 1e9:.2f}", f"{numbers[1]}"]
        cells += [f"{number / 1e6:.1f}" for number in numbers[2:]]
        cells += [f"{floor:.2f}", f"{times[name]:.2f}", f"{times[name] / floor:.1f}"]
        print(f"| {name} |", *(f"{cell} |" for cell in cells))


if __name__ == "__main__":
    main()
