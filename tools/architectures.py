"""Networks, and ours with a part missing, trained from nothing on pixels for the same steps.

`python tools/architectures.py NAME IMAGES HELD_OUT [STEPS]` trains the network NAME on the
photographs below the folder IMAGES, and prints what it gains in PSNR on those below HELD_OUT, for
each family of training degradations and for several together, at severity 3. Same seed, same pairs
for every name, but for `mixtures`, which is `flat` with up to three at once. Their tables are in
docs/ablations.md.
"""

import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn
from torch.utils.flop_counter import FlopCounterMode
from tqdm import trange

from vrdir_plug import losses, stages, training
from vrdir_plug.bands import BANDS, LEAK, bands_of, conv, image_of, zeroed
from vrdir_plug.classification import load_image, read_unlabelled
from vrdir_plug.config import RestorerConfig, config_of
from vrdir_plug.data import Pairs, read_folder
from vrdir_plug.degradations import (
    FAMILIES,
    Degradation,
    gaussian_noise,
    haze,
    jpeg,
    low_light,
    mist,
    rain,
)
from vrdir_plug.filter_stages import light_loss, wanted_shares
from vrdir_plug.ise import DNC, FGM, warmed
from vrdir_plug.learner import Learner
from vrdir_plug.measures import psnr
from vrdir_plug.network_stages import gate_losses
from vrdir_plug.restorer import Restorer
from vrdir_plug.teachers import Teacher

CROP, BATCH, HELD_OUT = 96, 32, 40
TOGETHER = (rain, mist), (haze, jpeg), (low_light, gaussian_noise)


class Residual(nn.Module):
    """Two convolutions beside the identity, at which they start."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = conv(BANDS, BANDS), zeroed(conv(BANDS, BANDS))

    def forward(self, bands: Tensor) -> Tensor:
        return bands + self.second(F.leaky_relu(self.first(bands), 0.1))


class PlainCNN(nn.Module):
    """None of our modules: three residual blocks on the frequencies of 4x4 pixels."""

    config = RestorerConfig("plain-cnn", BANDS, ((),))  # what a run asks a restorer for

    def __init__(self) -> None:
        super().__init__()
        self.blocks = nn.Sequential(*(Residual() for _ in range(3)))

    def forward(self, images: Tensor) -> Tensor:
        return image_of(self.blocks(bands_of(images)))


class Identity(DNC):
    """No DNC: every branch leaves features and pixels as they are."""

    def forward(self, mean: Tensor, deviation: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        scale, offset = super().forward(mean, deviation, *context)
        return torch.ones_like(scale), torch.zeros_like(offset)


class Uniform(FGM):
    """No FGM: every branch has the same share everywhere."""

    def prior(self, seen: Tensor) -> Tensor:
        return torch.zeros_like(super().prior(seen))

    def forward(self, features: Tensor, amplitude: Tensor, prior: Tensor) -> Tensor:
        gate = super().forward(features, amplitude, prior)
        return torch.full_like(gate, 1 / gate.shape[1])


class Unmodulated(FGM):
    """FGM that convolves the features as they are, not by their modulated spectrum."""

    def gain(self, amplitude: Tensor) -> Tensor:
        return torch.ones_like(amplitude)


class Depthwise(nn.Module):
    """A depthwise 5x5 and two 1x1 convolutions beside the identity."""

    def __init__(self, width: int) -> None:
        super().__init__()
        around = nn.Conv2d(width, width, 5, padding=2, groups=width)
        into, out = nn.Conv2d(width, width, 1), nn.Conv2d(width, width, 1)
        self.body = nn.Sequential(around, into, nn.LeakyReLU(LEAK), out)
        warmed(self)
        with torch.no_grad():
            out.weight *= 0.3

    def forward(self, features: Tensor) -> Tensor:
        changed: Tensor = self.body(features)
        return features + changed


FLAT = RestorerConfig("flat", BANDS, ((42,), (42,)))


def identity_like(dnc: DNC) -> Identity:
    """In its place, of its sizes."""
    (branches, channels), (_, squeeze, seen) = dnc.gamma.shape, dnc.reduce.shape
    return Identity(channels, branches, squeeze, seen - 2 * channels)


def without_dnc() -> Restorer:
    restorer = Restorer(FLAT)
    for block in restorer.ise.blocks:
        block.dnc = identity_like(block.dnc)  # type: ignore[arg-type]
    return restorer


def without_pixel_dnc() -> Restorer:
    restorer = Restorer(FLAT)
    restorer.pixel_dnc.dnc = identity_like(restorer.pixel_dnc.dnc)
    return restorer


def with_gate(kind: type[FGM]) -> Restorer:
    restorer = Restorer(FLAT)
    restorer.ise.fgm = kind(BANDS, FLAT.branches, FLAT.grid)
    return restorer


def pointwise_sad(restorer: Restorer) -> Restorer:
    """SAD as one 1x1 convolution, which leaves a sixth of the operations to the units."""
    last = nn.Conv2d(BANDS, BANDS, 1, bias=False)
    nn.init.dirac_(last.weight)
    restorer.decoder = nn.Sequential(last)
    return restorer


def depthwise() -> Restorer:
    """Units of four blocks of depthwise convolutions for two dense ones."""
    restorer = pointwise_sad(Restorer(replace(FLAT, units=((64,), (64,)))))
    for block in restorer.ise.blocks:
        unit: Any = block.unit
        unit.enter = nn.Conv2d(BANDS, 64, 1)
        unit.leave = nn.Sequential(*(Depthwise(64) for _ in range(4)))
        warmed(unit.enter)
    return restorer


NETWORKS: dict[str, Callable[[], Any]] = {
    "u": lambda: Restorer(RestorerConfig("u", BANDS, ((40, 64, 88),))),
    "flat": lambda: Restorer(FLAT),
    "mixtures": lambda: Restorer(FLAT),
    "fast": lambda: Restorer(config_of("fast")),
    "paper": lambda: Restorer(config_of("paper")),
    "plain-cnn": PlainCNN,
    "no-dnc": without_dnc,
    "no-pixel-dnc": without_pixel_dnc,
    "one-branch": lambda: Restorer(replace(FLAT, branches=2)),
    "uniform-gate": lambda: with_gate(Uniform),
    "no-fourier": lambda: with_gate(Unmodulated),
    "pointwise-sad": lambda: pointwise_sad(Restorer(replace(FLAT, units=((50,), (50,))))),
    "depthwise": depthwise,
    "no-skip": lambda: Restorer(replace(FLAT, skip=False)),
}


def pixel_loss(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """Pixels; the gate and PixelDNC have theirs, as in the stage "branches"."""
    network: Any = learner.restorer
    if isinstance(network, PlainCNN):
        return {"pixels": losses.pixel_loss(network(pairs.degraded), pairs.clean)}
    rebuilt = network.rebuild(pairs.degraded)
    families = wanted_shares(pairs.families, network.config.branches)
    if network.config.branches == 2:  # one for all that is degraded, one for clean images
        families = torch.cat([1 - pairs.families[:, -1:], pairs.families[:, -1:]], 1)
    found = {
        "pixels": losses.pixel_loss(rebuilt.images, pairs.clean),
        "gate": gate_losses(rebuilt, families),
    }
    if not network.config.published:
        found["normalised"] = light_loss(rebuilt.given, pairs)
    return found


PIXELS = stages.Stage("everything", ("restorer.",), pixel_loss, 1.0, 1)
MIXTURES = replace(PIXELS, most=3)


def trained(
    network: Any,
    images: list[Tensor],
    steps: int,
    order: tuple[stages.Stage, ...] = (PIXELS,),
    teachers: Sequence[Teacher] = (),
    batch: int = BATCH,
) -> Any:
    """The average over the steps of a training run."""
    stages.STAGES = order
    run = training.Run(images, network, teachers, steps, batch, training.RATE, seed=0, crop=CROP)
    for _ in trange(run.all_steps, unit="step", disable=None):
        run.finished()  # moves on to the next stage
        run.advance()
    return run.average.restorer


def held_out_images(folder: str) -> Tensor:
    """Some of those below the folder (N, 3, 224, 224), evenly from the whole."""
    samples = read_unlabelled(Path(folder))
    samples = samples[:: max(1, len(samples) // HELD_OUT)][:HELD_OUT]
    return torch.stack([load_image(sample.file, 224) for sample in samples])


@torch.inference_mode()
def gains(network: nn.Module, clean: Tensor) -> list[float]:
    """In dB of PSNR, for each family and for what comes together: means over kinds and images."""
    severity = torch.full((len(clean),), 3.0)

    def gain(kinds: Sequence[Degradation]) -> float:
        degraded, generator = clean, Generator().manual_seed(0)
        for kind in kinds:
            degraded = kind(degraded, severity, generator).clamp(0, 1)
        restored = torch.cat([network(part) for part in degraded.split(BATCH)]).clamp(0, 1)
        triples = zip(restored, degraded, clean, strict=True)
        return sum(psnr(after, c) - psnr(before, c) for after, before, c in triples) / len(clean)

    alone = [[(kind,) for kind in family] for family in FAMILIES]
    return [sum(map(gain, sort)) / len(sort) for sort in (*alone, TOGETHER)]


def print_row(cells: Sequence[str]) -> None:
    print("|", *(f"{cell} |" for cell in cells))


def main(name: str, images: str, held_out: str, steps: str = "1500") -> None:
    torch.manual_seed(0)
    network = NETWORKS[name]()
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.rand(1, 3, 224, 224))
    clean = held_out_images(held_out)
    order = (MIXTURES if name == "mixtures" else PIXELS,)
    found = gains(trained(network, read_folder(Path(images)), int(steps), order), clean)
    cells = [name, f"{counter.get_total_flops() / 2e9:.2f}", *(f"{gain:+.2f}" for gain in found)]
    print_row(cells)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[3:] else sys.exit(__doc__)
