"""``vrdir restore``: parsing and printing; the work is in `restoring`."""

import argparse
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from tqdm import tqdm

from . import distributed
from .restorer import Restorer
from .restoring import Summary, restore_files
from .tiling import Tiled

DESCRIPTION = """\
Restore image and video files. Outputs that exist are skipped, so the same command goes on where it
was stopped; a file that cannot be restored is named, and the others go on. Memory does not grow
with the number of files (but for the list of them with --engine ray).

Formats: JPEG, PNG, WebP, BMP, TIFF, GIF, AVIF, written as they came. Alpha, EXIF, colour profile,
grey and 16-bit grey stay; the orientation is applied; 16-bit colour is written with 8 bits (and
counted); CMYK becomes RGB; every frame of an animation is restored on its own. Videos (mp4, mov,
mkv; pip install 'vrdir-plug[video]') keep times and sound, and their light is held steady."""

EXAMPLES = """\
examples:
  vrdir restore foggy.jpg                        writes foggy.restored.jpg beside it
  vrdir restore photographs --out restored       a folder, with all folders inside
  vrdir restore 'camera/**/*.png' --out restored --json summary.json
  vrdir restore /shared/photographs --out /shared/restored --engine ray
                                                 on a Ray cluster that sees both folders

exit codes: 0 all done, 1 some files failed, 2 wrong usage or bad input, 130 stopped by Ctrl-C"""


def add_restore(commands: Any) -> None:
    command = commands.add_parser(
        "restore",
        help="restore images and videos: single files, folders, globs",
        description=DESCRIPTION,
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command.set_defaults(run=run_restore)
    option = command.add_argument
    option(
        "sources", nargs="+", metavar="SOURCE", help="image, video, folder or quoted glob pattern"
    )
    option("--out", type=Path, help="folder to write into; else beside, as NAME.restored.jpg")
    option("--overwrite", action="store_true", help="make outputs anew that exist")
    option(
        "--restorer",
        default="fast",
        help="fast, strong, a folder with weights, or org/name on the Hub",
    )
    option("--device", default="auto", help="auto (a GPU if there is one), cpu, cuda, cuda:1, ...")
    option("--batch-size", type=int, default=16, help="most images of one shape at a time")
    option(
        "--most-megapixels",
        type=float,
        default=50,
        help="larger images are failures; about 0.07 GB of memory a megapixel (default: 50)",
    )
    option(
        "--engine",
        choices=("local", "ray"),
        default="local",
        help="ray: on all machines of a Ray cluster (pip install 'vrdir-plug[ray]'), the one at "
        "RAY_ADDRESS or a new one on this machine",
    )
    option(
        "--workers",
        type=int,
        help="with --engine ray: how many restore at a time (default: one for each GPU, or CPU)",
    )
    option("--json", type=Path, help="write counts, and failures with their reasons, to this file")


def run_restore(arguments: argparse.Namespace) -> int:
    if arguments.json and not arguments.json.parent.is_dir():
        raise ValueError(f"there is no folder {arguments.json.parent} to write --json into")
    try:
        summary = engine_of(arguments)(
            arguments.sources,
            Tiled(Restorer.from_pretrained(arguments.restorer, mode="skip")),
            arguments.out,
            overwrite=arguments.overwrite,
            device=arguments.device,
            batch_size=arguments.batch_size,
            most_megapixels=arguments.most_megapixels,
            on_failure=lambda file, reason: tqdm.write(f"vrdir: {file}: {reason}", sys.stderr),
        )
    except KeyboardInterrupt:
        print("vrdir: stopped; the same command goes on from here", file=sys.stderr)
        return 130
    if arguments.json:
        arguments.json.write_text(summary.to_json(), encoding="utf-8")
    print(in_words(summary))
    return 1 if summary.failed else 0


def engine_of(arguments: argparse.Namespace) -> Callable[..., Summary]:
    if arguments.engine == "ray":
        return partial(distributed.restore_files, workers=arguments.workers)
    if arguments.workers is not None:
        raise ValueError("--workers is for --engine ray")
    return restore_files


def in_words(summary: Summary) -> str:
    words = f"{summary.restored} restored, {summary.skipped} there already, {summary.failed} failed"
    if summary.reduced:
        words += f"; {summary.reduced} with 16 bits a colour came out with 8"
    return f"{words}; {summary.seconds:.1f} s"
