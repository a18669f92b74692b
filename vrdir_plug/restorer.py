"""The VRD-IR network: encoder E, intrinsic semantics enhancement ISE (DNC + FGM), decoder SAD.

Source: Yang et al., "Visual Recognition-Driven Image Restoration for Multiple Degradation with
Intrinsic Semantics Recovery", CVPR 2023. The published description leaves sizes open; docstrings
mark what is the paper's and what is our deviation. Shapes are (N, channels, height, width).
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from . import weights
from .bands import (
    BANDS,
    CELL,
    SPECTRUM,
    Judgement,
    bands_of,
    conv,
    cropped,
    filled,
    full_precision,
    idle,
    image_of,
    linear,
    plus_product,
    spectrum_in,
    zeroed,
)
from .config import RestorerConfig, config_of
from .constants import recorded
from .defocus import DefocusFilter
from .front import Light, PixelDNC, PixelFilter
from .ise import ISE
from .mosaic import mosaic_in, without_mosaic
from .motion import MotionFilter, windows_on
from .streaks import StreakFilter
from .weather import WeatherFilter
from .zoom import ZoomFilter


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


class Judged(NamedTuple):
    """What is known of images before they are enhanced: they themselves (N, 3, H, W), filtered and
    in another light, and their bands (N, 48, h, w), in float32; local amplitudes and logits for FGM
    (N, 48, grid, grid), (N, branches); their spectrum (N, SPECTRUM); what shares of the branches
    the whole image asks for (N, branches); what `Worth` is told of them (N, known); how degraded
    they are (N,), and how much of the enhancement they need (N,)."""

    images: Tensor
    bands: Tensor
    amplitude: Tensor
    prior: Tensor
    seen: Tensor
    shares: Tensor
    told: Tensor
    degradation: Tensor
    needed: Tensor


class Worth(Judgement):
    """Ours: whether a recogniser sees more in an image that is restored, by all that is known of it
    before DNC and E.

    What can be seen of a degradation is not what can be mended: behind frost, or where lines are
    bent, as in soft or pale photographs that nothing was done to, restoring may only do harm. The
    teachers tell in training; at first every image is worth it.
    """

    def __init__(self, branches: int) -> None:
        super().__init__(PixelFilter.known + SPECTRUM + branches + 3)
        nn.init.constant_(torch.as_tensor(self[1].bias), 0.5)

    def told(
        self, known: Tensor, seen: Tensor, prior: Tensor, changes: Tensor, gains: Tensor
    ) -> Tensor:
        """What PixelFilter knows (N, known), spectrum (N, SPECTRUM), logits (N, branches), what was
        changed (N, 2), ZoomFilter's gains (N, BINS) -> what a chance is told by, about as large
        each."""
        moved = (changes + 1e-6).log() + 7
        told = torch.cat([known, 0.3 * torch.cat([seen, prior, moved], 1)], 1)
        return torch.cat([told, gains.mean(1, keepdim=True)], 1)


FAR = 0.05  # root mean square of what filters and light change, of which a clean image has less


def degradation_of(shares: Tensor, changes: Tensor, worth: Tensor) -> Tensor:
    """What is not clean, no more than its `worth` (N,): the share that the last branch, that of
    clean images, does not have; and as FGM sees nothing of what was mended before it, the mean
    squares that these `changes` (N, 2) were."""
    return worth.minimum(1 - shares[:, -1] * (-changes.sum(1).sqrt() / FAR).exp())


def changes_of(images: Tensor, filtered: Tensor, lit: Tensor) -> Tensor:
    """Mean squares of what filters and then light have changed of images (N, 3, H, W): (N, 2). That
    in one pixel of each cell, and that in the mean of each cell."""
    before, after = (planes[..., ::CELL, ::CELL].float() for planes in (images, filtered))
    pixels, means = after - before, F.avg_pool2d(lit - filtered, CELL)
    return torch.stack([change.square().mean((1, 2, 3)) for change in (pixels, means)], 1)


class Rebuilt(NamedTuple):
    """Images (N, 3, H, W), not clamped; FGM's gate (N, branches, h, w); what shares of the
    branches the whole image asks for (N, branches); ISE's features (N, C, h, w); what E was
    given: bands as PixelDNC left them (N, 48, h, w), or images as published."""

    images: Tensor
    gate: Tensor
    shares: Tensor
    features: Tensor
    given: Tensor


def as_they_came(restored: Tensor, images: Tensor) -> Tensor:
    """Restored images clamped, in the size, precision and layout of those that came."""
    restored = cropped(restored.clamp(0, 1), *images.shape[-2:])
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
            every image and then takes which of the two it should be: one graph, and on a GPU always
            the same time (a CPU leaves out what no image of the batch needs). "skip" computes
            nothing behind filters and light for them; a GPU waits until it is known which they
            are. Under torch.compile, torch.export and torch.jit.trace it selects. The pixels are
            the same.
    """

    def __init__(self, config: str | RestorerConfig = "fast", mode: str = "select"):
        super().__init__()
        if mode not in ("select", "skip"):
            raise ValueError(f"mode must be 'select' or 'skip', came {mode!r}")
        self.config = config_of(config) if isinstance(config, str) else config
        self.mode = mode
        self.encoder = encoder(self.config)
        self.ise = ISE(self.config)
        self.streak_filter: Any = None if self.config.published else StreakFilter()
        denoiser = self.config.denoiser
        self.pixel_filter: Any = None if self.config.published else PixelFilter(denoiser)
        self.light: Any = None if self.config.published else Light()
        self.pixel_dnc: Any = None if self.config.published else PixelDNC()
        self.decoder = decoder(self.config)
        self.gains: Any = None if self.config.published else BandGains(self.config.branches)
        self.worth: Any = None if self.config.published else Worth(self.config.branches)
        self.zoom_filter: Any = None if self.config.published else ZoomFilter()
        self.motion_filter: Any = None if self.config.published else MotionFilter()
        self.defocus_filter: Any = None if self.config.published else DefocusFilter()
        weather = self.config.weather
        self.weather_filter: Any = WeatherFilter(weather) if weather else None

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
        if self.config.published:
            return as_they_came(self.rebuild(padded).images, images)
        scene, share = self.uncovered(padded)
        judged = self.judge(scene)
        if self.config.bypass == 0:
            return as_they_came(self.restored(judged), images)
        # what lay over a scene is gone, though nothing else is worth it
        if not idle(share):
            covered = (share >= self.config.bypass)[:, None, None, None]
            images = torch.where(covered, as_they_came(scene, images), images)
        if self.mode == "skip" and not recorded():
            return self.restore_degraded(images, judged)
        return self.selected(images, judged)

    def selected(self, images: Tensor, judged: Judged) -> Tensor:
        """The images, all of them restored, and those as they are whose score is below the
        bypass."""
        clean = judged.degradation < self.config.bypass
        restored = as_they_came(self.restored(judged), images)
        return torch.where(clean[:, None, None, None], images, restored)

    def uncovered(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Images (N, 3, H, W), H and W divisible by 4 -> without what lies over the scene, in
        [0, 1], and how much of that was taken away (N,). Streaks StreakFilter mends better; and
        large pixels are told by what repeats bit for bit, so they stay as they are."""
        if self.weather_filter is None:
            return images, torch.zeros_like(images[:, 0, 0, 0], dtype=torch.float32)
        weather, pixels = self.weather_filter, images.float()
        seen = weather.seen(pixels)
        share = weather.judged(seen)
        if not idle(share):
            share = share * self.coverable(pixels)
        if idle(share):
            return images, share
        change = cropped(weather.change(*seen), *pixels.shape[2:])
        return plus_product(pixels, change, share[:, None, None, None]).clamp(0, 1), share

    def coverable(self, pixels: Tensor) -> Tensor:
        """How far images in float32 are WeatherFilter's at all (N,): not where StreakFilter is
        sure, nor where large pixels are found."""
        with full_precision(pixels):
            streaks = self.streak_filter.signs(pixels).mean((2, 3))
            left: Tensor = 1 - self.streak_filter.share(streaks)
            return torch.where(mosaic_in(pixels), 0.0, left)

    def restore_degraded(self, images: Tensor, judged: Judged) -> Tensor:
        """The images, of which only those with a score from the bypass on are enhanced."""
        restored = images.clone()
        degraded = judged.degradation >= self.config.bypass
        if degraded.any():
            some = self.restored(Judged(*(part[degraded] for part in judged)))
            restored[degraded] = as_they_came(some, images[degraded])
        return restored

    def restored(self, judged: Judged) -> Tensor:
        """What filters and light left, enhanced as far as it needs that."""
        if not self.config.enhanced_from:
            return self.enhance(judged).images
        return judged.images if idle(judged.needed) else self.enhanced(judged)

    def enhanced(self, judged: Judged) -> Tensor:
        """The same, computed for all images: what training sees."""
        images, needed = self.enhance(judged).images.float(), judged.needed[:, None, None, None]
        return torch.lerp(judged.images, images, needed)

    def degradation(self, images: Tensor) -> Tensor:
        """How degraded each image is taken to be, as far as restoring it helps a recogniser.

        Args:
            images: as for a call.

        Returns:
            A score for each image, (N,) float32, from 0 (clean) to 1: what FGM does not give to
            the branch of clean images, and how much was mended before; but no more than the chance
            that a recogniser sees more in it restored, which dark images have by rule; or the share
            of what lies over the scene that is taken away, if that is more.

        Raises:
            As a call does; ValueError for the profile "paper", which has no clean branch.
        """
        if self.config.published:
            raise ValueError("the published gate has no branch for clean images: no score")
        check_images(images)
        scene, share = self.uncovered(self.padded(images.to(self.dtype)))
        return self.judge(scene).degradation.maximum(share)

    def rebuild(self, images: Tensor, branch: Tensor | None = None) -> Rebuilt:
        """Images of a size divisible by `stride` -> restored, not clamped: what training sees.

        `branch` (N, branches), rows summing to 1, mixes the branches in the gates' place.
        """
        if self.config.published:
            return self.rebuild_as_published(images, branch)
        return self.enhance(self.judge(images), branch)

    def judge(self, images: Tensor) -> Judged:
        """The first part of `rebuild`: all that filters and light do to the pixels."""
        cleared, gains = self.cleared(images)
        filtered, known = self.pixel_filter(cleared)
        lit = self.light(filtered, self.pixel_filter.clear(known))
        bands = bands_of(lit)
        with full_precision(bands):
            changes = changes_of(images, filtered, lit)
            energy = bands.square()
            seen = spectrum_in(bands, energy)
            amplitude = self.ise.fgm.amplitude(energy)
            prior = self.ise.fgm.prior(seen)
            shares = prior.softmax(1)
            told = self.worth.told(known, seen, prior, changes, gains)
            degradation = degradation_of(shares, changes, self.worthy(told, known))
            needed = self.needed(shares)
        return Judged(lit, bands, amplitude, prior, seen, shares, told, degradation, needed)

    def worthy(self, told: Tensor, known: Tensor) -> Tensor:
        """The chance that restoring is worth it (N,), by what `Worth` is told and what PixelFilter
        knows of images. Dark ones are: where a photograph was to be dark recognisers see as much in
        it lifted, and Worth cannot tell it from others."""
        dark = self.light.shadow_switch.share(self.pixel_filter.brightness(known))
        return self.worth.chance(told).maximum(dark)

    def needed(self, shares: Tensor) -> Tensor:
        """How much of the enhancement images need (N,), by shares of the branches (N, branches)."""
        least = self.config.enhanced_from
        return (shares[:, -2] / least - 1).clamp(0, 1) if least else torch.ones_like(shares[:, -2])

    def cleared(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What PixelFilter is given, images in float32 without large pixels, zoom, motion and
        lens blur, and streaks; and ZoomFilter's gains."""
        sharp, gains = self.sharpened(images)
        return self.streak_filter(sharp), gains

    def sharpened(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What StreakFilter is given, and ZoomFilter's gains."""
        sharp, gains = self.zoom_filter(without_mosaic(images))
        windows = windows_on(sharp)
        still = self.motion_filter(sharp, windows)
        # what nothing was done to shows the same again
        return self.defocus_filter(still, windows if still is sharp else None), gains

    def normalise(self, filtered: Tensor, known: Tensor, branch: Tensor) -> Tensor:
        """What PixelFilter gives -> the bands that E is given, by shares (N, branches): what
        training sees of the pixels alone."""
        bands = bands_of(self.light(filtered, self.pixel_filter.clear(known)))
        with full_precision(bands):
            energy = bands.square()
            seen = spectrum_in(bands, energy)
        normalised: Tensor = self.pixel_dnc(bands, energy, seen, branch)
        return normalised

    def enhance(self, judged: Judged, branch: Tensor | None = None) -> Rebuilt:
        """The second part: PixelDNC, E, FGM, ISE's blocks and SAD, on all images that are given."""
        shares = judged.shares if branch is None else branch
        with full_precision(judged.bands):
            given = self.pixel_dnc(judged.bands, judged.bands.square(), judged.seen, shares)
        given = given.to(self.dtype)
        features = self.encoder(given)  # (N, C, H/4, W/4)
        gate = self.ise.fgm(features, judged.amplitude, judged.prior)
        enhanced = self.ise(features, used(gate, branch), judged.seen)
        if self.config.skip:
            bands = given + self.decoder(enhanced - features)
        else:
            bands = self.decoder(enhanced)
        bands = self.gains(bands, shares, judged.seen)
        return Rebuilt(image_of(bands), gate, judged.shares, enhanced, given)

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
        return filled(images, self.stride)

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
            name: "fast" or "strong"; or a folder with config.json and model.safetensors; or
                "org/name". A bare name of an embedded set is that set: write "./fast" for a folder
                of your own.
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
