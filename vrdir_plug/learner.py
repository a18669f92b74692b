"""What learns in a training run, and the form that the loss of every stage has."""

from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Generator, Tensor, nn

from .data import Pairs
from .restorer import Restorer
from .teachers import Teacher

CROP = 112  # pixels


class Learner(nn.Module):
    """What a training run holds: the restorer, and the throw-away heads of the stage "encoder"."""

    def __init__(self, restorer: Restorer, teachers: Sequence[Teacher]):
        super().__init__()
        self.restorer = restorer
        channels = restorer.config.channels
        with torch.no_grad():
            images = next(restorer.parameters()).new_zeros(1, 3, CROP, CROP)
            depths = [self.target(teacher, images) for teacher in teachers]
        self.heads = nn.ModuleList(nn.Conv2d(channels, d.shape[1], 1) for d in depths)
        # E is also asked to keep the picture, or SAD could not rebuild it
        self.patch = 2 if restorer.config.published else 4
        self.pixels = nn.Conv2d(channels, 3 * self.patch**2, 1)

    @staticmethod
    def target(teacher: Teacher, images: Tensor) -> Tensor:
        """The teacher's features at a quarter and an eighth of the resolution, side by side."""
        fine, coarse = teacher(images)[:2]
        return torch.cat([fine, F.interpolate(coarse, fine.shape[-2:], mode="bilinear")], 1)


Loss = Callable[[Learner, Pairs, Sequence[Teacher], Generator], dict[str, Tensor]]


def choose(teachers: Sequence[Teacher], generator: Generator) -> int:
    """One teacher a step, each as often: what all of them need, not one network's taste."""
    return int(torch.randint(len(teachers), (), generator=generator))
