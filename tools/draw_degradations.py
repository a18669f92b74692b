"""Draws every training degradation at its five severities.

`python tools/draw_degradations.py docs/degradations.jpg`, with vrdir-plug[demo] installed. The
photograph is scikit-image's coffee (Rachel Michetti, CC0).
"""

import sys
from pathlib import Path

import numpy as np
import skimage.data
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from vrdir_plug.degradations import ORDER, Degradation

SIZE, GAP, MARGIN = 128, 4, 104


def photograph() -> Tensor:
    """(1, 3, SIZE, SIZE), RGB in [0, 1]."""
    middle = Image.fromarray(skimage.data.coffee()).crop((100, 0, 500, 400)).resize((SIZE, SIZE))
    return torch.from_numpy(np.array(middle)).permute(2, 0, 1)[None] / 255


def row(kind: Degradation, image: Tensor) -> list[Image.Image]:
    """Severities 1 to 5, by the same dice each."""
    pictures = []
    for severity in range(1, 6):
        degraded = kind(image, torch.tensor([float(severity)]), torch.Generator().manual_seed(1))
        pixels = (degraded[0].permute(1, 2, 0) * 255).round().byte().numpy()
        pictures.append(Image.fromarray(pixels))
    return pictures


def main(path: Path) -> None:
    step = SIZE + GAP
    sheet = Image.new("RGB", (2 * (MARGIN + 5 * step), step * ((len(ORDER) + 1) // 2)), "white")
    draw = ImageDraw.Draw(sheet)
    for number, kind in enumerate(ORDER):
        left, top = number % 2 * (MARGIN + 5 * step), number // 2 * step
        draw.text((left + 4, top + SIZE // 2 - 6), kind.__name__.replace("_", " "), "black")
        for column, picture in enumerate(row(kind, photograph())):
            sheet.paste(picture, (left + MARGIN + column * step, top))
    sheet.save(path, quality=88)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
