"""``vrdir export``: parsing and printing; the work is in `exporting`."""

import argparse
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from torch import nn

from .exporting import export
from .pixels import PixelSpec
from .restorer import Restorer

DESCRIPTION = """\
Write the restorer, or restorer, normalisation and recogniser, as one graph of free batch, height
and width: images (N, 3, H, W), float32 RGB in [0, 1] -> output. It is compared with torch on three
shapes (1e-4) before the file gets its name."""

EXAMPLES = """\
examples:
  vrdir export restorer.onnx
  vrdir export pair.onnx --recogniser torchvision:resnet50
  vrdir export pair.pt2 --recogniser timm:vit_tiny_patch16_224 --size 224

ONNX needs pip install 'vrdir-plug[export]'.
exit codes: 0 done, 2 wrong usage, or a network that cannot be exported (no file is left)"""

Build = Callable[[str, Path | None], tuple[nn.Module, PixelSpec]]


def add_export(commands: Any, build: Build) -> None:
    """`build` makes a recogniser and its pixels of a name and a weights file."""
    command = commands.add_parser(
        "export",
        help="write the restorer, or it and a recogniser, as ONNX or torch.export",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=partial(run_export, build))
    option = command.add_argument
    option("file", type=Path, metavar="FILE", help="ends in .onnx, or in .pt2 for torch.export")
    option(
        "--restorer",
        default="fast",
        help="fast, strong, a folder with weights, or org/name on the Hub",
    )
    option("--recogniser", help="timm:NAME, torchvision:NAME or MODULE:FUNCTION; else none")
    option("--recogniser-weights", type=Path, help=".safetensors or .pth; else downloaded")
    option("--size", type=int, help="side in pixels, if the recogniser takes one size only")


def run_export(build: Build, arguments: argparse.Namespace) -> None:
    restorer = Restorer.from_pretrained(arguments.restorer)
    model, pixels = None, None
    if arguments.recogniser:
        model, pixels = build(arguments.recogniser, arguments.recogniser_weights)
    worst = export(restorer, arguments.file, model, pixels, size=arguments.size)
    size = arguments.file.stat().st_size / 1e6
    print(f"{arguments.file}: {size:.1f} MB, as torch gives on 3 shapes within {worst:.0e}")
