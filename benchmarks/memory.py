"""The most memory that restoring one image takes, whole and in tiles.

`python benchmarks/memory.py` restores a photograph's worth of noise as `vrdir restore` does (8 bits
in, 8 bits out), each size and way in a process of its own, and prints the largest resident memory
of that process, less what it had before. `--size 7680x4320 --side 0` is 8K in one piece, and wants
the memory. The weights make no difference: the network is built untrained.
"""

import argparse
import resource
import subprocess
import sys

import numpy as np
import torch

from vrdir_plug.bench import at_work
from vrdir_plug.restoring import Work
from vrdir_plug.tiling import SIDE, Tiled

SIZES = ("1920x1080", "3840x2160", "7680x4320")


def resident() -> float:
    """The most that this process has had, in GB; Linux counts in kB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6


def restore(profile: str, size: str, side: int) -> float:
    width, height = map(int, size.split("x"))
    restorer = at_work(profile).eval()
    network = Tiled(restorer, side=side, above=0) if side else restorer
    frames = np.random.default_rng(0).integers(0, 256, (1, height, width, 3), dtype=np.uint8)
    work = Work(network, 1, height * width / 1e6, False)
    work.restored([frames[:, :64, :64]])  # libraries and their buffers are loaded by then
    before = resident()
    work.restored([frames])
    return resident() - before


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--profile", default="fast")
    parser.add_argument("--size", help="WIDTHxHEIGHT of one image, in this process")
    parser.add_argument("--side", type=int, default=SIDE, help="of a tile in pixels; 0: whole")
    arguments = parser.parse_args()
    if arguments.size:
        print(f"{restore(arguments.profile, arguments.size, arguments.side):.2f}")
        return
    print(f"{arguments.profile}, float32, cpu, {torch.get_num_threads()} threads, GB")
    print("| image | megapixels | whole | in tiles |")
    print("|---|---:|---:|---:|")
    for size in SIZES:
        width, height = map(int, size.split("x"))
        cells = [measured(arguments.profile, size, side) for side in (0, arguments.side)]
        print(f"| {size} | {width * height / 1e6:.1f} |", *(f"{cell} |" for cell in cells))


def measured(profile: str, size: str, side: int) -> str:
    command = [sys.executable, __file__, "--profile", profile, "--size", size, "--side", str(side)]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    return run.stdout.strip() if run.returncode == 0 else "not enough memory"


if __name__ == "__main__":
    main()
