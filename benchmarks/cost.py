"""What the restorer costs beside recognisers, as ratios measured in one run.

`python benchmarks/cost.py` prints parameters, multiply-accumulates at 224 px, and, on the CPU or on
the GPU if there is one, the time of a restorer's forward pass divided by that of a ResNet50 and of
an EfficientNet-Lite0. The two are run in turn, so that a machine that changes its pace does not
change the ratio; the median over the rounds counts.
"""

import timm
import torch
import torchvision
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from vrdir_plug import Restorer
from vrdir_plug.bench import compare

SIZE = 224


def macs(network: nn.Module, images: Tensor) -> float:
    with FlopCounterMode(display=False) as counter:
        network(images)
    return counter.get_total_flops() / 2


@torch.inference_mode()
def main() -> None:
    device = "cuda" if torch.cuda.is_available() else "cpu"
    image = torch.rand(1, 3, SIZE, SIZE, device=device)
    recognisers = {
        "ResNet50": torchvision.models.resnet50(),
        "EfficientNet-Lite0": timm.create_model("tf_efficientnet_lite0"),
    }
    for network in recognisers.values():
        network.eval().to(device)
    print(f"{device}, {torch.get_num_threads()} threads, float32, {SIZE} px, batch 1")
    print("| profile | parameters | GMAC |", *(f"time / {name} |" for name in recognisers))
    print("|---|---:|---:|" + "---:|" * len(recognisers))
    for profile in ("fast", "strong", "paper"):
        restorer = Restorer(profile).eval().to(device)
        count = sum(parameter.numel() for parameter in restorer.parameters())
        ratios = [compare(restorer, network, image).ratio for network in recognisers.values()]
        cells = [f"{count / 1e6:.2f} M", f"{macs(restorer, image) / 1e9:.2f}"]
        print(f"| {profile} |", *(f"{cell} |" for cell in cells), *(f"{r:.0%} |" for r in ratios))


if __name__ == "__main__":
    main()
