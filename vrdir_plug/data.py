"""Training pairs made from a folder of clean images: no labels, no degraded counterparts."""

import os
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Generator, Tensor
from tqdm import tqdm

from .degradations import (
    CLEAN_FAMILY,
    COVERS,
    FAMILIES,
    FILTERABLE,
    NOISE_FAMILY,
    ORDER,
    Degradation,
    dimmed,
    low_light,
    sensed,
)
from .files import SUFFIXES, ahead, open_rgb

SHORT_SIDE = 256
TOGETHER = 4  # neighbours in a batch share their scale and kinds of degradation, not severities
FULL = 1.5  # a severity from which a degradation counts in full
GROUPS = 8  # at most: a GPU's time is the number of calls
# degradations, alone or together in physical order
Oftener = Sequence[Degradation | tuple[Degradation, ...]]


def mixed(*numbers: int) -> int:
    """One seed of several, all of which count: a generator on the CPU takes only 32 bits of it."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> 1)


class Chance(NamedTuple):
    """Where randomness comes from: choices on the CPU, for no GPU to wait; pixels on the device."""

    choices: Generator
    pixels: Generator

    @classmethod
    def of(cls, seed: int, device: torch.device | str = "cpu") -> "Chance":
        return cls(Generator().manual_seed(seed), Generator(device).manual_seed(seed))


@dataclass(frozen=True)
class Pairs:
    """Clean and degraded images (N, 3, S, S), RGB in [0, 1]; the shares
    (N, families + 1) that the families of degradations have in each, the last one's if clean; which
    share of the kinds in each a filter can mend (N,); and the images (N, 3, S, S) as they were
    before noise fell on them, degraded if none did, and before anything lay over the scene, of use
    where nothing else came after that."""

    clean: Tensor
    degraded: Tensor
    families: Tensor
    filterable: Tensor
    noiseless: Tensor
    beneath: Tensor


def read_image(path: Path) -> Tensor:
    """(3, H, W) uint8 RGB, its short side at most 256, turned upright."""
    image = open_rgb(path)
    share = SHORT_SIDE / min(image.size)
    if share < 1:
        size = round(image.width * share), round(image.height * share)
        image = image.resize(size, Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def image_or_error(path: Path) -> Tensor | OSError:
    try:
        return read_image(path)
    except OSError as error:
        return error


def read_folder(folder: Path) -> list[Tensor]:
    """Every readable image below the folder, in the order of their names, held in memory.

    A file that cannot be read is warned of and left out; ValueError if there is none at all.
    """
    images = []
    paths = sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES)
    threads = os.cpu_count() or 1  # Pillow decodes without Python's lock
    with ThreadPoolExecutor(threads) as pool:
        read = ahead(pool, image_or_error, paths, 2 * threads)
        for path, image in zip(paths, tqdm(read, "reading", len(paths), disable=None), strict=True):
            if isinstance(image, Tensor):
                images.append(image)
            else:
                warnings.warn(f"left out {path}: {image}", stacklevel=2)
    if not images:
        raise ValueError(f"no readable image in {folder}: expected a folder of photographs")
    return images


def pick(count: int, generator: Generator) -> int:
    return int(torch.randint(count, (), generator=generator))


def random_crops(images: Sequence[Tensor], size: int, generator: Generator) -> Tensor:
    """Squares of 2/3 to 2 times the size, all of one side, brought to the size: (N, 3, S, S).

    All flipped or none: clean photographs are soft, too. A smaller image among them makes the
    squares smaller.
    """
    least = 2 * size // 3
    side, flip = least + pick(2 * size - least + 1, generator), pick(2, generator)
    side = min(side, *(length for image in images for length in image.shape[1:]))
    crops = torch.stack([random_crop(image, side, generator) for image in images]).float() / 255
    if side != size:
        crops = F.interpolate(crops, (size, size), mode="bilinear", antialias=True)
    return crops.flip(3) if flip else crops


def random_crop(image: Tensor, side: int, generator: Generator) -> Tensor:
    top, left = (pick(length - side + 1, generator) for length in image.shape[1:])
    return image[:, top : top + side, left : left + side]


def family_of(kind: Degradation) -> int:
    return next(n for n, family in enumerate(FAMILIES) if kind in family)


def draw_kinds(
    most: int, generator: Generator, oftener: Oftener = ()
) -> list[tuple[int, Degradation]]:
    """Up to `most` degradations in physical order, each with its family, no two of one.

    Half of the draws are one of those that are asked for oftener, or several together, if any are;
    of the others one in six is clean: no degradation at all.
    """
    if oftener and pick(2, generator) == 0:
        drawn = oftener[pick(len(oftener), generator)]
        kinds = drawn if isinstance(drawn, tuple) else (drawn,)
        return [(family_of(kind), kind) for kind in kinds]
    if pick(6, generator) == 0:
        return []
    families = torch.randperm(CLEAN_FAMILY, generator=generator).tolist()
    # half of the draws are single kinds
    count = 1 if most == 1 or pick(2, generator) else 2 + pick(most - 1, generator)
    chosen = [(f, FAMILIES[f][pick(len(FAMILIES[f]), generator)]) for f in families[:count]]
    return sorted(chosen, key=lambda drawn: ORDER.index(drawn[1]))


def shares_of(families: list[int], severities: Tensor) -> Tensor:
    """Families of K degradations, severities (K, N) -> shares (N, families + 1), sums 1.

    A mild degradation is hardly one: told to call every faint cast a fault, FGM called clean
    photographs faulty too.
    """
    weights = (severities / FULL).clamp(max=1)
    total = weights.amax(0) if families else severities.new_zeros(severities.shape[1])
    shares = severities.new_zeros(severities.shape[1], CLEAN_FAMILY + 1)
    shares[:, families] = (weights * (total / weights.sum(0).clamp(min=1e-6))).T
    shares[:, CLEAN_FAMILY] = 1 - total
    return shares


def degrade(
    clean: Tensor, most: int, chance: Chance, oftener: Oftener = ()
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Degrade a group (N, 3, H, W) by the same kinds: rounded to 8 bits, the families' shares, that
    of filterable kinds, and what it was before noise, and before anything lay over it."""
    drawn = draw_kinds(most, chance.choices, oftener)
    # several at once are each milder, as in the world
    most_severe = 5 / max(1, len(drawn)) ** 0.5
    severities = torch.rand(len(drawn), len(clean), generator=chance.choices) * most_severe
    images, before, beneath = clean, [], []
    for (family, kind), severity in zip(drawn, severities.to(clean.device), strict=True):
        if kind is low_light:  # which brings noise of its own
            images, kind = dimmed(images, severity, chance.pixels), sensed
        if kind is sensed or family == NOISE_FAMILY:
            before.append(images)
        if kind in COVERS:
            beneath.append(images)
        images = kind(images, severity, chance.pixels)
    degraded = (images.clamp(0, 1) * 255).round() / 255
    families = shares_of([family for family, _ in drawn], severities)
    share = sum(kind in FILTERABLE for _, kind in drawn) / max(1, len(drawn))
    filterable = clean.new_full((len(clean),), share)
    firsts = (*before, degraded)[0], (*beneath, degraded)[0]
    return degraded, families.to(images.device), filterable, *firsts


def draw_pairs(
    images: Sequence[Tensor],
    count: int,
    size: int,
    most: int,
    chance: Chance,
    oftener: Oftener = (),
) -> Pairs:
    """Random crops of random images, on their device, and what degradations make of them: see
    `draw_kinds`."""
    chosen = [images[pick(len(images), chance.choices)] for _ in range(count)]
    together = max(TOGETHER, count // GROUPS)
    groups = [chosen[start : start + together] for start in range(0, count, together)]
    clean = [random_crops(group, size, chance.choices) for group in groups]
    made = zip(*(degrade(crops, most, chance, oftener) for crops in clean), strict=True)
    return Pairs(torch.cat(clean), *map(torch.cat, made))
