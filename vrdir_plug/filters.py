"""Filters and resampling that corruptions are made of: float64 planes (N, C, H, W), on any device.

`border` is a padding mode of numpy: "edge" repeats the border pixel, "reflect" mirrors about it,
"symmetric" mirrors about its outer edge. Every function takes any H, W >= 1. `generators` are one
for each of N images, on the device where the result is to be.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Generator, Tensor

Generators = Sequence[Generator]


def random(shape: Sequence[int], generators: Generators) -> Tensor:
    """Uniform in [0, 1), float64: (N, *shape), each image's from its own generator."""
    return torch.stack(
        [torch.rand(shape, generator=g, device=g.device, dtype=torch.float64) for g in generators]
    )


def convolve(planes: Tensor, kernel: Tensor, border: str = "reflect") -> Tensor:
    """Convolve (N, C, H, W) with a kernel (K, K) of one odd side, or with one each (N, 1, K, K)."""
    reach = kernel.shape[-1] // 2
    padded = extended(planes, reach, border)
    size = padded.shape[-2:]
    # A direct float64 convolution takes a hundred times longer on a CPU.
    product = torch.fft.rfft2(padded) * torch.fft.rfft2(kernel, s=size)
    result: Tensor = torch.fft.irfft2(product, s=size)  # (N, C, H + 2 reach, W + 2 reach)
    return result[..., 2 * reach :, 2 * reach :]


def extended(planes: Tensor, reach: int, border: str) -> Tensor:
    """By `reach` pixels on all sides; torch's own padding does not mirror a small image often."""
    rows, columns = (
        folded(torch.arange(-reach, side + reach, device=planes.device), side, border)
        for side in planes.shape[-2:]
    )
    return planes[..., rows, :][..., columns]


def gaussian(planes: Tensor, sigma: float, truncate: float = 4, border: str = "edge") -> Tensor:
    """Blur by a Gaussian cut off at `truncate` sigmas; the defaults are those of scikit-image."""
    down, across = (
        smoothing(side, sigma, truncate, border).to(planes.device) for side in planes.shape[-2:]
    )
    return down @ planes @ across.T


def softened(planes: Tensor, power: float) -> Tensor:
    """(N, C, H, W), each cosine of f cycles in 224 pixels times (1 + f) ** -power."""
    height, width = planes.shape[2:]
    down, across = torch.fft.fftfreq(height), torch.fft.rfftfreq(width)
    cycles = 224 * torch.hypot(down[:, None], across).to(planes)
    spectrum = torch.fft.rfft2(planes) * (1 + cycles) ** -power
    soft: Tensor = torch.fft.irfft2(spectrum, s=(height, width))
    return soft


def standardised(planes: Tensor) -> Tensor:
    """To a mean of 0 and a deviation of 1 each; what is flat is 0."""
    deviation = planes.std((2, 3), correction=0, keepdim=True)
    return (planes - planes.mean((2, 3), keepdim=True)) / deviation.clamp(min=1e-6)


def smoothing(side: int, sigma: float, truncate: float, border: str) -> Tensor:
    """The blur of a line as a matrix (side, side): no sigma is too wide for it."""
    reach = int(truncate * sigma + 0.5)
    bell = np.exp(-(np.arange(-reach, reach + 1) ** 2) / (2 * sigma**2))
    origin = np.pad(np.arange(side), reach, mode=border)  # type: ignore[call-overload]
    origin = np.lib.stride_tricks.sliding_window_view(origin, side)  # (taps, side)
    cell = (origin + side * np.arange(side)).ravel()
    weight = np.repeat(bell / bell.sum(), side)
    return torch.from_numpy(np.bincount(cell, weight, side**2).reshape(side, side))


def motion_kernel(radius: int, sigma: float, angle: float) -> Tensor:
    """The kernel of ImageMagick's motion blur, angle in degrees: (4 radius + 1, 4 radius + 1).

    Half a Gaussian of 2 radius + 1 taps along a line from the pixel, rounded to whole pixels.
    """
    taps = np.arange(2 * radius + 1)
    bell = np.exp(-(taps**2) / (2 * sigma**2))
    turn = math.radians(angle)
    right, down = (np.ceil(taps * part - 0.5) for part in (math.cos(turn), math.sin(turn)))
    kernel = np.zeros((4 * radius + 1, 4 * radius + 1))
    rows, columns = (2 * radius - offset.astype(int) for offset in (down, right))
    np.add.at(kernel, (rows, columns), bell / bell.sum())
    return torch.from_numpy(kernel)


def centre_zoom(planes: Tensor, factor: float) -> Tensor:
    """Enlarge the middle of (N, C, H, W) to the whole, linearly, between the corner pixels."""
    height, width = planes.shape[-2:]
    part = F.interpolate(
        central(planes, math.ceil(height / factor), math.ceil(width / factor)),
        (round(math.ceil(height / factor) * factor), round(math.ceil(width / factor) * factor)),
        mode="bilinear",
        align_corners=True,
    )
    return central(part, height, width)


def central(planes: Tensor, height: int, width: int) -> Tensor:
    top, left = (planes.shape[-2] - height) // 2, (planes.shape[-1] - width) // 2
    return planes[..., top : top + height, left : left + width]


def sample(planes: Tensor, rows: Tensor, columns: Tensor, border: str) -> Tensor:
    """Read (N, C, H, W) between its pixels, bilinearly, at rows and columns (N, H', W')."""
    height, width = planes.shape[-2:]
    result = planes.new_zeros(*planes.shape[:2], *rows.shape[1:])
    for down in (0, 1):
        row = rows.floor() + down
        for right in (0, 1):
            column = columns.floor() + right
            weight = (1 - (rows - row).abs()) * (1 - (columns - column).abs())
            y, x = folded(row.long(), height, border), folded(column.long(), width, border)
            result += weight[:, None] * picked(planes, y * width + x)
    return result


def picked(planes: Tensor, places: Tensor) -> Tensor:
    """The pixels of (N, C, H, W) at places (N, H', W'), counted along the rows."""
    flat = places.flatten(1)[:, None].expand(-1, planes.shape[1], -1)
    return planes.flatten(2).gather(2, flat).unflatten(2, places.shape[1:])


def folded(index: Tensor, side: int, border: str) -> Tensor:
    """Bring indices from beyond the border into 0 ... side - 1."""
    if border == "edge":
        return index.clamp(0, side - 1)
    double = 2 * side - 1 if border == "symmetric" else 2 * side - 2
    period = double + 1 if border == "symmetric" else max(double, 1)
    index = index % period
    return torch.minimum(index, (double - index).abs())


def plasma_fractal(side: int, decay: float, generators: Generators) -> Tensor:
    """Height maps in [0, 1] by the diamond-square algorithm, on a torus.

    Every octave halves the spacing. A new point is the mean of its four neighbours plus a uniform
    offset, whose range shrinks by `decay` squared from octave to octave: ImageNet-C divides its
    amplitude by `decay` and applies that amplitude twice.

    Returns (N, S, S), S the smallest power of two >= max(side, 2): 256 for a 224 px image.
    """
    device = generators[0].device
    heights = torch.zeros(len(generators), 1, 1, dtype=torch.float64, device=device)
    amplitude = 1.0
    while heights.shape[-1] < max(side, 2):
        heights = next_octave(heights, amplitude, generators)
        amplitude /= decay**2
    heights = heights - heights.amin((1, 2), keepdim=True)
    return heights / heights.amax((1, 2), keepdim=True)


def next_octave(corners: Tensor, amplitude: float, generators: Generators) -> Tensor:
    def offset_mean(total: Tensor) -> Tensor:
        return total / 4 + amplitude * (2 * random(total.shape[1:], generators) - 1)

    right, below = corners.roll(-1, 2), corners.roll(-1, 1)
    heights = corners.repeat_interleave(2, 1).repeat_interleave(2, 2)
    heights[:, 1::2, 1::2] = centres = offset_mean(corners + right + below + below.roll(-1, 2))
    heights[:, ::2, 1::2] = offset_mean(corners + right + centres + centres.roll(1, 1))
    heights[:, 1::2, ::2] = offset_mean(corners + below + centres + centres.roll(1, 2))
    return heights


def canny(levels: Tensor, low: float, high: float) -> Tensor:
    """The edges (N, H, W), bool, of planes of 8-bit levels (N, H, W), by OpenCV's default Canny.

    Sobel gradients, their sum of magnitudes thinned along the direction (in steps of 45 degrees),
    and what exceeds `low` as far as it is joined to what exceeds `high`.
    """
    smooth, slope = levels.new_tensor([1, 2, 1]), levels.new_tensor([1, 0, -1])
    across, down = (
        convolve(levels[:, None], torch.outer(*pair), "edge")[:, 0].round()
        for pair in ((smooth, slope), (slope, smooth))
    )
    size = across.abs() + down.abs()
    thin = torch.where(
        down.abs() < across.abs() * math.tan(math.pi / 8),
        ridge(size, 0, 1, strict=False),
        torch.where(
            down.abs() > across.abs() * math.tan(3 * math.pi / 8),
            ridge(size, 1, 0, strict=False),
            torch.where(across * down < 0, ridge(size, 1, -1), ridge(size, 1, 1)),
        ),
    )
    weak, edges = thin & (size > low), thin & (size > high)
    while True:
        grown = F.max_pool2d(edges.float(), 3, 1, 1).bool() & weak
        if torch.equal(grown, edges):
            return edges
        edges = grown


def ridge(size: Tensor, down: int, right: int, strict: bool = True) -> Tensor:
    """Where planes (N, H, W) exceed both neighbours along a direction; 0 lies outside."""
    height, width = size.shape[1:]
    padded = F.pad(size, (1, 1, 1, 1))
    before = padded[:, 1 - down :, 1 - right :][:, :height, :width]
    after = padded[:, 1 + down :, 1 + right :][:, :height, :width]
    return (size > before) & ((size > after) if strict else (size >= after))


def distance(mask: Tensor, most: int) -> Tensor:
    """The Euclidean distance (N, H, W) to the nearest true pixel of its plane, at most `most`."""
    squared = torch.where(mask, 0.0, math.inf)
    steps = torch.arange(-most, most + 1, device=mask.device) ** 2
    for axis, margin in ((1, (0, 0, most, most)), (2, (most, most))):
        windows = F.pad(squared, margin, value=math.inf).unfold(axis, 2 * most + 1, 1)
        squared = (windows + steps).amin(-1)
    return squared.sqrt().clamp(max=most).double()


def equalised(levels: Tensor) -> Tensor:
    """Spread the histogram of one plane (H, W) of 8-bit levels, as OpenCV's equalizeHist does."""
    total = levels.long().flatten().bincount(minlength=256).cumsum(0)
    first = total[total > 0][0]
    if first == levels.numel():
        return levels
    table = ((total - first).clamp(min=0) * 255 / (levels.numel() - first)).round()
    return table[levels.long()].double()
