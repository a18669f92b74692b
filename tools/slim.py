"""A smaller network taught to do what a larger one does.

`python tools/slim.py OLD CHANNELS WIDTHS OPTIONS` takes all that is before E from the folder OLD,
and teaches an E, ISE and SAD of so many channels, with a unit of each of the widths ("24,24"), to
give what those of OLD give; OPTIONS are those of `vrdir train`, --start apart. Under torchrun it is
`torchrun --nproc-per-node 2 tools/slim.py OLD CHANNELS WIDTHS OPTIONS`.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import torch
from grow import trained
from torch import Generator, Tensor

from vrdir_plug import losses, stages
from vrdir_plug.data import Pairs
from vrdir_plug.learner import Learner
from vrdir_plug.restorer import Restorer
from vrdir_plug.teachers import Teacher

# not FGM's prior, which sees what the large one's sees
BEHIND = (".encoder.", ".ise.blocks.", ".fgm.amplitudes.", ".fgm.local.", ".fgm.gate.", ".decoder.")


def slim(large: Restorer, channels: int, widths: Sequence[int]) -> Restorer:
    """A network of other sizes, with all of the large one's weights that fit it."""
    units = tuple((width,) for width in widths)
    small = Restorer(replace(large.config, channels=channels, units=units))
    values = small.state_dict()
    shapes = {name: w.shape for name, w in values.items()}
    kept = {name: w for name, w in large.state_dict().items() if w.shape == shapes.get(name)}
    small.load_state_dict(values | kept)
    return small


def imitation_loss(
    large: Restorer,
    learner: Learner,
    pairs: Pairs,
    teachers: Sequence[Teacher],
    generator: Generator,
) -> dict[str, Tensor]:
    """How far from what the large network makes of the same: pixels, and FGM's gate."""
    with torch.no_grad():
        judged = large.judge(pairs.degraded)
        wanted = large.enhance(judged)
    given = learner.restorer.enhance(judged)
    return {
        "pixels": 20 * losses.pixel_loss(given.images, wanted.images),
        "gate": -0.1 * (wanted.gate * given.gate.clamp(min=1e-6).log()).sum(1).mean(),
    }


def main(old: str, channels: str, widths: str, *options: str) -> int:
    large = Restorer.from_pretrained(Path(old)).requires_grad_(False)
    loss = partial(imitation_loss, large)
    stage = stages.Stage("imitate", BEHIND, loss, 1.0, 2)
    stages.STAGES = (stage,)
    return trained(slim(large, int(channels), [int(w) for w in widths.split(",")]), options)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[4:] else __doc__)
