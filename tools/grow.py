"""Weights of the network before StreakFilter, brought into it.

`python tools/grow.py OLD OPTIONS` reads the folder OLD, of format 5, and trains StreakFilter alone,
as the stage "streaks" of `vrdir train` does, whose options it takes, --start apart. Under torchrun
it is `torchrun --nproc-per-node 2 tools/grow.py OLD OPTIONS`.
"""

import sys
import tempfile
from pathlib import Path

from safetensors.torch import load_file

from vrdir_plug import cli, training
from vrdir_plug.restorer import Restorer
from vrdir_plug.weights import MODEL

STREAKS = next(stage for stage in training.STAGES if stage.name == "streaks")


def grown(folder: Path) -> Restorer:
    restorer = Restorer("fast")
    restorer.load_state_dict(restorer.state_dict() | load_file(folder / MODEL))
    return restorer


def main(old: str, *options: str) -> int:
    training.STAGES = (STREAKS,)
    with tempfile.TemporaryDirectory() as folder:
        grown(Path(old)).save_pretrained(folder)
        return cli.main(["train", "--start", folder, *options])


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]) if sys.argv[2:] else __doc__)
