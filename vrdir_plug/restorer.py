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
from typing import Any

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
        units: one entry per ISE block: the widths of its spatial unit, each level at half the
            resolution of the one before; empty for DNC and FGM alone, as published.
        branches: DNC branches N, one per family of degradations.
        grid: side of the square grid on which FGM takes the spectrum; 0 takes it at the
            features' own resolution.
        skip: rebuild on top of the input image (ours) or from features only (the paper).
        published: the modules as the paper's authors code them (VGG encoder at H/2, DNC gates
            that see only the mean, transposed-convolution decoder with a sigmoid).
    """

    profile: str
    channels: int
    units: tuple[tuple[int, ...], ...]
    branches: int = 5
    grid: int = 16
    skip: bool = True
    published: bool = False

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
    RestorerConfig("fast", 40, ((48, 64), (64, 80))),
    RestorerConfig("strong", 96, ((128, 192), (160, 256), (160, 256))),
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


def encoder(config: RestorerConfig) -> nn.Sequential:
    """E: image (N, 3, H, W) in [0, 1] -> features (N, C, H/s, W/s), before their activation.

    Published: a VGG up to conv2_2, s = 2. Ours: space to depth and two convolutions, s = 4.
    """
    if config.published:
        layers = [conv(3, 64), nn.ReLU(), conv(64, 64), nn.ReLU(), nn.MaxPool2d(2)]
        return nn.Sequential(*layers, conv(64, 128), nn.ReLU(), conv(128, config.channels))
    channels = config.channels
    return nn.Sequential(
        nn.PixelUnshuffle(4), conv(48, channels), nn.ReLU(), conv(channels, channels)
    )


# --- ISE: intrinsic semantics enhancement ----------------------------------------------------


def full_precision(like: Tensor) -> AbstractContextManager[object]:
    """Spectra and statistics overflow or round away in half precision: leave autocast for them."""
    kind = like.device.type
    return torch.autocast(kind, enabled=False) if torch.is_autocast_enabled(kind) else nullcontext()


def mean_and_deviation(features: Tensor) -> tuple[Tensor, Tensor]:
    """Per sample and channel over H, W, in float32: two (N, C) tensors."""
    features = features.float()
    mean = features.mean((2, 3))
    # from the squares, in one pass each: several times faster than torch.std on CPU
    variance = features.square().mean((2, 3)) - mean.square()
    return mean, variance.clamp(min=1e-10).sqrt()


class DNC(nn.Module):
    """Degradation normalisation and compensation: N branches, each an affine map per channel.

    Published: DNC_n(f) = w0 f + w1 (gamma (f - mu) / (sigma + eps) + beta), with the gates w0, w1
    from the pooled [f ; f~]. That is a_n f + b_n with a_n = w0 + w1 gamma / (sigma + eps) and
    b_n = w1 (beta - gamma mu / (sigma + eps)), so f~ is never formed.
    The pooled f~ is exactly beta, so published gates cannot see sigma; ours see [mu ; log sigma]
    and a context (the octaves of the image), and run over (0, 2) and (-1, 1), so that every branch
    starts as the identity.
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
    # the product is reduced while it is still an exact integer
    angle = (steps[:, None] * steps).remainder(size).float() * (2 * math.pi / size)
    return angle.cos() / math.sqrt(size), angle.sin() / math.sqrt(size)


def modulate_by_products(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """Re IFFT2(gain(|F|) F), F = FFT2(features), on a square grid by matrix products.

    They are cheap where the grid is small, and export and run where complex numbers do not.
    """
    cos, sin = dft(features.shape[-1], features.device)
    rows, columns = cos @ features, sin @ features
    real, imaginary = rows @ cos - columns @ sin, -(rows @ sin + columns @ cos)
    scale = gain((real.square() + imaginary.square()).clamp(min=1e-12).sqrt())
    real, imaginary = real * scale, imaginary * scale
    rows, columns = cos @ real - sin @ imaginary, cos @ imaginary + sin @ real
    return rows @ cos - columns @ sin


def modulate_by_fft(features: Tensor, gain: Callable[[Tensor], Tensor]) -> Tensor:
    """The same for any height and width, by rfft2."""
    spectrum = torch.fft.rfft2(features, norm="ortho")
    amplitude = (spectrum.real.square() + spectrum.imag.square()).clamp(min=1e-12).sqrt()
    return torch.fft.irfft2(spectrum * gain(amplitude), s=features.shape[-2:], norm="ortho")


def convolve(layer: nn.Conv2d, features: Tensor) -> Tensor:
    """The layer in the features' precision, whatever that of its weights."""
    bias = torch.as_tensor(layer.bias).to(features.dtype)
    return F.conv2d(features, layer.weight.to(features.dtype), bias, padding=layer.padding)


OCTAVES = 3
SPECTRUM = 3 * (OCTAVES + 2)  # numbers of an image that `octaves` returns


def octaves(images: Tensor) -> Tensor:
    """Mean and log energies of the octaves of each colour's spectrum: (N, SPECTRUM).

    The finest first, the last that of all that is coarser. These statistics of the amplitude
    spectrum tell noise, blur, haze and darkness apart; E's features hardly do, for E learns not
    to mind.
    """
    rest = images.float()
    bands = [rest.mean((2, 3))]
    for _ in range(OCTAVES):
        coarse = F.avg_pool2d(rest, 2)
        fine = rest - F.interpolate(coarse, scale_factor=2.0)
        bands.append(fine.square().mean((2, 3)).clamp(min=1e-8).sqrt())
        rest = coarse
    bands.append(mean_and_deviation(rest)[1])
    # about 0 on average, or the first layers learn slowly
    return torch.cat([bands[0], *((band + 1e-3).log() + 2 for band in bands[1:])], 1)


class FGM(nn.Module):
    """Fourier guided modulation: a gate over the DNC branches, per position, from E's features.

    F = FFT2(f), A = |F|, A' = conv1x1(A), s = Re IFFT2(A' F / (A + eps)): the amplitude is
    modulated, the phase is kept; G = softmax over branches of conv3x3(s).
    Ours takes the spectrum of features resampled to a fixed grid, and adds logits for the whole
    image from the `octaves` of its pixels: without them the gate could not tell noise from
    texture, and fell to one branch for all images.
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
        self.gate = zeroed(conv(channels, branches))
        into, out = nn.Conv2d(SPECTRUM, 48, 1), zeroed(nn.Conv2d(48, branches, 1))
        self.whole: Any = None if published else nn.ModuleList([into, out])

    def forward(self, features: Tensor, spectrum: Tensor) -> Tensor:
        """(N, C, h, w), octaves (N, SPECTRUM) -> gate (N, branches, h, w), over branches 1."""
        with full_precision(features):
            gate = self.logits(features.float(), spectrum).softmax(1)
        return F.interpolate(gate, features.shape[-2:], mode="bilinear") if self.grid else gate

    def logits(self, features: Tensor, spectrum: Tensor) -> Tensor:
        logits = convolve(self.gate, self.modulated(features))
        if self.whole is None:
            return logits
        into, out = self.whole
        return logits + convolve(out, convolve(into, spectrum[:, :, None, None]).relu())

    def modulated(self, features: Tensor) -> Tensor:
        if not self.grid:
            return modulate_by_fft(features, self.gain)
        size = (self.grid, self.grid)
        features = F.interpolate(features, size, mode="bilinear", antialias=True)
        return modulate_by_products(features, self.gain)

    def gain(self, amplitude: Tensor) -> Tensor:
        """A' / (A + eps)."""
        return convolve(self.amplitudes, amplitude) / (amplitude + self.eps)


def mix(gate: Tensor, values: Tensor) -> Tensor:
    """sum_n G_n v_n: gate (N, branches, h, w), values (N, branches, C) -> (N, C, h, w)."""
    # written with the channels last, as the features it meets are
    return (gate.flatten(2).mT @ values).mT.unflatten(2, gate.shape[-2:])


class Residual(nn.Module):
    """Two 3x3 convolutions beside the identity, at which they start."""

    def __init__(self, channels: int):
        super().__init__()
        last = zeroed(conv(channels, channels))
        self.body = nn.Sequential(conv(channels, channels), nn.ReLU(), last)

    def forward(self, features: Tensor) -> Tensor:
        return (features + self.body(features)).relu()


class SpatialUnit(nn.Module):
    """A local affine map f (1 + m) + d from a small U of 3x3 convolutions; starts at the identity.

    Ours: DNC and FGM have no spatial filter, so alone they cannot remove noise, streaks or blur.
    A scale per position can silence noise in the features that the narrow U could not carry.
    """

    def __init__(self, channels: int, widths: tuple[int, ...]):
        super().__init__()
        self.down = nn.ModuleList(conv(a, b, stride=2) for a, b in pairwise((channels, *widths)))
        self.body = nn.ModuleList(Residual(width) for width in widths)
        self.up = nn.ModuleList(nn.Conv2d(b, 4 * a, 1) for a, b in pairwise(widths))
        self.head = zeroed(nn.Conv2d(widths[0], 4 * 2 * channels, 1))

    def forward(self, features: Tensor) -> Tensor:
        """(N, C, h, w), h and w divisible by 2^levels -> the same shape."""
        levels = [features]
        for down in self.down:
            levels.append(down(levels[-1]).relu())  # (N, width, h/2, w/2), then h/4, ...
        deep = self.body[-1](levels.pop())
        for up, body in zip(reversed(self.up), reversed(self.body[:-1]), strict=True):
            deep = body(levels.pop() + F.pixel_shuffle(up(deep), 2))
        scale, shift = F.pixel_shuffle(self.head(deep), 2).chunk(2, dim=1)
        return features * (1 + scale) + shift


class Block(nn.Module):
    """Spatial unit, then DNC: f sum_n G_n a_n + sum_n G_n b_n, all branches in one pass."""

    def __init__(self, config: RestorerConfig, widths: tuple[int, ...]):
        super().__init__()
        sizes = config.channels, config.branches, config.channels // 4
        self.unit = SpatialUnit(config.channels, widths) if widths else nn.Identity()
        self.dnc = DNC(*sizes, 0 if config.published else SPECTRUM, config.published)

    def forward(self, features: Tensor, gate: Tensor, spectrum: Tensor) -> Tensor:
        """Features (N, C, h, w), gate (N, branches, h, w), octaves (N, SPECTRUM) -> features."""
        features = self.unit(features)
        with full_precision(features):
            values = torch.cat(self.dnc(*mean_and_deviation(features), spectrum), 2)
            scale, offset = mix(gate, values).to(features.dtype).chunk(2, dim=1)
        return features * scale + offset


class ISE(nn.Module):
    """Intrinsic semantics enhancement: FGM's gate over the DNC branches of every block.

    One gate serves all blocks: it comes from E's features, before any branch has left its mark.
    """

    def __init__(self, config: RestorerConfig):
        super().__init__()
        self.fgm = FGM(config.channels, config.branches, config.grid, config.published)
        self.blocks = nn.ModuleList(Block(config, widths) for widths in config.units)

    def forward(self, features: Tensor, gate: Tensor, spectrum: Tensor) -> Tensor:
        """Features (N, C, h, w), gate (N, branches, h, w), octaves (N, SPECTRUM) -> features."""
        for block in self.blocks:
            features = block(features, gate, spectrum)
        return features


def pyramid(images: Tensor) -> Tensor:
    """The image as smooth octaves that sum to it, the finest first: (N, 3 (OCTAVES + 1), H, W)."""
    size = images.shape[-2:]
    smooth = [images]
    for octave in range(1, OCTAVES + 1):
        coarse = F.avg_pool2d(images, 2**octave)
        smooth.append(F.interpolate(coarse, size, mode="bilinear"))
    return torch.cat([*(a - b for a, b in pairwise(smooth)), smooth[-1]], 1)


class PixelDNC(nn.Module):
    """DNC at depth zero, ours: the octaves of the input skip are normalised and compensated.

    Haze, darkness and low contrast are affine maps of the pixels; noise and blur are too much and
    too little of the fine octaves. It is the amplitude that is modulated, by octave; the phase is
    kept. The enhanced features only choose the map, and the gate where which holds.
    """

    def __init__(self, config: RestorerConfig):
        super().__init__()
        channels = 3 * (OCTAVES + 1)
        self.dnc = DNC(channels, config.branches, 24, context=2 * config.channels + SPECTRUM)
        # fine octaves of photographs are that faint
        nn.init.constant_(self.dnc.gamma[:, :-3], 0.05)

    def forward(self, images: Tensor, features: Tensor, gate: Tensor, spectrum: Tensor) -> Tensor:
        """Images (N, 3, H, W), enhanced features (N, C, h, w), gate, octaves -> images."""
        with full_precision(features):
            mean, deviation = mean_and_deviation(features)
            context = mean, (deviation + DNC.eps).log(), spectrum
            bands = pyramid(images.float())  # (N, 12, H, W)
            scales, offsets = self.dnc(*mean_and_deviation(bands), *context)
            # the offsets of the octaves add up: three are enough
            offsets = offsets.unflatten(2, (-1, 3)).sum(2)
            maps = mix(gate, torch.cat([scales, offsets], 2))  # (N, 15, h, w)
            maps = F.interpolate(maps, images.shape[-2:], mode="bilinear")
            restored = (bands * maps[:, :-3]).unflatten(1, (-1, 3)).sum(1) + maps[:, -3:]
        return restored.to(images.dtype)


# --- SAD: semantic aware decoder -------------------------------------------------------------


def decoder(config: RestorerConfig) -> nn.Sequential:
    """SAD: features (N, C, H/s, W/s) -> image (N, 3, H, W).

    Published: transposed convolution, convolution, sigmoid. Ours is linear, so that
    SAD(f^) - SAD(f) = SAD(f^ - f): what the enhancement changed, decoded in one pass.
    """
    if config.published:
        lift = nn.ConvTranspose2d(config.channels, 64, 4, stride=2, padding=1)
        return nn.Sequential(lift, nn.ReLU(), conv(64, 3), nn.Sigmoid())
    return nn.Sequential(conv(config.channels, 48, bias=False), nn.PixelShuffle(4))


# --- the restorer ----------------------------------------------------------------------------


def check_images(images: Tensor) -> None:
    """Raise TypeError or ValueError with the remedy unless images are float (N, 3, H, W), finite.

    The values are looked at outside of torch.compile and torch.export only.
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
    if not torch.compiler.is_compiling() and not images.isfinite().all():
        raise ValueError("images have NaN or infinite pixels: find out where they come from")


def cropped(images: Tensor, height: int, width: int) -> Tensor:
    """The upper left height x width of images."""
    if not torch.compiler.is_compiling():
        return images[..., :height, :width]
    # a slice's strides make torch.export take the example's size for the rule
    rows, columns = (torch.arange(n, device=images.device) for n in (height, width))
    return images.index_select(2, rows).index_select(3, columns)


class Restorer(nn.Module):
    """Restores what recognition needs in images of unknown degradation.

    Args:
        config: the name of a profile ("fast", "strong", "paper") or a RestorerConfig. The
            weights start untrained, at the identity where the profile has an input skip;
            `Restorer.from_pretrained` brings trained ones.
    """

    def __init__(self, config: str | RestorerConfig = "fast"):
        super().__init__()
        self.config = config_of(config) if isinstance(config, str) else config
        self.encoder = encoder(self.config)
        self.ise = ISE(self.config)
        self.pixel_dnc = PixelDNC(self.config) if self.config.skip else None
        self.decoder = decoder(self.config)

    def forward(self, images: Tensor) -> Tensor:
        """Restore a batch; the same in train() and in eval().

        Args:
            images: RGB in [0, 1], (N, 3, H, W), any H, W >= 1, float32, float16 or bfloat16.

        Returns:
            Restored images of the same shape, dtype and device, clamped to [0, 1]. An empty
            batch comes back as it is.

        Raises:
            TypeError: not a tensor, or not floating point.
            ValueError: not (N, 3, H, W), an empty image, NaN or infinite pixels.
        """
        check_images(images)
        # len() would freeze the batch size in torch.export
        if images.shape[0] == 0:
            return images
        # convolutions are faster with the channels last, whatever the user's layout
        padded = self.padded(images.to(self.dtype)).contiguous(memory_format=torch.channels_last)
        restored = self.rebuild(padded).clamp(0, 1)
        # into the user's own layout: a model may `.view` what it is given
        return torch.empty_like(images).copy_(cropped(restored, *images.shape[-2:]))

    def rebuild(self, images: Tensor) -> Tensor:
        """Images of a size divisible by `stride` -> restored, not clamped."""
        return self.rebuild_and_gate(images)[0]

    def rebuild_and_gate(
        self, images: Tensor, branch: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """The same with FGM's gate, (N, branches, H/s, W/s): what training sees.

        `branch` (N, branches), rows summing to 1, mixes the branches in the gate's place.
        """
        # as published, nothing but the features is seen
        spectrum = (
            images.new_empty(images.shape[0], 0) if self.config.published else octaves(images)
        )
        features = self.encoder(images)  # (N, C, H/s, W/s)
        gate = self.ise.fgm(features, spectrum)
        used = gate if branch is None else branch[:, :, None, None].expand_as(gate)
        enhanced = self.ise(features, used, spectrum)
        if self.pixel_dnc is None:
            return self.decoder(enhanced), gate  # (N, 3, H, W)
        skipped = self.pixel_dnc(images, enhanced, used, spectrum)
        return skipped + self.decoder(enhanced - features), gate

    def padded(self, images: Tensor) -> Tensor:
        """Edge pixels repeated to the right and below up to the next multiple of `stride`."""
        height, width = images.shape[-2:]
        right, below = -width % self.stride, -height % self.stride
        return F.pad(images, (0, right, 0, below), mode="replicate")

    @property
    def stride(self) -> int:
        """Heights and widths are worked on as multiples of this many pixels."""
        levels = max(len(widths) for widths in self.config.units)
        return 2 * 2**levels if self.config.published else max(4 * 2**levels, 2**OCTAVES)

    @property
    def dtype(self) -> torch.dtype:
        """The precision of the weights, in which the images are restored."""
        return next(self.parameters()).dtype

    def extra_repr(self) -> str:
        count = sum(p.numel() for p in self.parameters())
        return f"{self.config.profile}, {count / 1e6:.2f} M parameters"

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> "Restorer":
        """Trained weights: an embedded set, a folder, or a repository on the Hugging Face Hub.

        A repository is taken from the Hub's cache where it is there, and else downloaded. A branch
        stays at the commit that was downloaded until `vrdir download` is asked for a newer one.

        Args:
            name: "fast"; or a folder with config.json and model.safetensors; or "org/name". A bare
                name of an embedded set is that set: write "./fast" for a folder of your own.
            revision: commit, tag or branch on the Hub; default "main".

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
        restorer = cls(config)
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
