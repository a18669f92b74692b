"""Weights of the network before PixelFilter, brought into it.

`python tools/grow.py OLD NEW STEPS IMAGES...` reads the folder OLD, trains PixelFilter on the
photographs below the folders IMAGES as the first stage of `vrdir train` does, 16 crops of 192 px a
step, sets Light's switches, and writes the folder NEW.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from architectures import trained
from safetensors.torch import load_file

from vrdir_plug.data import read_folder
from vrdir_plug.restorer import Restorer
from vrdir_plug.training import STAGES, switched_on
from vrdir_plug.weights import MODEL


def grown(folder: Path) -> Restorer:
    restorer = Restorer("fast")
    restorer.load_state_dict(restorer.state_dict() | load_file(folder / MODEL))
    return switched_on(restorer)


def main(old: str, new: str, steps: str, *folders: str) -> None:
    torch.manual_seed(0)
    images = [image for folder in folders for image in read_folder(Path(folder))]
    stage = replace(STAGES[0], learns=(".pixel_filter.",))
    restorer = trained(grown(Path(old)), images, int(steps), (stage,), batch=64)
    restorer.save_pretrained(new)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[4:] else sys.exit(__doc__)
