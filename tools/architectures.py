"""Networks of equal cost, trained from nothing on pixels for the same steps: docs/ablations.md.

`python tools/architectures.py NAME IMAGES HELD_OUT [STEPS]` trains the network NAME on the
photographs below the folder IMAGES, and prints what it gains in PSNR on those below HELD_OUT, for
each family of training degradations at severity 3. Same seed, same pairs for every name.
"""

import copy
import math
import sys
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from vrdir_plug import losses
from vrdir_plug.classification import load_image, read_unlabelled
from vrdir_plug.data import Chance, Pairs, draw_pairs, read_folder
from vrdir_plug.degradations import FAMILIES
from vrdir_plug.measures import psnr
from vrdir_plug.restorer import BANDS, Restorer, RestorerConfig, bands_of, conv, image_of, zeroed
from vrdir_plug.training import EMA_DECAY, RATE, WARM_UP, gate_losses, light_loss

CROP, BATCH, HELD_OUT = 96, 32, 40


class Residual(nn.Module):
    """Two convolutions beside the identity, at which they start."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(BANDS, BANDS), zeroed(conv(BANDS, BANDS))

    def forward(self, bands: Tensor) -> Tensor:
        return bands + self.second(F.leaky_relu(self.first(bands), 0.1))


class PlainCNN(nn.Module):
    """None of our modules: three residual blocks on the frequencies of 4x4 pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))

    def forward(self, images: Tensor) -> Tensor:
        return image_of(self.blocks(bands_of(images)))


NETWORKS: dict[str, Callable[[], nn.Module]] = {
    "fast": lambda: Restorer("fast"),
    "flat": lambda: Restorer(RestorerConfig("flat", 48, ((42,), (42,)))),
    "plain-cnn": PlainCNN,
}


def loss(network: nn.Module, pairs: Pairs) -> Tensor:
    """Pixels; a restorer's gate and PixelDNC have theirs, as in the stage "branches"."""
    if not isinstance(network, Restorer):
        return losses.pixel_loss(network(pairs.degraded), pairs.clean)
    rebuilt = network.rebuild(pairs.degraded)
    own = gate_losses(rebuilt, pairs.families) + light_loss(rebuilt, pairs)
    return losses.pixel_loss(rebuilt.images, pairs.clean) + own


def trained(network: nn.Module, images: list[Tensor], steps: int) -> nn.Module:
    """The average over the steps, with the optimiser and the rates of a training run."""
    network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimiser = torch.optim.Adam(network.parameters(), RATE, betas=(0.9, 0.99))
    mean = copy.deepcopy(network)
    for step in trange(steps, unit="step", disable=None):
        decay = max(0.5 + 0.5 * math.cos(math.pi * step / steps), 0.01)
        optimiser.param_groups[0]["lr"] = RATE * min(1.0, (step + 1) / WARM_UP) * decay
        loss(network, draw_pairs(images, BATCH, CROP, 1, Chance.of(step, "cpu"))).backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        follow = get_ema_multi_avg_fn(min(EMA_DECAY, (1 + step) / (10 + step)))
        with torch.no_grad():
            follow(list(mean.parameters()), list(network.parameters()), None)
    return mean


@torch.inference_mode()
def gains(network: nn.Module, clean: Tensor) -> list[float]:
    """In dB of PSNR, for each family: the mean over its kinds and the images."""
    severity = torch.full((len(clean),), 3.0)

    def gain(kind: Callable[..., Tensor]) -> float:
        degraded = kind(clean, severity, Generator().manual_seed(0)).clamp(0, 1)
        restored = torch.cat([network(part) for part in degraded.split(BATCH)]).clamp(0, 1)
        triples = zip(restored, degraded, clean, strict=True)
        return sum(psnr(after, c) - psnr(before, c) for after, before, c in triples) / len(clean)

    return [sum(map(gain, family)) / len(family) for family in FAMILIES]


def main(name: str, images: str, held_out: str, steps: str = "1500") -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.rand(1, 3, 224, 224))
    samples = read_unlabelled(Path(held_out))
    samples = samples[:: max(1, len(samples) // HELD_OUT)][:HELD_OUT]
    clean = torch.stack([load_image(sample.file, 224) for sample in samples])
    found = gains(trained(network, read_folder(Path(images)), int(steps)), clean)
    cells = [name, f"{counter.get_total_flops() / 2e9:.2f}", *(f"{gain:+.2f}" for gain in found)]
    print("|", *(f"{cell} |" for cell in cells))


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[3:] else sys.exit(__doc__)
