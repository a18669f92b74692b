"""What the prior of VRD-IR is worth: E and SAD trained first, as published, or all of it at once.

`python tools/priors.py NAME IMAGES HELD_OUT TEACHER [STEPS]` trains `fast` from nothing on the
photographs below the folder IMAGES, as the variant NAME says, and prints what it gains in PSNR on
those below HELD_OUT, for each family of training degradations at severity 3. TEACHER is a file with
torchvision's MobileNetV2. Same seed for every name. Their table is in docs/ablations.md.
"""

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
import torch.nn.functional as F
from architectures import PIXELS, gains, held_out_images, print_row, trained
from torch import Generator, Tensor

from vrdir_plug import Restorer
from vrdir_plug.cli import build_teacher
from vrdir_plug.data import Pairs, read_folder
from vrdir_plug.learner import Learner
from vrdir_plug.network_stages import decoder_loss
from vrdir_plug.stages import STAGES
from vrdir_plug.teachers import Teacher


def literal_ranking(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    """L_rank as the authors code it: relu(1 - (cos(SAD(E(c)), c) - cos(SAD(E(d)), d)))."""
    restorer = learner.restorer

    def likeness(images: Tensor) -> Tensor:
        rebuilt = restorer.decode(restorer.encode(images))
        return F.cosine_similarity(rebuilt.flatten(1), images.flatten(1))

    found = no_ranking(learner, pairs, teachers, generator)
    gap = likeness(pairs.clean) - likeness(pairs.degraded)
    return {**found, "ranking": F.relu(1 - gap).mean()}


def no_ranking(
    learner: Learner, pairs: Pairs, teachers: Sequence[Teacher], generator: Generator
) -> dict[str, Tensor]:
    found = decoder_loss(learner, pairs, teachers, generator)
    del found["ranking"]
    return found


# a fifth of the steps for the prior: more than in the recipe, so that it can show
NAMED = {stage.name: stage for stage in STAGES}
ENCODER, DECODER = replace(NAMED["encoder"], share=0.14), replace(NAMED["decoder"], share=0.06)
ALL = replace(PIXELS, share=0.8)
FROZEN = replace(ALL, learns=("restorer.ise.", "restorer.pixel_dnc."))
WITHOUT_E = replace(PIXELS, learns=("restorer.ise.", "restorer.pixel_dnc.", "restorer.decoder."))
VARIANTS = {
    "joint": (PIXELS,),
    "random-encoder": (WITHOUT_E,),
    "prior": (ENCODER, DECODER, ALL),
    "prior-frozen": (ENCODER, DECODER, FROZEN),
    "ranking-off": (ENCODER, replace(DECODER, loss=no_ranking), FROZEN),
    "ranking-literal": (ENCODER, replace(DECODER, loss=literal_ranking), FROZEN),
}


def main(name: str, images: str, held_out: str, teacher: str, steps: str = "1000") -> None:
    torch.manual_seed(0)
    teachers = [build_teacher("torchvision:mobilenet_v2", teacher)]
    clean, photographs = held_out_images(held_out), read_folder(Path(images))
    network = trained(Restorer("fast"), photographs, int(steps), VARIANTS[name], teachers)
    print_row([name, *(f"{gain:+.2f}" for gain in gains(network, clean))])


if __name__ == "__main__":
    main(*sys.argv[1:]) if sys.argv[4:] else sys.exit(__doc__)
