"""What cheap classical means do: restorers from scikit-image, and dark-channel dehazing.

Each takes RGB images (N, 3, H, W) in [0, 1] and returns the same, at the library's own defaults
where it has them: no one has tuned them to a corruption.
"""

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from .extras import library

Restore = Callable[[Tensor], Tensor]


def each(restore: Callable[[np.ndarray], np.ndarray], images: Tensor) -> Tensor:
    """Apply a function of (H, W, 3) arrays to every image."""
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    restored = np.stack([restore(array) for array in arrays])
    return torch.from_numpy(restored).permute(0, 3, 1, 2).to(images).clamp(0, 1)


def clahe(images: Tensor) -> Tensor:
    """Contrast limited adaptive histogram equalisation, on the V of HSV."""
    return each(library("skimage.exposure", "evaluate").equalize_adapthist, images)


def nlm(images: Tensor) -> Tensor:
    """Non-local means, for the noise that the finest Haar wavelets show."""
    denoise = library("skimage.restoration", "evaluate").denoise_nl_means

    def restore(image: np.ndarray) -> np.ndarray:
        sigma = noise_of(image)
        return np.asarray(
            denoise(image, 5, 6, h=max(0.8 * sigma, 1e-3), sigma=sigma, channel_axis=-1)
        )

    return each(restore, images)


def noise_of(image: np.ndarray) -> float:
    """Standard deviation of normal noise: the median diagonal detail (Donoho, Johnstone, 1994)."""
    detail = image[1:, 1:] - image[1:, :-1] - image[:-1, 1:] + image[:-1, :-1]
    return float(np.median(np.abs(detail)) / 2 / 0.6745)


def tv(images: Tensor) -> Tensor:
    """Total variation (Chambolle)."""
    denoise = library("skimage.restoration", "evaluate").denoise_tv_chambolle
    return each(lambda image: denoise(image, channel_axis=-1), images)


def unsharp(images: Tensor) -> Tensor:
    """Unsharp masking: radius and amount 1."""
    mask = library("skimage.filters", "evaluate").unsharp_mask
    # not -1: for it, scikit-image 0.26 leaves most of the result unwritten
    return each(lambda image: mask(image, channel_axis=2), images)


def dark_channel(images: Tensor) -> Tensor:
    """Single image haze removal by the dark channel prior (He, Sun, Tang, CVPR 2009).

    Windows of 15 px, 0.95 of the haze removed, transmission at least 0.1, airlight the mean of the
    thousandth of pixels with the brightest dark channel. The transmission is refined by a guided
    filter (He et al., ECCV 2010) of radius 30 px instead of soft matting.
    """
    dark = darkest(images)
    count = max(1, dark[0].numel() // 1000)
    where = dark.flatten(1).topk(count).indices[:, None].expand(-1, 3, -1)
    airlight = images.flatten(2).gather(2, where).mean(2)[..., None, None].clamp(min=1e-3)
    transmission = 1 - 0.95 * darkest(images / airlight)
    refined = guided(images.mean(1, keepdim=True), transmission).clamp(0.1, 1)
    return ((images - airlight) / refined + airlight).clamp(0, 1)


def darkest(images: Tensor) -> Tensor:
    """The least of the channels within 15 px: (N, 1, H, W)."""
    return -F.max_pool2d(-images.amin(1, keepdim=True), 15, 1, 7)


def guided(guide: Tensor, source: Tensor, radius: int = 30, epsilon: float = 1e-3) -> Tensor:
    """Smooth (N, 1, H, W) along the edges of a guide (N, 1, H, W)."""

    def mean(plane: Tensor) -> Tensor:
        # rows, then columns: one window of all is a hundred times slower
        rows = F.avg_pool2d(plane, (1, 2 * radius + 1), 1, (0, radius), count_include_pad=False)
        return F.avg_pool2d(rows, (2 * radius + 1, 1), 1, (radius, 0), count_include_pad=False)

    covariance = mean(guide * source) - mean(guide) * mean(source)
    slope = covariance / (mean(guide * guide) - mean(guide).square() + epsilon)
    return mean(slope) * guide + mean(mean(source) - slope * mean(guide))


BASELINES: dict[str, Restore] = {
    "clahe": clahe,
    "nlm": nlm,
    "tv": tv,
    "unsharp": unsharp,
    "dark-channel": dark_channel,
}
