"""What the restorer costs beside recognisers, as ratios measured in one run.

`python benchmarks/cost.py` prints parameters, multiply-accumulates at 224 px, and, on the CPU or on
the GPU if there is one, the time of a restorer's forward pass divided by that of a ResNet50 and of
an EfficientNet-Lite0: on images of noise, and on a clean photograph, for which call by call a CPU
leaves out what takes noise, streaks and blur away. The two are run in turn, so that a machine that
changes its pace does not change the ratio; the median over the rounds counts. Tables
are for one image and for many, call by call, compiled (all of them: the recognisers too), and on a
GPU replayed as a CUDA graph: call by call the time of one image is the number of calls there.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, NamedTuple

import skimage.data
import timm
import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vrdir_plug.bench import at_work, compare, ready

SIZE = 224
DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@cache
def sizes(profile: str) -> list[str]:
    """Parameters and multiply-accumulates, as the table has them."""
    restorer = at_work(profile)
    with FlopCounterMode(display=False) as counter:
        restorer(torch.rand(1, 3, SIZE, SIZE))
    count = sum(parameter.numel() for parameter in restorer.parameters())
    return [f"{count / 1e6:.2f} M", f"{counter.get_total_flops() / 2e9:.2f}"]


class Setting(NamedTuple):
    batch: int
    dtype: torch.dtype
    how: str = ""  # or "compiled", "as a CUDA graph"


COMPILED, GRAPH = "compiled", "as a CUDA graph"
ON_CPU = (Setting(1, torch.float32), Setting(1, torch.float32, COMPILED))
ON_GPU = (
    Setting(1, torch.float32),
    Setting(1, torch.float16, GRAPH),
    Setting(64, torch.float16),
    Setting(64, torch.float16, COMPILED),
)


def replayed(network: nn.Module, images: Tensor) -> Callable[[Tensor], object]:
    """The network on always the same memory, all its calls in one."""
    with torch.cuda.stream(torch.cuda.Stream()):
        network(images)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        network(images)
    return lambda _: graph.replay()


def photograph() -> Tensor:
    """(1, 3, SIZE, SIZE)."""
    pixels = torch.from_numpy(skimage.data.astronaut()).permute(2, 0, 1)[None] / 255
    return F.interpolate(pixels, (SIZE, SIZE), mode="bilinear", antialias=True)


def table(setting: Setting) -> None:
    images = torch.rand(setting.batch, 3, SIZE, SIZE, device=DEVICE, dtype=setting.dtype)
    clean = photograph().to(images).repeat(setting.batch, 1, 1, 1)

    def prepared(network: nn.Module) -> Any:
        network = ready(network, DEVICE, setting.dtype)
        if setting.how == COMPILED:
            return torch.compile(network, fullgraph=True)
        return replayed(network, images) if setting.how == GRAPH else network

    recognisers = {
        "ResNet50": prepared(torchvision.models.resnet50()),
        "EfficientNet-Lite0": prepared(timm.create_model("tf_efficientnet_lite0")),
    }
    threads = f"{torch.get_num_threads()} threads"
    where = torch.cuda.get_device_name() if DEVICE.type == "cuda" else threads
    precision = str(setting.dtype).removeprefix("torch.")
    what = [DEVICE, where, precision, f"{SIZE} px", f"batch {setting.batch}", setting.how]
    print(", ".join(str(part) for part in what if part))
    named = [f"time / {name} |" for name in recognisers]
    print("| profile | parameters | GMAC |", *named, "ms | clean: time / ResNet50 | ms |")
    print("|---|---:|---:|" + "---:|" * (len(recognisers) + 3))
    for profile in ("fast", "strong", "paper"):
        restorer = prepared(at_work(profile))
        costs = [compare(restorer, other, images) for other in recognisers.values()]
        ratios = [f"{cost.ratio:.0%}" for cost in costs]
        mild = compare(restorer, recognisers["ResNet50"], clean)
        times = [f"{costs[0].restorer:.2f}", f"{mild.ratio:.0%}", f"{mild.restorer:.2f}"]
        cells = [profile, *sizes(profile), *ratios, *times]
        print("|", *(f"{cell} |" for cell in cells))


@torch.inference_mode()
def main() -> None:
    for setting in ON_GPU if DEVICE.type == "cuda" else ON_CPU:
        table(setting)


if __name__ == "__main__":
    main()
