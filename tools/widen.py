"""A larger network that does what a smaller one does: where the training of `strong` begins.

`python tools/widen.py OLD OUT PROFILE` writes the weights in OLD, of one block, into OUT with the
sizes of the profile: more channels, a wider unit, further blocks. What is new changes nothing yet.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from vrdir_plug.bands import BANDS, SPECTRUM
from vrdir_plug.config import RestorerConfig, config_of
from vrdir_plug.restorer import Restorer

BLOCK = "ise.blocks.0."
# of what the axes of weights are made, one part after the other: channels, a quarter of them,
# width, bands, spectrum; further axes stay
AXES: dict[str, tuple[str, ...]] = {
    "encoder.spatial.weight": ("C", "B"),
    "encoder.spatial.bias": ("C",),
    "encoder.semantic.weight": ("C", "C"),
    "encoder.semantic.bias": ("C",),
    "ise.fgm.amplitudes.weight": ("C", "C"),
    "ise.fgm.amplitudes.bias": ("C",),
    "ise.fgm.local.weight": ("", "CB"),
    BLOCK + "unit.enter.weight": ("W", "C"),
    BLOCK + "unit.enter.bias": ("W",),
    BLOCK + "unit.leave.weight": ("W", "W"),
    BLOCK + "unit.leave.bias": ("W",),
    BLOCK + "unit.head.weight": ("CC", "W"),
    BLOCK + "unit.head.bias": ("CC",),
    BLOCK + "unit.steer.weight": ("WWWW",),
    BLOCK + "unit.steer.bias": ("WWWW",),
    BLOCK + "unit.strength.weight": ("C",),
    BLOCK + "unit.strength.bias": ("C",),
    BLOCK + "dnc.gamma": ("", "C"),
    BLOCK + "dnc.beta": ("", "C"),
    BLOCK + "dnc.reduce": ("", "Q", "CCS"),
    BLOCK + "dnc.expand": ("", "Q", "CC"),
    BLOCK + "dnc.bias": ("", "CC"),
    "decoder.0.weight": ("", "C"),
}
# which of them see what is new, and the axis of what they make of it
SEE = {
    **dict.fromkeys(("encoder.spatial.weight", "encoder.semantic.weight"), 0),
    **dict.fromkeys(("ise.fgm.amplitudes.weight", "ise.fgm.local.weight"), 0),
    BLOCK + "unit.enter.weight": 0,
    **dict.fromkeys((BLOCK + "unit.leave.weight", BLOCK + "unit.head.weight"), 0),
    BLOCK + "dnc.reduce": 1,
}


def sizes(config: RestorerConfig) -> dict[str, int]:
    channels = config.channels
    parts = {"C": channels, "Q": channels // 4, "W": config.units[0][0]}
    return parts | {"B": BANDS, "S": SPECTRUM}


def places(axis: str, length: int, old: dict[str, int], new: dict[str, int]) -> Tensor:
    """Where in a new axis each number of an old one, of this length, stands."""
    found, start = [], 0
    for part in axis:
        found.append(torch.arange(start, start + old[part]))
        start += new[part]
    return torch.cat(found) if found else torch.arange(length)


def widened(small: Restorer, config: RestorerConfig) -> Restorer:
    """A network of these sizes, with the small one's bypass, which enhances all images, as it would
    have."""
    had = small.config
    large = Restorer(replace(config, bypass=had.bypass))
    values, given = large.state_dict(), small.state_dict()
    for name, axes in AXES.items():
        weight, made = given[name], values[name]
        found = [
            places(axis, length, sizes(had), sizes(config))
            for axis, length in zip((*axes, "", "", ""), weight.shape, strict=False)
        ]
        if name in SEE:
            made.index_fill_(SEE[name], found[SEE[name]], 0)
        made[torch.meshgrid(*found, indexing="ij")] = weight.to(made.dtype)
    large.load_state_dict(values | {name: given[name] for name in given.keys() - AXES.keys()})
    return large


def main(old: str, out: str, profile: str) -> None:
    torch.manual_seed(0)
    large = widened(Restorer.from_pretrained(Path(old)), config_of(profile))
    large.half().save_pretrained(out)


if __name__ == "__main__":
    main(*sys.argv[1:]) if len(sys.argv) == 4 else sys.exit(__doc__)
