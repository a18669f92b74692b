"""Fits parts of a restorer to many samples, each seen many times.

Nothing else learns with them, and what they see of an image is small: `vrdir train` makes an image
for each time that they learn from one, which takes a hundred times as long as to learn. The parts
are ZoomFilter (`zoom`), MotionFilter (`motion`), DefocusFilter (`defocus`), the judgements of
`streaks` and `noise`, PixelFilter's frequency `response`, and `worth`, for which teachers are
asked.

`python tools/fit.py draw PART OLD FILE --images FOLDER ... [--teacher NAME=WEIGHTS ...]` writes
what the part is to learn by the weights in OLD: one process a core, each with a --seed of its own.
Then `python tools/fit.py fit PART OLD OUT FILE ...` writes OLD with another such part into OUT, and
prints its loss on a twentieth of the samples, from which nothing was learnt.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor, nn
from torch.optim.swa_utils import AveragedModel
from tqdm import trange

from vrdir_plug.cli import build_teacher
from vrdir_plug.data import Chance, Pairs, draw_pairs, mixed, read_folder
from vrdir_plug.restorer import Restorer
from vrdir_plug.teachers import Teacher
from vrdir_plug.training import (
    CROP,
    STAGES,
    Asked,
    Choice,
    Discs,
    Moves,
    Rays,
    Stage,
    Valued,
    asked_loss,
    choose,
    discs_loss,
    discs_of,
    kept,
    moves_loss,
    moves_of,
    noises_loss,
    noises_of,
    pace,
    rays_loss,
    rays_of,
    release,
    responses_asked,
    streaks_loss,
    streaks_of,
    valued,
    valued_loss,
)

TOGETHER = 16  # images that are drawn at once
BATCH = 128
HELD_OUT = 20  # every so many of those drawn together are not learnt from
RATE, DECAY = 3e-3, 0.998


Drawn = Callable[[Restorer, Pairs, Sequence[Teacher], Generator], Any]


class Part(NamedTuple):
    """The stage of `vrdir train` in whose place it is fitted, what a sample of it is, how that is
    drawn from images, and its loss."""

    stage: Stage
    sample: Any
    drawn: Drawn
    loss: Callable[[Restorer, Any], Tensor]

    @property
    def learns(self) -> tuple[str, ...]:
        """Parts of the restorer's parameter names; the stage has the learner's."""
        return tuple(name.removeprefix(".") for name in self.stage.learns)


def known_by(made: Callable[[Restorer, Pairs], Any]) -> Drawn:
    """Samples for which nobody is asked, and nothing is left to chance."""
    return lambda restorer, pairs, teachers, generator: made(restorer, pairs)


def asked(restorer: Restorer, pairs: Pairs) -> Asked:
    found = responses_asked(restorer, pairs)
    return found._replace(wanted=found.wanted.half())


def rays(restorer: Restorer, pairs: Pairs) -> Rays:
    return rays_of(pairs)


def valued_by_one(
    restorer: Restorer, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> Valued:
    return valued(restorer, pairs, teachers[choose(teachers, generator)])


def moves(
    restorer: Restorer, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> Moves:
    found = moves_of(pairs, generator)
    return found._replace(profiles=found.profiles.half())


def known_by_chance(made: Callable[[Restorer, Pairs, Generator], Any]) -> Drawn:
    """Samples for which nobody is asked."""
    return lambda restorer, pairs, teachers, generator: made(restorer, pairs, generator)


STAGE = {stage.name: stage for stage in STAGES}
PARTS = {
    "zoom": Part(STAGE["zoom"], Rays, known_by(rays), rays_loss),
    "motion": Part(STAGE["motion"], Moves, moves, moves_loss),
    "defocus": Part(STAGE["defocus"], Discs, known_by_chance(discs_of), discs_loss),
    "streaks": Part(STAGE["streaks"], Choice, known_by(streaks_of), streaks_loss),
    "noise": Part(STAGE["noise"], Choice, known_by(noises_of), noises_loss),
    "response": Part(STAGE["response"], Asked, known_by(asked), asked_loss),
    "worth": Part(STAGE["worth"], Valued, valued_by_one, valued_loss),
}


def draw(
    part: Part,
    old: Path,
    file: Path,
    folders: list[Path],
    teachers: list[Teacher],
    count: int,
    seed: int,
) -> None:
    images = [image for folder in folders for image in read_folder(folder)]
    restorer, stage = Restorer.from_pretrained(old), part.stage
    size, drawn = stage.sides * CROP, []
    for step in trange(count // TOGETHER, unit_scale=TOGETHER, unit="image"):
        chance = Chance.of(mixed(seed, step))
        pairs = draw_pairs(images, TOGETHER, size, stage.most, chance, stage.oftener)
        drawn.append(part.drawn(restorer, pairs, teachers, chance.choices))
    torch.save(list(joined(part, drawn)), file)


def joined(part: Part, samples: list[Any]) -> Any:
    return part.sample(*map(torch.cat, zip(*samples, strict=True)))


def taken(samples: Any, chosen: Tensor) -> Any:
    return type(samples)(*(numbers[chosen].float() for numbers in samples))


def followed(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    return mean.lerp(now, 1 - kept(int(count), DECAY))


@torch.no_grad()
def mean_loss(part: Part, restorer: Restorer, samples: Any, chosen: Tensor) -> float:
    batches = [taken(samples, some) for some in chosen.split(BATCH)]
    return float(torch.stack([part.loss(restorer, batch) for batch in batches]).mean())


def fit(part: Part, old: Path, out: Path, files: list[Path], epochs: int) -> None:
    samples = joined(part, [torch.load(file) for file in files])
    together = torch.arange(len(samples[0])) // TOGETHER
    learnt, held = (together % HELD_OUT > 0).nonzero()[:, 0], (together % HELD_OUT == 0).nonzero()
    restorer = Restorer.from_pretrained(old)
    print(
        f"{len(together)} samples, held out: {mean_loss(part, restorer, samples, held[:, 0]):.4f}"
    )
    learning = release(restorer, part.learns)
    average = AveragedModel(restorer, avg_fn=followed)
    optimiser = torch.optim.Adam(learning, betas=(0.9, 0.99))
    generator = torch.Generator().manual_seed(0)
    steps = epochs * len(learnt) // BATCH
    for step in trange(steps):
        optimiser.param_groups[0]["lr"] = RATE * pace(step, steps)
        chosen = learnt[torch.randint(len(learnt), (BATCH,), generator=generator)]
        part.loss(restorer, taken(samples, chosen)).backward()
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update_parameters(restorer)
    found: Any = average.module
    print(f"held out: {mean_loss(part, found, samples, held[:, 0]):.4f}")
    found.half().save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    drawing, fitting = commands.add_parser("draw"), commands.add_parser("fit")
    for command in (drawing, fitting):
        command.add_argument("part", choices=PARTS)
        command.add_argument("old", type=Path)
    drawing.add_argument("file", type=Path)
    drawing.add_argument("--images", type=Path, action="append", required=True, dest="folders")
    drawing.add_argument("--teacher", action="append", default=[], dest="teachers")
    drawing.add_argument("--count", type=int, default=40_000)
    drawing.add_argument("--seed", type=int, default=0)
    fitting.add_argument("out", type=Path)
    fitting.add_argument("files", type=Path, nargs="+")
    fitting.add_argument("--epochs", type=int, default=20)
    drawing.set_defaults(run=draw)
    fitting.set_defaults(run=fit)
    arguments = vars(parser.parse_args())
    if arguments["part"] == "worth" and arguments.get("teachers") == []:
        parser.error("what restoring is worth a --teacher says: name at least one")
    if "teachers" in arguments:
        named = (name.partition("=")[::2] for name in arguments["teachers"])
        arguments["teachers"] = [build_teacher(*name) for name in named]
    arguments["part"] = PARTS[arguments["part"]]
    arguments.pop("run")(**arguments)


if __name__ == "__main__":
    main()
