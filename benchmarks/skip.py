"""What a restorer with a bypass saves on clean images, in the mode "skip" beside "select".

`python benchmarks/skip.py` prints the multiply-accumulates and the time of the one divided by those
of the other, run in turn on the same images, by the share of them that the bypass takes for clean;
on the CPU, or on the GPU if there is one. Which images those are is set by the bypass: neither
depends on the pixels.
"""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.flop_counter import FlopCounterMode

from vrdir_plug import Restorer
from vrdir_plug.bench import compare

SIZE = 224
MODES = ("select", "skip")


def bypass_for(scores: Tensor, clean: int) -> float:
    """A threshold that just so many of the scores are below."""
    edges = torch.cat([scores.new_zeros(1), scores.sort().values, scores.new_ones(1)])
    return float(edges[clean : clean + 2].mean())


def smooth(batch: int) -> Tensor:
    """On noise the scores of all images would be 1."""
    coarse = torch.rand(batch, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    return F.interpolate(coarse, (SIZE, SIZE), mode="bilinear")


def operations(restorer: Restorer, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        restorer(images)
    return float(counter.get_total_flops())


@torch.inference_mode()
def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    print(f"{device}, {torch.get_num_threads()} threads, float32, {SIZE} px, profile fast")
    print("| batch | clean | MAC, skip / select | time, skip / select |")
    print("|---:|---:|---:|---:|")
    for batch, shares in ((1, (0, 1)), (8, (0, 0.5, 1))):
        images = smooth(batch).to(device)
        select, skip = (Restorer.from_pretrained("fast", mode=m).to(device) for m in MODES)
        for share in shares:
            bypass = bypass_for(select.degradation(images), round(share * batch))
            for restorer in (select, skip):
                restorer.config = replace(restorer.config, bypass=bypass)
            work = operations(skip, images) / operations(select, images)
            time = compare(skip, select, images).ratio
            print(f"| {batch} | {share:.0%} | {work:.0%} | {time:.0%} |")


if __name__ == "__main__":
    main()
