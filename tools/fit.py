"""Fits PixelFilter's frequency response to many samples, each seen many times.

Nothing before it learns with it, and what it sees of an image is small: `vrdir train` makes an
image for each time that it learns from one, which takes a hundred times as long as to learn.

`python tools/fit.py draw OLD FILE --images FOLDER ...` writes what images ask for by the weights
in OLD: one process a core, each with a --seed of its own. Then
`python tools/fit.py fit OLD OUT FILE ...` writes OLD with another response into OUT, and prints its
loss on a twentieth of the samples, from which nothing was learnt.
"""

import argparse
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import trange

from vrdir_plug.data import Chance, draw_pairs, read_folder
from vrdir_plug.restorer import Restorer
from vrdir_plug.training import BLURS, CROP, Asked, asked_loss, release, responses_asked

TOGETHER = 16  # images that are drawn at once
BATCH = 128
HELD_OUT = 20  # every so many of those drawn together are not learnt from
RATE, DECAY = 3e-3, 0.998


def draw(old: Path, file: Path, folders: list[Path], count: int, seed: int) -> None:
    images = [image for folder in folders for image in read_folder(folder)]
    restorer = Restorer.from_pretrained(old)
    drawn = []
    for step in trange(count // TOGETHER, unit_scale=TOGETHER, unit="image"):
        chance = Chance.of(seed * 2**32 + step)
        pairs = draw_pairs(images, TOGETHER, 2 * CROP, 1, chance, BLURS)
        asked = responses_asked(restorer, pairs)
        drawn.append(asked._replace(wanted=asked.wanted.half()))
    torch.save(list(joined(drawn)), file)


def joined(parts: list[Asked]) -> Asked:
    return Asked(*map(torch.cat, zip(*parts, strict=True)))


def taken(samples: Asked, chosen: Tensor) -> Asked:
    return Asked(*(part[chosen].float() for part in samples))


def rates(steps: int) -> Iterator[float]:
    """Up in a straight line, down in half a cosine."""
    for step in range(steps):
        yield RATE * min(1, (step + 1) / 100) * (0.5 + 0.5 * math.cos(math.pi * step / steps))


def followed(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    """EMA; of few steps their mean."""
    return mean.lerp(now, max(1 - DECAY, 1 / (int(count) + 1)))


@torch.no_grad()
def mean_loss(restorer: Restorer, samples: Asked, chosen: Tensor) -> float:
    parts = [taken(samples, part) for part in chosen.split(BATCH)]
    return float(torch.stack([asked_loss(restorer, part) for part in parts]).mean())


def fit(old: Path, out: Path, files: list[Path], epochs: int) -> None:
    samples = joined([Asked(*torch.load(file)) for file in files])
    together = torch.arange(len(samples.known)) // TOGETHER
    learnt, held = (together % HELD_OUT > 0).nonzero()[:, 0], (together % HELD_OUT == 0).nonzero()
    restorer = Restorer.from_pretrained(old)
    print(f"{len(together)} samples, held out: {mean_loss(restorer, samples, held[:, 0]):.4f}")
    learning = release(restorer, ("pixel_filter.response.",))
    average = AveragedModel(restorer, avg_fn=followed)
    optimiser = torch.optim.Adam(learning, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    steps = epochs * len(learnt) // BATCH
    for _, rate in zip(trange(steps), rates(steps), strict=True):
        optimiser.param_groups[0]["lr"] = rate
        chosen = learnt[torch.randint(len(learnt), (BATCH,), generator=generator)]
        asked_loss(restorer, taken(samples, chosen)).backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update_parameters(restorer)
    found: Any = average.module
    print(f"held out: {mean_loss(found, samples, held[:, 0]):.4f}")
    found.half().save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    drawing, fitting = commands.add_parser("draw"), commands.add_parser("fit")
    for command in (drawing, fitting):
        command.add_argument("old", type=Path)
    drawing.add_argument("file", type=Path)
    drawing.add_argument("--images", type=Path, action="append", required=True, dest="folders")
    drawing.add_argument("--count", type=int, default=40_000)
    drawing.add_argument("--seed", type=int, default=0)
    fitting.add_argument("out", type=Path)
    fitting.add_argument("files", type=Path, nargs="+")
    fitting.add_argument("--epochs", type=int, default=20)
    drawing.set_defaults(run=draw)
    fitting.set_defaults(run=fit)
    arguments = vars(parser.parse_args())
    arguments.pop("run")(**arguments)


if __name__ == "__main__":
    main()
