"""Training pairs made from a folder of clean images: no labels, no degraded counterparts."""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor
from tqdm import tqdm

from .degradations import CLEAN_FAMILY, FAMILIES, ORDER, Degradation
from .files import open_rgb

SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
SHORT_SIDE = 256
TOGETHER = 4  # neighbours in a batch that share their kinds of degradation, not the severities


@dataclass(frozen=True)
class Pairs:
    """Clean and degraded images (N, 3, S, S), RGB in [0, 1], and the family (N,) of each."""

    clean: Tensor
    degraded: Tensor
    family: Tensor


def read_image(path: Path) -> Tensor:
    """(3, H, W) uint8 RGB, its short side at most 256, turned upright."""
    image = open_rgb(path)
    share = SHORT_SIDE / min(image.size)
    if share < 1:
        size = round(image.width * share), round(image.height * share)
        image = image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def read_folder(folder: Path) -> list[Tensor]:
    """Every readable image below the folder, in the order of their names, held in memory.

    A file that cannot be read is warned of and left out; ValueError if there is none at all.
    """
    images = []
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    for path in tqdm(paths, desc="reading", unit="image", disable=None):
        try:
            images.append(read_image(path))
        except OSError as error:
            warnings.warn(f"left out {path}: {error}", stacklevel=2)
    if not images:
        raise ValueError(f"no readable image in {folder}: expected a folder of photographs")
    return images


def pick(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def random_crop(image: Tensor, size: int, generator: Generator) -> Tensor:
    """A square of 1 to 2 times the size, brought to the size, flipped at random: (3, S, S)."""
    height, width = image.shape[1:]
    side = min(size + pick(size + 1, generator), height, width)
    top, left = pick(height - side + 1, generator), pick(width - side + 1, generator)
    crop = image[:, top : top + side, left : left + side].float() / 255
    if side != size:
        crop = F.interpolate(crop[None], (size, size), mode="bilinear", antialias=True)[0]
    return crop.flip(2) if pick(2, generator) else crop


def draw_kinds(most: int, generator: Generator) -> tuple[int, list[Degradation]]:
    """A family and up to `most` degradations in physical order, the first family's among them.

    One draw in six is clean: no degradation at all.
    """
    if pick(6, generator) == 0:
        return CLEAN_FAMILY, []
    families = torch.randperm(CLEAN_FAMILY, generator=generator).tolist()
    # half of the draws are single kinds
    count = 1 if most == 1 or pick(2, generator) else 2 + pick(most - 1, generator)
    chosen = [FAMILIES[f][pick(len(FAMILIES[f]), generator)] for f in families[:count]]
    return families[0], sorted(chosen, key=ORDER.index)


def degrade(clean: Tensor, most: int, generator: Generator) -> tuple[Tensor, Tensor]:
    """Degrade (N, 3, H, W) at random: images rounded to 8 bits, and the family (N,) of each."""
    degraded, family = [], []
    for images in clean.split(TOGETHER):
        label, kinds = draw_kinds(most, generator)
        for kind in kinds:
            # several at once are each milder, as in the world
            severity = torch.rand(len(images), generator=generator) * 5 / len(kinds) ** 0.5
            images = kind(images, severity, generator)
        degraded.append((images.clamp(0, 1) * 255).round() / 255)
        family += [label] * len(images)
    return torch.cat(degraded), torch.tensor(family)


def draw_pairs(
    images: list[Tensor], count: int, size: int, most: int, generator: Generator
) -> Pairs:
    """Random crops of random images and what up to `most` degradations make of them."""
    chosen = [images[pick(len(images), generator)] for _ in range(count)]
    clean = torch.stack([random_crop(image, size, generator) for image in chosen])
    return Pairs(clean, *degrade(clean, most, generator))
