"""ISE, intrinsic semantics enhancement: DNC, FGM, and the blocks that they make.

Source: see `restorer`; docstrings mark what is the paper's and what is our deviation. Shapes are
(N, channels, height, width).
"""

from itertools import pairwise
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from .bands import (
    BANDS,
    LEAK,
    SPECTRUM,
    conv,
    convolve,
    full_precision,
    linear,
    log_amplitude,
    mean_and_deviation,
    plus_product,
    resized,
    zeroed,
)
from .config import RestorerConfig
from .fourier import exporting, modulate_by_fft, modulate_by_products


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
