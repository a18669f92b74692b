"""What a restorer saves on images that need less of it, in the mode "skip" beside "select".

`python benchmarks/skip.py` prints the multiply-accumulates and the time of the one divided by those
of the other, run in turn on the same images, by the share of them that the bypass takes for clean
and by whether enhancing the others is worth anything; on the CPU, or on the GPU if there is one.
Both are set: neither depends on the pixels.
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
# images at once, the share of them that comes back as it came, whether others are enhanced
ROWS = ((1, 0, True), (1, 0, False), (1, 1, True), (8, 0, True), (8, 0.5, True), (8, 1, True))


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
    print("| batch | as they came | enhanced | MAC, skip / select | time, skip / select |")
    print("|---:|---:|---:|---:|---:|")
    for batch, clean, worth in ROWS:
        images = smooth(batch).to(device)
        pair = [Restorer.from_pretrained("fast", mode=mode).to(device) for mode in MODES]
        bypass = bypass_for(pair[0].degradation(images), round(clean * batch))
        for restorer in pair:
            restorer.config = replace(restorer.config, bypass=bypass)
            restorer.worth[1].weight.zero_()
            restorer.worth[1].bias.fill_(1 if worth else -1)
        select, skip = pair
        work = operations(skip, images) / operations(select, images)
        time = compare(skip, select, images).ratio
        enhanced = worth * (1 - clean)
        print(f"| {batch} | {clean:.0%} | {enhanced:.0%} | {work:.0%} | {time:.0%} |")


if __name__ == "__main__":
    main()
