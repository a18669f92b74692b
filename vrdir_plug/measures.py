"""Numbers out of arrays: scores that can be resampled, paired intervals, McNemar, PSNR and SSIM."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from torch import Tensor

from .extras import library

Scores = npt.NDArray[np.float64]
RESAMPLES = 2000


class Score(Protocol):
    """A number over N images that can be computed again as if each had been drawn more or less."""

    @property
    def value(self) -> float: ...

    def drawn(self, counts: Scores) -> Scores:
        """The number for each row of counts (B, N): (B,)."""
        ...


@dataclass(frozen=True)
class Mean:
    """The mean of one value for each image, (N,)."""

    values: Scores

    @property
    def value(self) -> float:
        return float(self.values.mean())

    def drawn(self, counts: Scores) -> Scores:
        return counts @ self.values / self.values.size


def draws(images: int, resamples: int) -> Iterator[Scores]:
    """How often each of N images is drawn, N times with replacement: chunks (B, N), seeded.

    Two scores on the same draws are paired: their difference is resampled image by image.
    """
    rng = np.random.default_rng(0)
    chunk = max(1, min(resamples, 4_000_000 // images))
    for start in range(0, resamples, chunk):
        size = min(chunk, resamples - start)
        yield rng.multinomial(images, np.full(images, 1 / images), size).astype(np.float64)


def interval(differences: Scores) -> tuple[float, float]:
    """The percentile bootstrap interval, 95 %, from resampled differences (B,)."""
    low, high = np.percentile(differences, [2.5, 97.5])
    return float(low), float(high)


def mcnemar(before: Scores, after: Scores) -> float:
    """The exact two-sided p of McNemar's test, from right (1) and wrong (0) of the same images.

    McNemar, Psychometrika 12, 1947: under no change, each image that changes does so either way
    with probability one half.
    """
    lost, won = int((before > after).sum()), int((after > before).sum())
    changed = lost + won
    tail = sum(math.comb(changed, k) for k in range(min(lost, won) + 1))
    return min(1.0, 2 * tail / 2**changed)


def psnr(image: Tensor, clean: Tensor) -> float:
    """Peak signal to noise ratio in dB of (3, H, W) in [0, 1]; at most 100, that of identity."""
    error = (image.double() - clean.double()).square().mean().item()
    return -10 * math.log10(max(error, 1e-10))


def ssim(image: Tensor, clean: Tensor) -> float:
    """Structural similarity of (3, H, W) in [0, 1], H, W >= 11; Wang et al., 2004."""
    return float(
        library("skimage.metrics", "evaluate").structural_similarity(
            image.double().numpy(),
            clean.double().numpy(),
            channel_axis=0,
            data_range=1,
            gaussian_weights=True,
            sigma=1.5,
            use_sample_covariance=False,
        )
    )
