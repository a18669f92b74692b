"""Fits parts of a restorer to many samples, each seen many times.

Nothing else learns with them, and what they see of an image is small: `vrdir train` makes an image
for each time that they learn from one, which takes a hundred times as long as to learn. The parts
are ZoomFilter (`zoom`), MotionFilter (`motion`), DefocusFilter (`defocus`), the judgements of
`streaks`, `noise` and what is `covered`, PixelFilter's frequency `response`, all that makes images
`enhanced`, for which teachers are asked while it learns, and `worth`, for which they are asked
before.

`python tools/fit.py draw PART OLD FILE --images FOLDER ... [--teacher NAME=WEIGHTS ...]` writes
what the part is to learn by the weights in OLD: one process a core, each with a --seed of its own.
Then `python tools/fit.py fit PART OLD OUT FILE ... [--teacher NAME=WEIGHTS ...]` writes OLD with
another such part into OUT, and prints its loss on a twentieth of the samples, from which nothing
was learnt. Under torchrun, one process a core, it learns from as many times the batch.
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
from vrdir_plug.filter_stages import (
    Asked,
    Choice,
    Discs,
    Moves,
    Rays,
    asked_loss,
    discs_loss,
    discs_of,
    moves_loss,
    moves_of,
    noises_loss,
    noises_of,
    rays_loss,
    rays_of,
    responses_asked,
    streaks_loss,
    streaks_of,
)
from vrdir_plug.learner import CROP, choose
from vrdir_plug.network_stages import (
    Lit,
    Valued,
    covers_loss,
    covers_of,
    lit_loss,
    lit_of,
    valued,
    valued_loss,
)
from vrdir_plug.processes import Processes
from vrdir_plug.restorer import Restorer
from vrdir_plug.stages import STAGES, Stage, release
from vrdir_plug.teachers import Teacher
from vrdir_plug.training import in_bfloat16, kept, pace

TOGETHER = 16  # images that are drawn at once
HELD_OUT = 20  # every so many of those drawn together are not learnt from
DECAY = 0.998


Drawn = Callable[[Restorer, Pairs, Sequence[Teacher], Generator], Any]
Lost = Callable[[Restorer, Any, Sequence[Teacher], Generator], Tensor]


class Part(NamedTuple):
    """The stage of `vrdir train` in whose place it is fitted, what a sample of it is, how that is
    drawn from images, and its loss; from how many samples it learns in a step of a process, and at
    what rate."""

    stage: Stage
    sample: Any
    drawn: Drawn
    loss: Lost
    batch: int = 128
    rate: float = 3e-3

    @property
    def learns(self) -> tuple[str, ...]:
        """Parts of the restorer's parameter names; the stage has the learner's."""
        return tuple(name.removeprefix(".") for name in self.stage.learns)


def known_by(made: Callable[[Restorer, Pairs], Any]) -> Drawn:
    """Samples for which nobody is asked, and nothing is left to chance."""
    return lambda restorer, pairs, teachers, generator: made(restorer, pairs)


def unasked(loss: Callable[[Restorer, Any], Tensor]) -> Lost:
    """For which no teacher is there any more."""
    return lambda restorer, samples, teachers, generator: loss(restorer, samples)


def asked(restorer: Restorer, pairs: Pairs) -> Asked:
    found = responses_asked(restorer, pairs)
    return found._replace(wanted=found.wanted.half())


def rays(restorer: Restorer, pairs: Pairs) -> Rays:
    return rays_of(pairs)


def lit(restorer: Restorer, pairs: Pairs) -> Lit:
    """Of those images that are enhanced at all."""
    found = lit_of(restorer, pairs)
    found = found._replace(bands=found.bands.half(), clean=found.clean.byte())
    return Lit(*(numbers[found.needed > 0] for numbers in found))


def by_one(made: Callable[[Restorer, Pairs, Teacher], Any]) -> Drawn:
    """Samples for which one of the teachers is asked."""
    return lambda restorer, pairs, teachers, generator: made(
        restorer, pairs, teachers[choose(teachers, generator)]
    )


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
    "zoom": Part(STAGE["zoom"], Rays, known_by(rays), unasked(rays_loss)),
    "motion": Part(STAGE["motion"], Moves, moves, unasked(moves_loss)),
    "defocus": Part(STAGE["defocus"], Discs, known_by_chance(discs_of), unasked(discs_loss)),
    "streaks": Part(STAGE["streaks"], Choice, known_by(streaks_of), unasked(streaks_loss)),
    "noise": Part(STAGE["noise"], Choice, known_by(noises_of), unasked(noises_loss)),
    "response": Part(STAGE["response"], Asked, known_by(asked), unasked(asked_loss)),
    "enhanced": Part(STAGE["enhanced"], Lit, known_by(lit), lit_loss, 8, 6e-4),
    "covered": Part(STAGE["covered"], Choice, known_by(covers_of), unasked(covers_loss)),
    "worth": Part(STAGE["worth"], Valued, by_one(valued), unasked(valued_loss)),
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


def loaded(part: Part, files: Sequence[Path]) -> list[Any]:
    """The samples of each file, which stay there: processes share what is read of them."""
    return [part.sample(*torch.load(file, mmap=True)) for file in files]


def taken(part: Part, files: list[Any], chosen: Tensor) -> Any:
    """The samples (count,) of those of all files, counted on from one to the next."""
    found = []
    for samples in files:
        here = chosen[(chosen >= 0) & (chosen < len(samples[0]))]
        found.append(part.sample(*(numbers[here].float() for numbers in samples)))
        chosen = chosen - len(samples[0])
    return joined(part, found)


def followed(mean: Tensor, now: Tensor, count: Tensor | int) -> Tensor:
    return mean.lerp(now, 1 - kept(int(count), DECAY))


def lost(
    part: Part, restorer: Restorer, samples: Any, teachers: list[Teacher], generator: Generator
) -> Tensor:
    """In the precision of `vrdir train`."""
    with in_bfloat16(torch.device("cpu")):
        return part.loss(restorer, samples, teachers, generator)


@torch.no_grad()
def mean_loss(
    part: Part, restorer: Restorer, teachers: list[Teacher], files: list[Any], chosen: Tensor
) -> float:
    generator = Generator().manual_seed(0)
    batches = (taken(part, files, some) for some in chosen.split(part.batch))
    found = (lost(part, restorer, batch, teachers, generator) * len(batch[0]) for batch in batches)
    return float(sum(found)) / len(chosen)


def fit(
    part: Part, old: Path, out: Path, files: list[Path], teachers: list[Teacher], epochs: int
) -> None:
    processes, samples = Processes(), loaded(part, files)
    together = torch.arange(sum(len(some[0]) for some in samples)) // TOGETHER
    learnt, held = ((together % HELD_OUT > 0) == flag for flag in (True, False))
    learnt, held = (which.nonzero()[:, 0] for which in (learnt, held))
    restorer: Any = Restorer.from_pretrained(old)
    restorer.to(memory_format=torch.channels_last)
    if processes.rank == 0:
        before = mean_loss(part, restorer, teachers, samples, held)
        print(f"{len(together)} samples, held out: {before:.4f}")
    learning = release(restorer, part.learns)
    average = AveragedModel(restorer, avg_fn=followed)
    optimiser = torch.optim.Adam(learning, betas=(0.9, 0.99))
    generator = Generator().manual_seed(mixed(0, processes.rank))
    steps = epochs * len(learnt) // (part.batch * processes.count)
    for step in trange(steps, disable=processes.rank > 0):
        optimiser.param_groups[0]["lr"] = part.rate * pace(step, steps)
        chosen = learnt[torch.randint(len(learnt), (part.batch,), generator=generator)]
        lost(part, restorer, taken(part, samples, chosen), teachers, generator).backward()
        processes.average_gradients(learning)
        nn.utils.clip_grad_norm_(learning, 1.0)
        optimiser.step()
        optimiser.zero_grad()
        average.update_parameters(restorer)
    found: Any = average.module
    if processes.rank == 0:
        print(f"held out: {mean_loss(part, found, teachers, samples, held):.4f}")
        found.half().save_pretrained(out)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    drawing, fitting = commands.add_parser("draw"), commands.add_parser("fit")
    for command in (drawing, fitting):
        command.add_argument("part", choices=PARTS)
        command.add_argument("old", type=Path)
        command.add_argument("--teacher", action="append", default=[], dest="teachers")
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
    asking = "enhanced" if arguments["run"] is fit else "worth"
    if arguments["part"] == asking and not arguments["teachers"]:
        parser.error(f"a --teacher is asked for {arguments['part']!r}: name at least one")
    named = (name.partition("=")[::2] for name in arguments["teachers"])
    arguments["teachers"] = [build_teacher(*name) for name in named]
    arguments["part"] = PARTS[arguments["part"]]
    arguments.pop("run")(**arguments)


if __name__ == "__main__":
    main()
