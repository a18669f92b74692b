"""The VRD-IR network: encoder E, intrinsic semantics enhancement ISE (DNC + FGM), decoder SAD.

Source: Yang et al., "Visual Recognition-Driven Image Restoration for Multiple Degradation with
Intrinsic Semantics Recovery", CVPR 2023. The published description leaves sizes open; docstrings
mark what is the paper's and what is our deviation. Shapes are (N, channels, height, width).
"""

import math
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import weights


@dataclass(frozen=True)
class RestorerConfig:
    """Every size of the network; saved beside the weights.

    Args:
        profile: name of this set of sizes.
        channels: feature channels C of the encoder.
        units: one entry per ISE block: the widths of its spatial unit, the first level at the
            features' own resolution, each further one at half of that of the one before; empty
            for DNC and FGM alone, as published.
        branches: of the gate, one per family of degradations; ours keeps the last for clean images.
        grid: side of the square grid on which FGM takes the spectrum; 0 takes it at the
            features' own resolution.
        skip: rebuild on top of the normalised image (ours) or from features only (the paper).
        published: the modules as the paper's authors code them (VGG encoder at H/2, DNC gates
            that see only the mean, transposed-convolution decoder with a sigmoid).
        bypass: images with a degradation score below this come back bit-identical; 0: none do.
            It is calibrated after training.
    """

    profile: str
    channels: int
    units: tuple[tuple[int, ...], ...]
    branches: int = 5
    grid: int = 16
    skip: bool = True
    published: bool = False
    bypass: float = 0.0

    def __post_init__(self) -> None:
        sizes = [self.channels, self.branches, *(w for widths in self.units for w in widths)]
        # a stranger's config must not be able to ask for all memory
        if not all(isinstance(size, int) and 0 < size <= 1024 for size in sizes):
            raise ValueError(f"channels, branches and widths must be from 1 to 1024, came {sizes}")
        deepest = max(map(len, self.units), default=0)
        if self.channels < 4 or not 0 < len(self.units) <= 8 or deepest > 4:
            raise ValueError(f"expected 4 channels or more, 1 to 8 units of up to 4 widths: {self}")
        if self.grid not in range(257):
            raise ValueError(f"grid must be a whole number from 0 to 256, came {self.grid}")
        if not 0 <= self.bypass <= 1:
            raise ValueError(f"bypass must be a score from 0 to 1, came {self.bypass}")
        if self.published and self.bypass:
            raise ValueError("the published gate has no clean branch to tell a bypass: set 0")
        if self.published and self.skip:
            raise ValueError("the published decoder has no input skip: set skip=False")

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "RestorerConfig":
        """Rebuild from JSON values; a field missing or unknown raises ValueError."""
        names = {field.name for field in fields(cls)}
        if set(values) != names:
            raise ValueError(
                f"the config has the fields {sorted(values)}, expected {sorted(names)}: "
                "it was written by another version of vrdir-plug"
            )
        return cls(**{**values, "units": tuple(tuple(unit) for unit in values["units"])})


PROFILES = (
    RestorerConfig("fast", 48, ((42,), (42,))),
    RestorerConfig("strong", 96, ((96, 160, 192), (96, 128, 192), (96, 128, 192))),
    RestorerConfig("paper", 128, ((),), branches=3, grid=0, skip=False, published=True),
)


def config_of(profile: str) -> RestorerConfig:
    """The sizes of a named profile; ValueError lists the names there are."""
    for config in PROFILES:
        if config.profile == profile:
            return config
    names = ", ".join(config.profile for config in PROFILES)
    raise ValueError(f"there is no profile {profile!r}; the profiles are: {names}")


def conv(inputs: int, outputs: int, stride: int = 1, bias: bool = True) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=1, bias=bias)


def zeroed(layer: nn.Conv2d) -> nn.Conv2d:
    """A convolution that starts at zero, so that what it adds starts as nothing."""
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer


# --- E: encoder ------------------------------------------------------------------------------

CELL = 4  # ours works on the 4x4 frequencies of cells of 4 x 4 pixels, one cell a position
BANDS = 3 * CELL**2


def band_filters(device: torch.device | None = None) -> Tensor:
    """Orthonormal 4x4 DCT-II of each colour of a cell, as the filters of a convolution.

    (48, 3, 4, 4), by colour, then by vertical and horizontal frequency: a colour's first one gives
    four times the mean of the cell.
    """
    steps = torch.arange(CELL, device=device, dtype=torch.float32)
    rows = (math.pi / CELL * (steps + 0.5) * steps[:, None]).cos() / math.sqrt(CELL / 2)
    rows = torch.cat([rows[:1] / math.sqrt(2), rows[1:]])
    planes = torch.kron(rows, rows).view(-1, CELL, CELL)
    # each of the 16 for each colour, which sees no other colour
    colours = torch.eye(3, device=device)[:, None, :, None, None]
    return (colours * planes[:, None]).flatten(0, 1)


def difference_filters(device: torch.device | None = None) -> Tensor:
    """Steps from pixel to pixel of a cell: three across, three down (6, 1, 4, 4)."""
    across = torch.eye(CELL, device=device).diff(dim=0)[:, None, None]
    across = across * torch.eye(CELL, device=device)[1, :, None]
    return torch.cat([across, across.mT])


def bands_of(images: Tensor) -> Tensor:
    """Images (N, 3, H, W), H and W divisible by 4 -> bands (N, 48, H/4, W/4), float32."""
    with full_precision(images):
        images = images.float().contiguous(memory_format=torch.channels_last)
        return F.conv2d(images, band_filters(images.device), stride=CELL)


def image_of(bands: Tensor) -> Tensor:
    """The inverse, in the bands' precision."""
    with full_precision(bands):
        filters = band_filters(bands.device).to(bands.dtype).flatten(1)
        cells = F.conv2d(bands, filters.T[..., None, None]).unflatten(1, (3, CELL, CELL))
        # F.pixel_shuffle, which takes twice the time where the channels lie last
        return cells.permute(0, 1, 4, 2, 5, 3).flatten(4).flatten(2, 3)


class BandEncoder(nn.Module):
    """Ours: bands (N, 48, h, w) -> features (N, C, h, w), s = 4.

    Two convolutions beside the bands, which are kept as they are: through a ReLU alone half of
    what a pixel says would be lost, and noise that E does not see cannot be taken away behind it.
    On frequencies, not pixels, DNC's scale per channel is a filter: noise lies in the high ones,
    blur takes them.
    """

    def __init__(self, channels: int):
        super().__init__()
        self.spatial = conv(BANDS, channels)
        self.semantic = nn.Conv2d(channels, channels, 1)
        with torch.no_grad():
            # of the size of what the high frequencies of a photograph say, not above it
            self.semantic.weight *= 0.1
        nn.init.zeros_(torch.as_tensor(self.semantic.bias))

    def forward(self, bands: Tensor) -> Tensor:
        features: Tensor = self.semantic(self.spatial(bands).relu())
        further = features.shape[1] - BANDS  # channels, which keep nothing
        if further > 0:
            bands = F.pad(bands, (0, 0, 0, 0, 0, further))
        return features + bands[:, : features.shape[1]]


def encoder(config: RestorerConfig) -> nn.Module:
    """E: bands of an image -> features (N, C, H/s, W/s), before their activation.

    Published: a VGG up to conv2_2 on the image in [0, 1], s = 2.
    """
    if not config.published:
        return BandEncoder(config.channels)
    layers = [conv(3, 64), nn.ReLU(), conv(64, 64), nn.ReLU(), nn.MaxPool2d(2)]
    return nn.Sequential(*layers, conv(64, 128), nn.ReLU(), conv(128, config.channels))


# --- ISE: intrinsic semantics enhancement ----------------------------------------------------


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Spectra and statistics overflow or round away in half precision: leave autocast for them."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample and channel over H, W, in float32: two (N, C) tensors."""
    return from_moments(*moments(features))


def moments(features: Tensor) -> tuple[Tensor, Tensor]:
    """Means of the features and of their squares over H, W, in float32: two (N, C) tensors."""
    features = features.float()
    # from the squares, in one pass each: several times faster than torch.std on CPU
    return features.mean((2, 3)), features.square().mean((2, 3))


def from_moments(mean: Tensor, square: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and deviation, of the means of a number and of its square."""
    return mean, (square - mean.square()).clamp(min=1e-10).sqrt()


class DNC(nn.Module):
    """Degradation normalisation and compensation: N branches, each an affine map per channel.

    Published: DNC_n(f) = w0 f + w1 (gamma (f - mu) / (sigma + eps) + beta), with the gates w0, w1
    from the pooled [f ; f~]. That is a_n f + b_n with a_n = w0 + w1 gamma / (sigma + eps) and
    b_n = w1 (beta - gamma mu / (sigma + eps)), so f~ is never formed.
    The pooled f~ is exactly beta, so published gates cannot see sigma; ours see [mu ; log sigma]
    and a context (the spectrum of the image), and run over (0, 2) and (-1, 1), so that every
    branch starts as the identity.
    """

    eps = 1e-3

    def __init__(
        self, channels: int, branches: int, squeeze: int, context: int = 0, published: bool = False
    ):
        super().__init__()
        self.published = published
        self.gamma = nn.Parameter(torch.full((branches, channels), 0.25))
        self.beta = nn.Parameter(torch.zeros(branches, channels))
        seen = 2 * channels + context
        self.reduce = nn.Parameter(torch.randn(branches, squeeze, seen) * seen**-0.5)
        self.expand = nn.Parameter(torch.zeros(branches, squeeze, 2 * channels))
        # sigmoid(6) = 0.998: as near to the identity as the published gates can start
        bias = torch.tensor([6.0, -6.0] if published else [0.0, 0.0]).repeat_interleave(channels)
        self.bias = nn.Parameter(bias.repeat(branches, 1))

    def forward(self, mean: Tensor, deviation: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """(N, C) statistics, (N, K) contexts -> scales a and offsets b, each (N, branches, C)."""
        keep, bring = self.gates(mean, deviation, *context)
        slope = bring * self.gamma.float() / (deviation + self.eps)[:, None]
        return keep + slope, bring * self.beta.float() - slope * mean[:, None]

    def gates(self, mean: Tensor, deviation: Tensor, *context: Tensor) -> tuple[Tensor, Tensor]:
        """w0 and w1, each (N, branches, C)."""
        spread = self.beta.float() if self.published else (deviation + self.eps).log()[:, None]
        means = mean[:, None].expand(-1, len(self.beta), -1)  # (N, branches, C)
        more = [c[:, None].expand(-1, len(self.beta), -1) for c in context]
        seen = torch.cat([means, spread.expand_as(means), *more], 2)
        hidden = torch.einsum("nbi,bsi->nbs", seen, self.reduce.float()).relu()
        gates = torch.einsum("nbs,bsc->nbc", hidden, self.expand.float()) + self.bias.float()
        keep, bring = gates.chunk(2, dim=2)
        if self.published:
            return keep.sigmoid(), bring.sigmoid()
        return 2 * keep.sigmoid(), bring.tanh()


def dft(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Cosine and sine part (size, size) of the orthonormal DFT matrix cos - i sin."""
    steps = torch.arange(size, device=device)
    # as a tensor: a size that torch.export keeps free cannot be the scalar of a remainder in ONNX
    count = steps[-1] + 1
    # the product is reduced while it is still an exact integer
    angle = (steps[:, None] * steps).remainder(count).float() * (2 * math.pi) / count
    scale = count.float().rsqrt()
    return angle.cos() * scale, angle.sin() * scale


def modulate_by_products(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Re IFFT2(gain(|F|) F), F = FFT2(features), by matrix products.

    They are cheap where the grid is small, and export and run where complex numbers do not. Real
    and imaginary part lie side by side: one product for both, one side of the grid at a time.
    """
    cos_down, sin_down = dft(features.shape[-2], features.device)
    cos, sin = dft(features.shape[-1], features.device)
    parts = turned(features.mT @ torch.cat([cos_down, sin_down], 1))
    spectrum = parts @ block_matrix(cos, -sin, -sin, -cos)  # (N, C, h, 2 w)
    spectrum = spectrum.unflatten(3, (2, -1))
    amplitude = spectrum.square().sum(3).clamp(min=1e-12).sqrt()
    spectrum = (spectrum * gain(amplitude)[..., None, :]).flatten(3)
    parts = turned(turned(spectrum) @ block_matrix(cos_down, sin_down, -sin_down, cos_down))
    return parts @ torch.cat([cos, -sin])


def block_matrix(a: Tensor, b: Tensor, c: Tensor, d: Tensor) -> Tensor:
    """The matrix [a b; c d]."""
    return torch.cat([torch.cat([a, b], 1), torch.cat([c, d], 1)])


def turned(parts: Tensor) -> Tensor:
    """Two parts side by side, (N, C, w, 2 h), each transposed: (N, C, h, 2 w)."""
    return parts.unflatten(3, (2, -1)).permute(0, 1, 4, 3, 2).flatten(3)


def modulate_by_fft(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """The same for any height and width, by rfft2."""
    spectrum = torch.fft.rfft2(features, norm="ortho")
    amplitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-12).sqrt()
    return torch.fft.irfft2(spectrum * gain(amplitude), s=features.shape[-2:], norm="ortho")


def exporting() -> bool:
    """Within torch.export; torch before 2.7 does not tell it from torch.compile."""
    return bool(getattr(torch.compiler, "is_exporting", torch.compiler.is_compiling)())


def convolve(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """The layer in the features' precision, whatever that of its weights."""
    bias = torch.as_tensor(layer.bias).to(features.dtype)
    return F.conv2d(features, layer.weight.to(features.dtype), bias, padding=layer.padding)


SPECTRUM = BANDS + 3  # numbers of an image that `spectrum` returns


def log_amplitude(energy: Tensor) -> Tensor:
    """About 0 on average, or the first layers learn slowly."""
    return (energy.clamp(min=1e-8).sqrt() + 1e-3).log() + 2


def spectrum_of(mean: Tensor, deviation: Tensor) -> Tensor:
    """Colour means and log amplitudes of an image's bands, from their statistics (N, 48).

    These (N, SPECTRUM) of the amplitude spectrum tell noise, blur, haze and darkness apart; E's
    features hardly do, for E learns not to mind.
    """
    means = mean[:, :: CELL**2] / CELL
    return torch.cat([means, log_amplitude(deviation.square())], 1)


def spectrum_in(bands: Tensor, energy: Tensor) -> Tensor:
    """The same from bands and their squares (N, 48, h, w)."""
    return spectrum_of(*from_moments(bands.mean((2, 3)), energy.mean((2, 3))))


def resized(features: Tensor, size: tuple[int, int]) -> Tensor:
    """Averages on a small grid, smoothly: (N, C, h, w) -> (N, C, *size)."""
    return F.interpolate(features, size, mode="bilinear", antialias=True)


def linear(layer: nn.Conv2d, vectors: Tensor) -> Tensor:
    """A 1x1 convolution on (N, C), in the vectors' precision."""
    bias = torch.as_tensor(layer.bias).to(vectors.dtype)
    return F.linear(vectors, layer.weight.flatten(1).to(vectors.dtype), bias)


class FGM(nn.Module):
    """Fourier guided modulation: a gate over the branches, per position, from E's features.

    F = FFT2(f), A = |F|, A' = conv1x1(A), s = Re IFFT2(A' F / (A + eps)): the amplitude is
    modulated, the phase is kept; G = softmax over branches of conv3x3(s).
    Ours takes the spectrum of features resampled to a fixed grid, sees the local amplitudes of
    the pixels' 4x4 frequencies beside s, and adds logits for the whole image (`prior`, from the
    `spectrum` of its pixels): without them the gate could not tell noise from texture.
    conv1x1 starts at the identity: a random one would make half of the amplitudes negative and
    flip their phases. The gate starts uniform.
    """

    eps = 1e-2

    def __init__(self, channels: int, branches: int, grid: int, published: bool = False):
        super().__init__()
        self.grid = grid
        self.amplitudes = nn.Conv2d(channels, channels, 1)
        nn.init.dirac_(self.amplitudes.weight)
        nn.init.zeros_(torch.as_tensor(self.amplitudes.bias))
        hidden = channels if published else 48
        self.gate = zeroed(conv(hidden, branches))
        self.local: Any = None if published else conv(channels + BANDS, hidden)
        into, out = nn.Conv2d(SPECTRUM, hidden, 1), zeroed(nn.Conv2d(hidden, branches, 1))
        self.whole: Any = None if published else nn.ModuleList([into, out])

    def amplitude(self, energy: Tensor) -> Tensor:
        """Squares of bands (N, 48, h, w) -> how strong each is around (N, 48, grid, grid)."""
        return log_amplitude(resized(energy, (self.grid, self.grid)))

    def prior(self, seen: Tensor) -> Tensor:
        """The spectrum of an image (N, SPECTRUM) -> logits for all of it (N, branches)."""
        into, out = self.whole
        return linear(out, linear(into, seen).relu())

    def forward(self, features: Tensor, amplitude: Tensor, prior: Tensor) -> Tensor:
        """(N, C, h, w), local amplitudes, logits -> gate (N, branches, h, w), sums to 1."""
        with full_precision(features):
            logits = self.on_grid(features.float(), amplitude) + prior[:, :, None, None]
            gate = logits.softmax(1)
        return F.interpolate(gate, features.shape[-2:], mode="bilinear")

    def on_grid(self, features: Tensor, amplitude: Tensor) -> Tensor:
        small = resized(features, (self.grid, self.grid))
        modulated = modulate_by_products(small, self.gain)
        hidden = convolve(self.local, torch.cat([modulated, amplitude], 1)).relu()
        # what the whole image says, beside what each place does
        return convolve(self.gate, hidden + hidden.mean((2, 3), keepdim=True))

    def published(self, features: Tensor) -> Tensor:
        """The gate from features alone, at their own resolution."""
        with full_precision(features):
            # ONNX Runtime refuses a DFT of a free size
            modulate = modulate_by_products if exporting() else modulate_by_fft
            return convolve(self.gate, modulate(features.float(), self.gain)).softmax(1)

    def gain(self, amplitude: Tensor) -> Tensor:
        """A' / (A + eps)."""
        return convolve(self.amplitudes, amplitude) / (amplitude + self.eps)


def mix(gate: Tensor, values: Tensor) -> Tensor:
    """sum_n G_n v_n: gate (N, branches, h, w), values (N, branches, C) -> (N, C, h, w)."""
    # written with the channels last, as the features it meets are
    return (gate.flatten(2).mT @ values).mT.unflatten(2, gate.shape[-2:])


# Behind a plain ReLU whole levels of the U died in training, and nothing brought them back.
LEAK = 0.1


def warmed(module: nn.Module) -> None:
    """Initial weights that keep the variance from layer to layer (He et al., ICCV 2015)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, LEAK)
            nn.init.zeros_(torch.as_tensor(layer.bias))


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, at which they start."""

    def __init__(self, channels: int):
        super().__init__()
        last = zeroed(conv(channels, channels))
        first = conv(channels, channels)
        warmed(first)
        self.body = nn.Sequential(first, nn.LeakyReLU(LEAK), last)

    def forward(self, features: Tensor) -> Tensor:
        return F.leaky_relu(features + self.body(features), LEAK)


def plus_product(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    """first + second third, in one pass where no gradient is asked for: its own would be slower."""
    if torch.is_grad_enabled():
        return first + second * third
    return torch.addcmul(first, second, third)


class SpatialUnit(nn.Module):
    """A local affine map f (1 + m) + d from a few 3x3 convolutions; starts at the identity.

    Ours: DNC and FGM have no spatial filter, so alone they cannot remove noise, streaks or blur.
    A scale per position can silence noise in the features that the narrow unit could not carry.
    With several widths it is a U of as many levels; at equal cost two units of one level learn
    more than one U of three (docs/ablations.md).
    What the whole image is like (`known`) scales and shifts the features of every level: one unit
    that must both smooth and sharpen would do neither. And it says how much of each channel's
    change is made: recognisers see more in an image of which a part of the noise was taken than in
    one where all was, and detail with it.
    """

    def __init__(self, channels: int, widths: tuple[int, ...], known: int):
        super().__init__()
        self.enter = conv(channels, widths[0])
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in pairwise(widths))
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.leave = conv(widths[0], widths[0])
        warmed(self)
        self.body = nn.ModuleList(Residual(width) for width in widths[1:])
        self.head = zeroed(nn.Conv2d(widths[0], 2 * channels, 1))
        self.steered = [2 * width for width in (*widths, widths[0])]
        self.steer = zeroed(nn.Conv2d(known, sum(self.steered), 1))
        self.strength = zeroed(nn.Conv2d(known, channels, 1))

    def forward(self, features: Tensor, known: Tensor) -> Tensor:
        """(N, C, h, w), h and w divisible by 2^(levels - 1), (N, known) -> features."""
        # a tenth: all of its many numbers move at once in a step of Adam, and drown the features
        known = 0.1 * known[:, :, None, None].to(features.dtype)
        steers = self.steer(known).split(self.steered, 1)
        levels = [steered(self.enter(features), steers[0])]
        for down, body, steer in zip(self.down, self.body, steers[1:-1], strict=True):
            levels.append(body(steered(down(levels[-1]), steer)))  # (N, width, h/2, w/2), ...
        deep = levels.pop()
        for up in reversed(self.up):
            deep = levels.pop() + F.pixel_shuffle(up(deep), 2)
        scale, shift = self.head(steered(self.leave(deep), steers[-1])).chunk(2, dim=1)
        strength = 1 + self.strength(known)  # (N, C, 1, 1)
        return plus_product(features, strength, plus_product(shift, features, scale))


def steered(features: Tensor, steer: Tensor) -> Tensor:
    """Scaled and shifted per channel, then rectified; a steer of zeros changes nothing."""
    scale, shift = steer.chunk(2, dim=1)
    return F.leaky_relu(plus_product(shift, features, 1 + scale), LEAK)


class Block(nn.Module):
    """Spatial unit, then DNC: f sum_n G_n a_n + sum_n G_n b_n, all branches in one pass.

    Ours: the last branch is the identity, past unit and DNC, so that clean images stay.
    """

    def __init__(self, config: RestorerConfig, widths: tuple[int, ...]):
        super().__init__()
        channels, published = config.channels, config.published
        branches = config.branches if published else config.branches - 1
        known = SPECTRUM + config.branches
        self.unit = SpatialUnit(channels, widths, known) if widths else None
        context = 0 if published else SPECTRUM
        self.dnc = DNC(channels, branches, channels // 4, context, published)

    def forward(self, features: Tensor, gate: Tensor, seen: Tensor) -> Tensor:
        """Features (N, C, h, w), gate (N, branches, h, w), spectrum (N, SPECTRUM) -> features."""
        local = self.local(features, gate.mean((2, 3)), seen)
        return self.mixed(features, local, gate, self.values(*mean_and_deviation(local), seen))

    def local(self, features: Tensor, shares: Tensor, seen: Tensor) -> Tensor:
        """What the unit makes of features (N, C, h, w) under a gate of these means."""
        return features if self.unit is None else self.unit(features, torch.cat([shares, seen], 1))

    def values(self, mean: Tensor, deviation: Tensor, seen: Tensor) -> Tensor:
        """The branches' scales and offsets (N, branches, 2 C), from statistics of `local`."""
        with full_precision(mean):
            return torch.cat(self.dnc(mean, deviation, seen), 2)

    def mixed(self, features: Tensor, local: Tensor, gate: Tensor, values: Tensor) -> Tensor:
        """The branches in the shares of the gate: features (N, C, h, w)."""
        degraded, clean = gate.split([len(self.dnc.beta), gate.shape[1] - len(self.dnc.beta)], 1)
        with full_precision(features):
            scale, offset = mix(degraded, values).to(features.dtype).chunk(2, dim=1)
        enhanced = plus_product(offset, local, scale)
        if clean.shape[1] == 0:
            return enhanced
        return plus_product(enhanced, clean.to(features.dtype), features)


class ISE(nn.Module):
    """Intrinsic semantics enhancement: FGM's gate over the DNC branches of every block.

    One gate serves all blocks: it comes from E's features, before any branch has left its mark.
    """

    def __init__(self, config: RestorerConfig):
        super().__init__()
        self.fgm = FGM(config.channels, config.branches, config.grid, config.published)
        self.blocks = nn.ModuleList(Block(config, widths) for widths in config.units)

    def forward(self, features: Tensor, gate: Tensor, seen: Tensor) -> Tensor:
        """Features (N, C, h, w), gate (N, branches, h, w), spectrum (N, SPECTRUM) -> features."""
        for block in self.blocks:
            features = block(features, gate, seen)
        return features


def inner(planes: Tensor, margin: int) -> Tensor:
    """Without so many rows and columns on each side."""
    return planes[..., margin : planes.shape[-2] - margin, margin : planes.shape[-1] - margin]


def smoothed(planes: Tensor, step: int) -> Tensor:
    """Sums with the weights 1, 2, 1 at this distance, down and across: 16 times the mean; smaller
    by it on each side."""
    for side in (2, 3):
        count = planes.shape[side] - 2 * step
        before, middle, after = (planes.narrow(side, n * step, count) for n in range(3))
        planes = torch.add(before, after).add(middle, alpha=2)
    return planes


class PixelFilter(nn.Module):
    """Ours: what E's cells of 4x4 pixels are too coarse for is mended before all else.

    A switching filter takes impulses away (Sun and Neuvo, Pattern Recognition Letters 15, 1994):
    values at an end of the range, far from the mean of the neighbours that are at none, in terms of
    their deviation (Hampel's identifier). Then the image's wavelet bands (a trous; Starck, Murtagh
    and Bijaoui 1998) have a gain each: a blurred image asks for more of the fine ones, one of large
    square pixels for less. How much of both is done the statistics of the whole image say; at first
    no gain but 1, and no impulses taken away where there are few.
    """

    steps = (1, 2, 4)  # pixels between the taps of each smoothing
    reach = 1 + sum(steps)  # pixels
    sampled = 2 * CELL  # statistics are of one cell in so many pixels of a side
    end = 0.498  # from the middle of the range: less than a level of 255 from where it ends
    far, deviations = 0.1, 4.0
    still = 1e-3  # a difference of less is none
    most = 2.0  # logarithm of a gain

    def __init__(self) -> None:
        super().__init__()
        # logarithm of the share of impulses from which half of the change is made, and how steeply
        self.switch = nn.Parameter(torch.tensor([-4.0, 4.0]))
        into, out = nn.Conv2d(SPECTRUM + BANDS + 5, 32, 1), nn.Conv2d(32, len(self.steps), 1)
        self.asks: Any = nn.ModuleList([into, zeroed(out)])

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W), H and W divisible by 4 -> the same in float32, not clamped."""
        with full_precision(images):
            wide, change = self.impulses(images)
            asked = self.asked(*self.statistics(images, inner(change, self.reach - 1)))
            return self.filtered(wide, change, asked)

    def impulses(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """The images with `reach` pixels more on each side, and what to add to take impulses away,
        with one pixel less; 0 where there is none."""
        wide = F.pad(images.float(), (self.reach,) * 4, mode="replicate")
        middling = ((wide - 0.5).abs() < self.end).float()
        kept = middling * wide
        sums = smoothed(torch.cat([middling, kept, kept * wide], 1), 1).chunk(3, dim=1)
        share = sums[0].clamp(min=1e-6)
        mean, square = sums[1] / share, sums[2] / share
        change = mean - inner(wide, 1)
        variance = (square - mean.square()).clamp(min=(self.far / self.deviations) ** 2)
        impulse = change.square() > self.deviations**2 * variance
        # weights: 4 for the pixel itself, 12 for the eight around, of which a third must be valid
        impulse = impulse & (inner(middling, 1) == 0) & (share >= 4)
        return wide, change * impulse

    def statistics(self, images: Tensor, change: Tensor) -> tuple[Tensor, Tensor]:
        """Means that tell what to do: of bands and differences, of their squares and sizes, and how
        many are 0 (N, 4, 54), in every second cell; the share of impulses (N, 1)."""
        pixels = images.float().contiguous(memory_format=torch.channels_last)
        filters = band_filters(images.device), difference_filters(images.device)
        planes = pixels, pixels.mean(1, keepdim=True)
        pairs = zip(planes, filters, strict=True)
        seen = torch.cat([F.conv2d(p, f, stride=self.sampled) for p, f in pairs], 1)
        size = seen.abs()
        means = [p.mean((2, 3)) for p in (seen, seen.square(), size, (size < self.still).float())]
        return torch.stack(means, 1), (change != 0).float().mean((1, 2, 3))[:, None]

    def asked(self, means: Tensor, impulses: Tensor) -> Tensor:
        """Share of the impulses to take away, gain of each wavelet band less 1: (N, 4)."""
        bands, differences = means.split([BANDS, means.shape[2] - BANDS], 2)
        mean, deviation = from_moments(*bands[:, :2].unbind(1))
        _, square, size, still = differences.unflatten(2, (2, -1)).mean(3).unbind(1)
        # of noise the highest; the rarer and stronger what there is, the lower
        pairs = (bands[:, 2], deviation), (size, square.sqrt())
        sparsity = [((size + 1e-3) / (root + 1e-3)).log() for size, root in pairs]
        known = torch.cat([spectrum_of(mean, deviation), log_amplitude(square)], 1)
        known = torch.cat([known, *(3 * sparse for sparse in sparsity)], 1)
        known = torch.cat([0.3 * known, 3 * still.mean(1, keepdim=True)], 1)
        into, out = self.asks
        gains = 3 * linear(out, F.leaky_relu(linear(into, known), LEAK))
        threshold, slope = self.switch.float()
        share = (slope * ((impulses + 1e-6).log() - threshold)).sigmoid()
        return torch.cat([share, (self.most * (gains / self.most).tanh()).expm1()], 1)

    def filtered(self, wide: Tensor, change: Tensor, asked: Tensor) -> Tensor:
        """What `impulses` gives, and what is asked for -> images (N, 3, H, W)."""
        share, gains = asked[:, :, None, None].split([1, len(self.steps)], 1)
        level, margin = plus_product(inner(wide, 1), change, share), self.reach - 1
        # a band is the difference of two levels: what each level counts for
        counts = torch.cat([gains[:, 1:], torch.zeros_like(share)], 1) - gains
        filtered = inner(level, margin) * (1 + gains[:, :1])
        for n, (step, count) in enumerate(zip(self.steps, counts.split(1, 1), strict=True), 1):
            level, margin = smoothed(level, step), margin - step
            filtered = plus_product(filtered, inner(level, margin), count / 16**n)
        return filtered


# The range of an image is between percentiles of its means on a grid: lamps and specks are outside
FINE = 32  # parts along each side
OUTSIDE = 30  # of the 3,072 means of all colours, at either end: one in a hundred


def range_of(fine: Tensor) -> tuple[Tensor, Tensor]:
    """Lower and upper end of the range of means (N, 3, FINE, FINE): two (N, 1)."""
    ordered = fine.flatten(1).sort(1).values
    return ordered[:, OUTSIDE, None], ordered[:, -1 - OUTSIDE, None]


class RangeSwitch(nn.Module):
    """Ours: an image that fills little of the range of pixels is stretched to what others fill.

    Dark photographs, hazy ones and those of low contrast do; most clean ones fill 0.7 or more. One
    map for all colours of an image, as Koschmieder's law of haze and a short exposure ask for. It
    starts as the identity: nothing is narrower than -4.
    """

    fills = 0.83  # of the range, a clean photograph; stretched over all of it recognisers see less
    most = 10.0  # times: what fills a twelfth of the range or less stays narrower

    def __init__(self) -> None:
        super().__init__()
        # the range from which half of the change is made, and how steeply it comes
        self.switch = nn.Parameter(torch.tensor([-4.0, 12.0]))

    def forward(self, filtered: Tensor) -> Tensor:
        """What PixelFilter gives (N, 3, H, W) -> the same, stretched."""
        with full_precision(filtered):
            means = F.avg_pool2d(filtered, CELL)
            return self.stretched(filtered, self.map(resized(means, (FINE, FINE))))

    def map(self, fine: Tensor) -> Tensor:
        """Scale and offset of the pixels (N, 2), from their means (N, 3, FINE, FINE)."""
        low, high = range_of(fine)
        width = high - low
        narrow, steepness = self.switch.float()
        share = (steepness * (narrow - width)).sigmoid()
        scale = (self.fills / width.clamp(min=1e-6)).clamp(1.0, self.most)
        # it lies in what is left of the range as it lay before: dark at the bottom, pale at the top
        left = (1 - scale * width) * low / (1 - width).clamp(min=1e-3)
        return torch.cat([1 + share * (scale - 1), share * (left - scale * low)], 1)

    def stretched(self, filtered: Tensor, stretch: Tensor) -> Tensor:
        """Images (N, 3, H, W) under a map (N, 2)."""
        scale, offset = stretch[:, :, None, None].split(1, 1)
        return plus_product(offset, filtered, scale)


class PixelDNC(nn.Module):
    """DNC at depth zero, ours: the pixels are normalised and compensated before E sees them.

    Haze, darkness and low contrast are affine maps of the pixels, of the whole image or of a
    region: both windows have their statistics, and their maps add up. E and all that follows then
    work on an image of usual brightness and contrast. Only the first family, light, has a branch:
    the affine map that brings a noisy image nearest to the clean one is a greyer one, which no
    recogniser wants. A third window is the range between what is nearly the darkest and nearly the
    brightest, of all colours together: to stretch it serves whatever is degraded.
    """

    regions = 8  # along each side

    def __init__(self, config: RestorerConfig):
        super().__init__()
        # three colours in each of three windows
        self.dnc = DNC(9, 1, 24, context=SPECTRUM)
        with torch.no_grad():
            self.dnc.gamma[:, 6:] = 0.5  # alone it stretches the range to [0, 1], given beta

    def forward(self, bands: Tensor, energy: Tensor, seen: Tensor, shares: Tensor) -> Tensor:
        """Bands and their squares (N, 48, h, w), spectrum (N, SPECTRUM), branch shares
        (N, branches) -> bands."""
        with full_precision(bands):
            colours = self.moments(bands, energy)
            around = resized(colours, (self.regions, self.regions))
            fine = resized(colours[:, :3], (FINE, FINE))
            maps = self.maps(colours.mean((2, 3), keepdim=True), around, fine, seen, shares)
            maps = F.interpolate(maps, bands.shape[-2:], mode="bilinear")
            return self.mapped(bands, maps)

    def moments(self, bands: Tensor, energy: Tensor) -> Tensor:
        """Means of the colours and of their squares in each cell (N, 6, h, w), float32."""
        # an orthonormal transform keeps the sum of squares (Parseval)
        squares = energy.unflatten(1, (3, -1)).mean(2)
        return torch.cat([bands[:, :: CELL**2] / CELL, squares], 1)

    def maps(
        self, whole: Tensor, around: Tensor, fine: Tensor, seen: Tensor, shares: Tensor
    ) -> Tensor:
        """What to add: scales and offsets of each colour in each region (N, 6, regions, regions).

        From the moments in the whole image (N, 6, 1, 1), those in each region, and the colours'
        means on a finer grid.
        """
        statistics = self.statistics(whole, around)  # mean, deviation: (N, 6, regions, regions)
        pairs = [
            torch.cat([both, extent[..., None, None].expand_as(both[:, :3])], 1)
            for both, extent in zip(statistics, self.extent(fine), strict=True)
        ]
        mean, deviation = (s.flatten(2).mT.flatten(0, 1) for s in pairs)
        context = seen.repeat_interleave(self.regions**2, 0)
        scale, offset = self.dnc(mean, deviation, context)  # (N * regions^2, 1, 9)
        maps = torch.cat([scale - 1, offset], 1).unflatten(2, (3, 3))
        maps = maps.unflatten(0, (-1, self.regions**2))  # (N, regions^2, 2, windows, colours)
        degraded = 1 - shares[:, -1:]
        weights = torch.cat([shares[:, :1], shares[:, :1], degraded], 1).float()
        maps = torch.einsum("nrmwc,nw->nmcr", maps, weights).flatten(1, 2)
        return maps.unflatten(2, (self.regions, self.regions))

    def extent(self, fine: Tensor) -> tuple[Tensor, Tensor]:
        """Middle and half of the range of means (N, 3, FINE, FINE): two (N, 1)."""
        low, high = range_of(fine)
        return (high + low) / 2, (high - low) / 2

    def statistics(self, whole: Tensor, around: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and deviation of the colours, in the whole image and around each region."""
        around = F.avg_pool2d(around, 3, stride=1, padding=1, count_include_pad=False)
        both = torch.stack([whole.expand_as(around), around], 1)
        mean, square = both.unflatten(2, (2, 3)).unbind(2)
        deviation = (square - mean.square()).clamp(min=1e-8).sqrt()
        return mean.flatten(1, 2), deviation.flatten(1, 2)

    def mapped(self, bands: Tensor, maps: Tensor) -> Tensor:
        """Bands (N, 48, h, w) of colours to which maps (N, 6, h, w) of themselves are added."""
        scale, offset = maps[:, :, None].chunk(2, dim=1)
        by_colour = bands.unflatten(1, (3, -1))
        by_colour = plus_product(by_colour, by_colour, scale)
        # an offset is in the mean alone
        return F.pad(offset * CELL, (0, 0, 0, 0, 0, CELL**2 - 1)).add_(by_colour).flatten(1, 2)


# --- SAD: semantic aware decoder -------------------------------------------------------------


def decoder(config: RestorerConfig) -> nn.Sequential:
    """SAD: features (N, C, H/s, W/s) -> bands of an image; published: the image.

    Published: transposed convolution, convolution, sigmoid. Ours is linear, so that
    SAD(f^) - SAD(f) = SAD(f^ - f): what the enhancement changed, decoded in one pass.
    """
    if config.published:
        lift = nn.ConvTranspose2d(config.channels, 64, 4, stride=2, padding=1)
        return nn.Sequential(lift, nn.ReLU(), conv(64, 3), nn.Sigmoid())
    last = conv(config.channels, BANDS, bias=False)
    nn.init.dirac_(last.weight)  # what E keeps, SAD gives back from the start
    return nn.Sequential(last)


# --- the restorer ----------------------------------------------------------------------------


class BandGains(nn.Module):
    """Ours, last of all: every band of what is restored has a gain from 0 to 2, by FGM's shares of
    the branches and the spectrum of the image. Clean images keep theirs.

    Pixels ask for all detail that can be told from noise, recognisers for less; a few numbers of an
    image, next to what the recogniser sees, learn that from it in minutes.
    """

    def __init__(self, branches: int):
        super().__init__()
        self.asks = zeroed(nn.Conv2d(branches + SPECTRUM, BANDS, 1))

    def forward(self, bands: Tensor, shares: Tensor, seen: Tensor) -> Tensor:
        """Bands (N, 48, h, w), branch shares (N, branches), spectrum (N, SPECTRUM) -> bands."""
        with full_precision(bands):
            # a tenth: as in SpatialUnit
            asked = linear(self.asks, torch.cat([shares, 0.1 * seen], 1)).tanh()
            gains = (1 - shares[:, -1:]) * asked
        return plus_product(bands, bands, gains[:, :, None, None].to(bands.dtype))


def check_images(images: Tensor) -> None:
    """Raise TypeError or ValueError with the remedy unless images are float (N, 3, H, W), finite.

    The values are looked at on the CPU only, where nothing waits for them, and not under
    torch.compile and torch.export. Elsewhere NaN is carried through: the statistics of an image
    with a pixel that is not finite are NaN, and so is all of what comes back for it.
    """
    if not isinstance(images, Tensor):
        raise TypeError(f"images are a {type(images).__name__}, expected a float torch.Tensor")
    if not images.is_floating_point():
        raise TypeError(
            f"images are {images.dtype}, expected float in [0, 1]: images.float() / 255"
        )
    if images.ndim != 4 or images.shape[1] != 3:
        hint = ""
        if images.ndim == 3:
            hint = ": add the batch dimension with images[None]"
        elif images.ndim == 4 and images.shape[3] == 3:
            hint = ": they look like NHWC, use images.permute(0, 3, 1, 2)"
        elif images.ndim == 4 and images.shape[1] == 1:
            hint = ": repeat grey images with images.expand(-1, 3, -1, -1)"
        elif images.ndim == 4 and images.shape[1] == 4:
            hint = ": drop the alpha channel with images[:, :3]"
        raise ValueError(f"images are {tuple(images.shape)}, expected RGB (N, 3, H, W){hint}")
    if 0 in images.shape[2:]:
        raise ValueError(f"images are {tuple(images.shape)}: height and width must be at least 1")
    if images.device.type != "cpu" or torch.compiler.is_compiling():
        return
    # one pass for all images that are: a sum has a NaN or an infinity where an image has one
    if not images.sum(dtype=torch.float32).isfinite() and not images.isfinite().all():
        raise ValueError("images have NaN or infinite pixels: find out where they come from")


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """The upper left height x width of images."""
    if not torch.compiler.is_compiling():
        return images[..., :height, :width]
    # a slice's strides make torch.export take the example's size for the rule
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    return images.index_select(2, rows).index_select(3, columns)


class Judged(NamedTuple):
    """What is known of images before they are enhanced: their bands (N, 48, h, w), normalised;
    E's features (N, C, h, w); FGM's gate (N, branches, h, w); their spectrum (N, SPECTRUM); what
    shares of the branches the whole image asks for (N, branches)."""

    bands: Tensor
    features: Tensor
    gate: Tensor
    seen: Tensor
    shares: Tensor


def degradation_of(gate: Tensor) -> Tensor:
    """The share of the gate that the last branch, that of clean images, does not have (N,)."""
    return 1 - gate[:, -1].float().mean((1, 2))


class Rebuilt(NamedTuple):
    """Images (N, 3, H, W), not clamped; FGM's gate (N, branches, h, w); what shares of the
    branches the whole image asks for (N, branches); ISE's features (N, C, h, w); what E was
    given: bands as PixelDNC left them (N, 48, h, w), or images as published."""

    images: Tensor
    gate: Tensor
    shares: Tensor
    features: Tensor
    given: Tensor


def as_they_came(rebuilt: Rebuilt, images: Tensor) -> Tensor:
    """Restored images clamped, in the size, precision and layout of those that came."""
    restored = cropped(rebuilt.images.clamp(0, 1), *images.shape[-2:])
    # a model may `.view` what it is given
    return torch.empty_like(images).copy_(restored)


def used(gate: Tensor, branch: Tensor | None) -> Tensor:
    """The gate, or the shares (N, branches) that stand in for it."""
    return gate if branch is None else branch[:, :, None, None].expand_as(gate)


class Restorer(nn.Module):
    """Restores what recognition needs in images of unknown degradation.

    Args:
        config: the name of a profile ("fast", "strong", "paper") or a RestorerConfig. The
            weights start untrained, at the identity where the profile has an input skip;
            `Restorer.from_pretrained` brings trained ones.
        mode: how images below the config's `bypass` come back as they were. "select" restores
            every image and then takes which of the two it should be: one graph, and always the
            same time. "skip" restores only the others, which saves most of the time that clean
            images cost; a GPU waits until it is known which they are. Under torch.compile and
            torch.export it selects. The pixels are the same.
    """

    def __init__(self, config: str | RestorerConfig = "fast", mode: str = "select"):
        super().__init__()
        if mode not in ("select", "skip"):
            raise ValueError(f"mode must be 'select' or 'skip', came {mode!r}")
        self.config = config_of(config) if isinstance(config, str) else config
        self.mode = mode
        self.encoder = encoder(self.config)
        self.ise = ISE(self.config)
        self.pixel_filter: Any = None if self.config.published else PixelFilter()
        self.range_switch: Any = None if self.config.published else RangeSwitch()
        self.pixel_dnc: Any = None if self.config.published else PixelDNC(self.config)
        self.decoder = decoder(self.config)
        self.gains: Any = None if self.config.published else BandGains(self.config.branches)

    def forward(self, images: Tensor) -> Tensor:
        """Restore a batch; the same in train() and in eval().

        Images that are clean by the config's `bypass` come back bit-identical.

        Args:
            images: RGB in [0, 1], (N, 3, H, W), any H, W >= 1, float32, float16 or bfloat16.

        Returns:
            Restored images of the same shape, dtype and device, clamped to [0, 1]. An empty
            batch comes back as it is. On a GPU, which is never waited for, and under torch.compile
            and torch.export, an image with a NaN or infinite pixel comes back as NaN altogether.

        Raises:
            TypeError: not a tensor, or not floating point.
            ValueError: not (N, 3, H, W), an empty image; on the CPU, NaN or infinite pixels.
        """
        check_images(images)
        # len() would freeze the batch size in torch.export
        if images.shape[0] == 0:
            return images
        padded = self.padded(images.to(self.dtype))
        if self.mode == "skip" and self.config.bypass and not torch.compiler.is_compiling():
            return self.restore_degraded(images, self.judge(padded))
        rebuilt = self.rebuild(padded)
        restored = as_they_came(rebuilt, images)
        if self.config.bypass == 0:
            return restored
        clean = degradation_of(rebuilt.gate) < self.config.bypass
        return torch.where(clean[:, None, None, None], images, restored)

    def restore_degraded(self, images: Tensor, judged: Judged) -> Tensor:
        """The images, of which only those with a score from the bypass on are enhanced."""
        restored = images.clone()
        degraded = degradation_of(judged.gate) >= self.config.bypass
        if degraded.any():
            some = self.enhance(Judged(*(part[degraded] for part in judged)))
            restored[degraded] = as_they_came(some, images[degraded])
        return restored

    def degradation(self, images: Tensor) -> Tensor:
        """How degraded FGM takes each image to be.

        Args:
            images: as for a call.

        Returns:
            A score for each image, (N,) float32, from 0 (clean) to 1: the share of the gate that
            the clean branch does not have.

        Raises:
            As a call does; ValueError for the profile "paper", which has no clean branch.
        """
        if self.config.published:
            raise ValueError("the published gate has no branch for clean images: no score")
        check_images(images)
        return degradation_of(self.judge(self.padded(images.to(self.dtype))).gate)

    def rebuild(self, images: Tensor, branch: Tensor | None = None) -> Rebuilt:
        """Images of a size divisible by `stride` -> restored, not clamped: what training sees.

        `branch` (N, branches), rows summing to 1, mixes the branches in the gates' place.
        """
        if self.config.published:
            return self.rebuild_as_published(images, branch)
        return self.enhance(self.judge(images, branch), branch)

    def judge(self, images: Tensor, branch: Tensor | None = None) -> Judged:
        """The first part of `rebuild`, up to FGM's gate."""
        bands = bands_of(self.range_switch(self.pixel_filter(images)))
        with full_precision(bands):
            energy = bands.square()
            seen = spectrum_in(bands, energy)
            amplitude = self.ise.fgm.amplitude(energy)
            prior = self.ise.fgm.prior(seen)
        shares = prior.softmax(1)
        bands = self.pixel_dnc(bands, energy, seen, shares if branch is None else branch)
        bands = bands.to(images.dtype)
        features = self.encoder(bands)  # (N, C, H/4, W/4)
        gate = self.ise.fgm(features, amplitude, prior)
        return Judged(bands, features, gate, seen, shares)

    def normalise(self, filtered: Tensor, branch: Tensor) -> Tensor:
        """What PixelFilter gives -> the bands that E is given, by shares (N, branches): what
        training sees of the pixels alone."""
        bands = bands_of(self.range_switch(filtered))
        with full_precision(bands):
            energy = bands.square()
            seen = spectrum_in(bands, energy)
        normalised: Tensor = self.pixel_dnc(bands, energy, seen, branch)
        return normalised

    def enhance(self, judged: Judged, branch: Tensor | None = None) -> Rebuilt:
        """The second part: ISE's blocks and SAD, on all images that are given."""
        given, features, gate, seen, shares = judged
        enhanced = self.ise(features, used(gate, branch), seen)
        if self.config.skip:
            bands = given + self.decoder(enhanced - features)
        else:
            bands = self.decoder(enhanced)
        bands = self.gains(bands, used(gate, branch).float().mean((2, 3)), seen)
        return Rebuilt(image_of(bands), gate, shares, enhanced, given)

    def rebuild_as_published(self, images: Tensor, branch: Tensor | None) -> Rebuilt:
        """From nothing but the features."""
        images = images.contiguous(memory_format=torch.channels_last)
        features = self.encoder(images)  # (N, C, H/2, W/2)
        gate = self.ise.fgm.published(features)
        enhanced = self.ise(features, used(gate, branch), images.new_empty(images.shape[0], 0))
        return Rebuilt(self.decoder(enhanced), gate, gate.mean((2, 3)), enhanced, images)

    def encode(self, images: Tensor) -> Tensor:
        """E alone: images (N, 3, H, W), H and W divisible by 4 -> (N, C, H/s, W/s)."""
        published = self.config.published
        features: Tensor = self.encoder(images if published else bands_of(images).to(images.dtype))
        return features

    def decode(self, features: Tensor) -> Tensor:
        """SAD alone: features (N, C, H/s, W/s) -> images (N, 3, H, W), not clamped."""
        decoded: Tensor = self.decoder(features)
        return decoded if self.config.published else image_of(decoded)

    def padded(self, images: Tensor) -> Tensor:
        """Edge pixels repeated to the right and below up to the next multiple of `stride`."""
        height, width = images.shape[-2:]
        # not -width % stride: inductor has no rule for the remainder of a negative size
        whole = ((side + self.stride - 1) // self.stride * self.stride for side in (height, width))
        below, right = (more - side for more, side in zip(whole, (height, width), strict=True))
        return F.pad(images, (0, right, 0, below), mode="replicate")

    @property
    def stride(self) -> int:
        """Heights and widths are worked on as multiples of this many pixels."""
        levels = max(1, *(len(widths) for widths in self.config.units))
        return 2 if self.config.published else CELL * 2 ** (levels - 1)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights, in which the images are restored."""
        return next(self.parameters()).dtype

    def extra_repr(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        return f"{self.config.profile}, {count / 1e6:.2f} M parameters"

    @classmethod
    def from_pretrained(
        cls, name: str | Path, *, revision: str | None = None, mode: str = "select"
    ) -> "Restorer":
        """Trained weights: an embedded set, a folder, or a repository on the Hugging Face Hub.

        A repository is taken from the Hub's cache where it is there, and else downloaded. A branch
        stays at the commit that was downloaded until `vrdir download` is asked for a newer one.

        Args:
            name: "fast"; or a folder with config.json and model.safetensors; or "org/name". A bare
                name of an embedded set is that set: write "./fast" for a folder of your own.
            revision: commit, tag or branch on the Hub; default "main".
            mode: "select" or "skip", see the class.

        Raises:
            FileNotFoundError: there is nothing of this name.
            ConnectionError: it would have to be downloaded, and cannot be.
            WeightsError: the files are damaged, pickled, or of another architecture.
        """
        folder = weights.locate(name, revision)
        values = weights.read_config(folder)
        try:
            config = RestorerConfig.from_dict(values)
            # a stranger's config may ask for more memory than his file has numbers
            with torch.device("meta"):
                outline = cls(config)
        except (TypeError, ValueError) as error:
            raise weights.WeightsError(f"{folder / weights.CONFIG}: {error}") from error
        weights.check(outline, folder)
        restorer = cls(config, mode)
        weights.load(restorer, folder)
        return restorer.eval()

    def save_pretrained(self, folder: str | Path) -> None:
        """Write config.json and model.safetensors into the folder, made if need be."""
        weights.save(self, asdict(self.config), Path(folder))

    def push_to_hub(self, repository: str, card: str, *, private: bool = False) -> str:
        """Publish the weights with their card on the Hugging Face Hub.

        Args:
            repository: "org/name", made if need be; you are logged in (`hf auth login`).
            card: the text of its README.md: your own, or `weights.model_card` with the table that
                `vrdir evaluate` printed. Weights without measurements are of no use to others.
            private: make the repository a private one.

        Returns:
            The commit: `from_pretrained(repository, revision=commit)` is these weights for ever.
        """
        return weights.publish(self, asdict(self.config), repository, card, private)
