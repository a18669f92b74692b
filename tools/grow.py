"""Weights of an earlier format brought into the network of today.

`python tools/grow.py STAGE OLD OPTIONS` reads the folder OLD, of format 7 or later, and trains
one stage of `vrdir train` alone, whose options it takes, --start apart. Under torchrun it is
`torchrun --nproc-per-node 2 tools/grow.py STAGE OLD OPTIONS`. For the stages "denoiser" and "over"
a network that has none is given the one of `strong`.
"""

import json
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from safetensors.torch import load_file

from vrdir_plug import cli, stages
from vrdir_plug.config import RestorerConfig, config_of
from vrdir_plug.restorer import Restorer
from vrdir_plug.weights import CONFIG, MODEL

ASKED = (
    *("pixel_filter.asks.0.weight", "pixel_filter.response.asks.0.weight"),
    "worth.0.weight",
)


def renamed(name: str) -> str:
    """The pairs of the Denoiser had other names up to format 19, and stood in one row of four."""
    found = re.fullmatch(r"(pixel_filter\.denoiser)\.body\.(\d)\.(\d)\.weight", name)
    if not found:
        return name
    place, half = divmod(int(found[2]), 2), ("first", "second")[int(found[3]) // 2]
    return f"{found[1]}.{('first', 'last')[place[0]]}.{place[1]}.{half}.weight"


def grown(folder: Path, **sizes: Any) -> Restorer:
    """The weights in the folder, in a network of other `sizes` where those are named."""
    config = json.loads((folder / CONFIG).read_text())
    del config["format"]
    config = {"enhanced_from": 0.0, "denoiser": 0, "weather": 0} | config | sizes
    restorer = Restorer(RestorerConfig.from_dict(config))
    old = {renamed(name): value for name, value in load_file(folder / MODEL).items()}
    values = restorer.state_dict() | old
    for name in ASKED:  # what is new stands last, and changes nothing yet
        more = restorer.get_parameter(name).shape[1] - values[name].shape[1]
        values[name] = F.pad(values[name], (0, 0, 0, 0, 0, more))
    restorer.load_state_dict(values)
    return restorer


def trained(restorer: Restorer, options: Sequence[str]) -> int:
    """`vrdir train` with these options, from this network on."""
    with tempfile.TemporaryDirectory() as folder:
        restorer.save_pretrained(folder)
        return cli.main(["train", "--start", folder, *options])


def main(name: str, old: str, *options: str) -> int:
    stages.STAGES = tuple(stage for stage in stages.STAGES if stage.name == name)
    strong = config_of("strong")
    new = {"denoiser": {"denoiser": strong.denoiser}, "over": {"weather": strong.weather}}
    sizes = {"profile": strong.profile, **new[name]} if name in new else {}
    return trained(grown(Path(old), **sizes), options)


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[3:] else __doc__)
