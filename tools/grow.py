"""Weights of the network before PixelFilter and the third window of PixelDNC, brought into it.

`python tools/grow.py OLD NEW STEPS IMAGES...` reads the folder OLD, trains PixelFilter on the
photographs below the folders IMAGES as the first stage of `vrdir train` does, 16 crops of 192 px a
step, switches the stretching of narrow ranges on, and writes the folder NEW. The third window stays
at rest until `vrdir train --start NEW`.
"""

import sys
from dataclasses import replace
from pathlib import Path

import torch
from architectures import trained
from safetensors.torch import load_file
from torch import Tensor

from vrdir_plug.data import read_folder
from vrdir_plug.restorer import Restorer
from vrdir_plug.training import STAGES, switched_on
from vrdir_plug.weights import MODEL


def widened(name: str, old: Tensor, new: Tensor) -> Tensor:
    """PixelDNC's numbers for two windows beside those that a third one starts with.

    Along a side that grew, they are of means, of deviations (or of both gates), then of context.
    """
    for side, (few, many) in enumerate(zip(old.shape, new.shape, strict=True)):
        if few != many:
            places = torch.arange(many)
            kept = torch.cat([places[:6], places[9:15], places[18:]])
            # gamma and beta stay as they start, gates at rest
            rest = torch.zeros_like(new) if side == 2 or "bias" in name else new
            return rest.index_copy(side, kept[:few], old.to(new.dtype))
    return old


def grown(folder: Path) -> Restorer:
    restorer = Restorer("fast")
    state, old = restorer.state_dict(), load_file(folder / MODEL)
    state |= {name: widened(name, tensor, state[name]) for name, tensor in old.items()}
    restorer.load_state_dict(state)
    return switched_on(restorer)


def main(old: str, new: str, steps: str, *folders: str) -> None:
    torch.manual_seed(0)
    images = [image for folder in folders for image in read_folder(Path(folder))]
    stage = replace(STAGES[0], learns=(".pixel_filter.",))
    restorer = trained(grown(Path(old)), images, int(steps), (stage,), batch=64)
    restorer.save_pretrained(new)


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[4:] else sys.exit(__doc__)
