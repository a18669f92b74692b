"""``vrdir bench``: parsing and printing; the work is in `bench`."""

import argparse
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import nn

from .bench import at_work, compare, ready
from .restoring import pick_device

DESCRIPTION = """\
Measure what the restorer costs beside your recogniser, at most: the two run in turn, on images of
noise, which need all that it has, and the median of the ratios counts. E, ISE, SAD and your
recogniser are built untrained: their weights make no difference."""

EXAMPLES = """\
examples:
  vrdir bench --recogniser torchvision:resnet50
  vrdir bench --recogniser timm:tf_efficientnet_lite0 --batch-size 64 --precision bfloat16

exit codes: 0 done, 2 wrong usage or a network that cannot be built"""

PRECISIONS = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
Build = Callable[[str, bool], nn.Module]


def add_bench(commands: Any, build: Build) -> None:
    """`build` makes a recogniser of a name, trained or not."""
    command = commands.add_parser(
        "bench",
        help="what the restorer costs beside your recogniser, as a ratio",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=partial(run_bench, build))
    option = command.add_argument
    option("--recogniser", required=True, help="timm:NAME, torchvision:NAME or MODULE:FUNCTION")
    option("--profile", default="fast", help="fast, strong or paper")
    option("--size", type=int, default=224, help="side of the images, in pixels")
    option("--batch-size", type=int, default=1)
    option("--precision", choices=sorted(PRECISIONS), default="float32")
    option("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    option("--rounds", type=int, default=15)


def run_bench(build: Build, arguments: argparse.Namespace) -> None:
    size, batch = arguments.size, arguments.batch_size
    if min(size, batch) < 1:
        raise ValueError("--size and --batch-size must be positive")
    device, dtype = pick_device(arguments.device), PRECISIONS[arguments.precision]
    restorer = ready(at_work(arguments.profile), device, dtype)
    try:
        model = ready(build(arguments.recogniser, False), device, dtype)
    except (ImportError, AttributeError, RuntimeError, TypeError) as error:
        raise ValueError(f"cannot build {arguments.recogniser}: {error}") from error
    images = torch.rand(batch, 3, size, size, device=device, dtype=dtype)
    cost = compare(restorer, model, images, arguments.rounds)
    threads = f", {torch.get_num_threads()} threads" if device.type == "cpu" else ""
    print(f"{device}{threads}, {arguments.precision}, {size} px, batch {batch}")
    print(
        f"{arguments.profile} / {arguments.recogniser}: {cost.ratio:.0%} "
        f"(quartiles {cost.low:.0%} to {cost.high:.0%}); "
        f"{cost.restorer:.2f} ms / {cost.recogniser:.2f} ms on this machine"
    )
