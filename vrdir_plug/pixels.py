"""How a model encodes its pixels, and the way from there to RGB in [0, 1] and back."""

import math
import warnings
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor


class UnknownPixels(ValueError):  # noqa: N818
    """Nothing says how a model expects its pixels, and a normalisation is never guessed."""


class PixelRangeWarning(UserWarning):
    """The first images do not look as the model's pixel encoding says they should."""


def three(name: str, values: Iterable[Any]) -> tuple[float, ...]:
    """Three finite numbers."""
    numbers = tuple(float(value) for value in values)
    if len(numbers) != 3:
        raise ValueError(
            f"{name} must have 3 values, came {len(numbers)}: the restorer works on colour images"
        )
    if not all(map(math.isfinite, numbers)):
        raise ValueError(f"{name} must be finite, came {numbers}")
    return numbers


@dataclass(frozen=True)
class PixelSpec:
    """The encoding of the pixels that enter a model: (rgb * peak - mean) / std, per channel.

    Args:
        mean, std: one finite value per channel, std positive, in the model's own channel order
            and in units of `peak`.
        peak: the value of white before mean and std: 1 or 255.
        order: the model's channel order, "RGB" or "BGR".

    The default is RGB in [0, 1] as it is. Caffe's pixels, for example, are
    PixelSpec(mean=(103.939, 116.779, 123.68), std=(1, 1, 1), peak=255, order="BGR").

    Raises:
        ValueError: a value outside of what is said above.
    """

    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    peak: float = 1.0
    order: str = "RGB"

    def __post_init__(self) -> None:
        for name in ("mean", "std"):
            object.__setattr__(self, name, three(name, getattr(self, name)))
        if min(self.std) <= 0:
            raise ValueError(f"std must be positive, came {self.std}")
        if not 0 < self.peak < math.inf:
            raise ValueError(f"peak must be positive and finite (1 or 255), came {self.peak}")
        if self.order not in ("RGB", "BGR"):
            raise ValueError(f"order must be 'RGB' or 'BGR', came {self.order!r}")

    def __str__(self) -> str:
        if self == IMAGENET:
            return "RGB, ImageNet mean/std"
        scale = f"{self.order} [0, {self.peak:g}]"
        if self.mean == UNIT.mean and self.std == UNIT.std:
            return scale
        return f"{scale}, mean {self.mean}, std {self.std}"

    @classmethod
    def of(cls, source: object) -> "PixelSpec":
        """Read the encoding off an object that knows it.

        Args:
            source: a PixelSpec; torchvision weights, their transforms, or a Compose with one
                Normalize; a timm model or its config (a dict with mean and std); a Hugging Face
                image processor.

        Raises:
            TypeError: something else.
            ValueError: it is one of these, but does not say all, or does more than a PixelSpec can.
        """
        for read in READERS:
            spec = read(source)
            if spec is not None:
                return spec
        raise TypeError(
            f"cannot read an encoding of pixels off a {type(source).__name__}. Pass a PixelSpec, "
            "torchvision weights or their transforms (a Compose needs a Normalize), a timm model "
            "or config, or a Hugging Face image processor"
        )

    @property
    def plain(self) -> bool:
        """Pixels are in [0, 1] as they are, whatever their order."""
        return replace(self, order="RGB") == UNIT

    # Numbers per channel rather than a tensor of constants: nothing to copy to the device on each
    # call, to round with `pair.half()`, or to appear in state_dict.

    def decode(self, images: Tensor) -> Tensor:
        """Images (N, 3, H, W) as the model takes them -> RGB in [0, 1], float32, not clamped."""
        images = images.float()
        if self == UNIT:
            return images
        channels = [
            images[:, c] * (std / self.peak) + mean / self.peak
            for c, (mean, std) in enumerate(zip(self.mean, self.std, strict=True))
        ]
        return torch.stack(channels if self.order == "RGB" else channels[::-1], dim=1)

    def encode(self, rgb: Tensor) -> Tensor:
        """RGB (N, 3, H, W) in [0, 1] -> float32 as the model takes it: the inverse of decode."""
        rgb = rgb.float()
        if self == UNIT:
            return rgb
        channels = rgb.unbind(1) if self.order == "RGB" else rgb.unbind(1)[::-1]
        encoded = [
            channel * (self.peak / std) - mean / std
            for channel, mean, std in zip(channels, self.mean, self.std, strict=True)
        ]
        return torch.stack(encoded, dim=1)

    def through(self, images: Tensor, restorer: Callable[[Tensor], Tensor]) -> Tensor:
        """Restore images (N, 3, H, W) in the model's encoding; dtype, device and layout stay.

        The restorer gets and gives RGB in [0, 1]; it gets float32, because the way there and back
        in bfloat16 costs a whole 8-bit step. Gradients flow through.

        Raises:
            ValueError: the restorer changed the shape.
        """
        rgb = self.decode(images)
        restored = restorer(rgb)
        if restored.shape != rgb.shape:
            raise ValueError(
                f"the restorer made {tuple(restored.shape)} of images {tuple(rgb.shape)}: "
                "it must keep their shape"
            )
        return torch.empty_like(images).copy_(self.encode(restored))

    def check(self, images: Tensor) -> None:
        """Warn if images (N, 3, H, W) are hardly in this encoding; reads values, so a GPU waits.

        Raises:
            ValueError: pixels are NaN or infinite.

        Warns:
            PixelRangeWarning: decoded pixels lie clearly outside of [0, 1], or images for a
                normalised model look like plain [0, 1].
        """
        low, high = extremes(images)
        if not math.isfinite(low + high):
            raise ValueError(f"images have NaN or infinite pixels ({low} to {high})")
        cure = self.cure(low, high, *extremes(self.decode(images)))
        if cure:
            message = f"pixels from {low:.3g} to {high:.3g} are hardly {self}: {cure}"
            warnings.warn(message, PixelRangeWarning, stacklevel=2)

    def cure(self, low: float, high: float, darkest: float, brightest: float) -> str | None:
        """What to do about images with these extremes, as they came and decoded; None if right."""
        if darkest < -MARGIN or brightest > 1 + MARGIN:
            if low >= 0 and high > 10:
                return "they look like [0, 255]; divide by 255, then encode them as said"
            if self.plain:
                return "they look normalised; pass them in [0, 1], or the right pixels="
            return (
                "they look normalised twice or otherwise; normalise once, or pass another pixels="
            )
        # Right images seldom fill this stretch of the encoding and no other: the narrower it is
        # when decoded, the less often.
        fills = high - low > 0.3 + max(self.std) / self.peak
        if not self.plain and low > -0.02 and high < 1.02 and fills:
            return "they look like plain [0, 1]; encode them as said, or pass pixels=UNIT"
        return None


UNIT = PixelSpec()
IMAGENET = PixelSpec(mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))

# bicubic resizing of tensors overshoots [0, 1] by about a tenth
MARGIN = 0.2


def extremes(images: Tensor) -> tuple[float, float]:
    low, high = images.detach().aminmax()
    return float(low), float(high)


# --- what knows an encoding: one reader a kind of object, first match wins ----------------------


def statistics(mean: Any, std: Any) -> PixelSpec:
    """Of tools that normalise images in [0, 1]."""
    spec = PixelSpec(mean, std)
    if max(spec.mean) > 1:
        raise ValueError(
            f"mean {spec.mean} is not of pixels in [0, 1]: "
            "pass PixelSpec(mean, std, peak=255) if they are in [0, 255]"
        )
    return spec


def of_itself(source: object) -> PixelSpec | None:
    return source if isinstance(source, PixelSpec) else None


def of_timm(source: object) -> PixelSpec | None:
    """A model or its config."""
    config = getattr(source, "pretrained_cfg", source)
    if not isinstance(config, Mapping) or not {"mean", "std"} <= config.keys():
        return None
    return statistics(config["mean"], config["std"])


def of_torchvision_weights(source: object) -> PixelSpec | None:
    transforms = getattr(source, "transforms", None)
    return PixelSpec.of(transforms()) if callable(transforms) else None


def of_compose(source: object) -> PixelSpec | None:
    transforms = getattr(source, "transforms", None)
    if not isinstance(transforms, (list, tuple)):
        return None
    found = [spec for spec in map(of_normalize, transforms) if spec]
    if len(found) > 1:
        raise ValueError(f"a Compose with {len(found)} Normalize: pass a PixelSpec of what results")
    return found[0] if found else None


def of_normalize(source: object) -> PixelSpec | None:
    """Torchvision's presets and its Normalize; a tensor's mean is a method."""
    mean, std = getattr(source, "mean", None), getattr(source, "std", None)
    if mean is None or std is None or callable(mean):
        return None
    return statistics(mean, std)


def of_detection_preset(source: object) -> PixelSpec | None:
    """Torchvision's detectors normalise inside; their transforms scale to [0, 1] only."""
    kind = type(source)
    is_preset = kind.__name__ == "ObjectDetection" and kind.__module__.startswith("torchvision.")
    return UNIT if is_preset else None


def of_image_processor(source: Any) -> PixelSpec | None:
    """Hugging Face: pixels 0..255 times rescale_factor, then mean and std."""
    if not hasattr(source, "image_mean"):
        return None
    name = type(source).__name__
    if not getattr(source, "do_rescale", False):
        raise ValueError(f"{name} does not rescale pixels, so it does not tell their peak: {ASK}")
    if getattr(source, "rescale_offset", False) or getattr(source, "include_top", False):
        raise ValueError(f"{name} does more than to rescale and normalise once: {ASK}")
    peak = 255 * source.rescale_factor
    order = "BGR" if getattr(source, "do_flip_channel_order", False) else "RGB"
    if not source.do_normalize:
        return PixelSpec(peak=peak, order=order)
    return PixelSpec(source.image_mean, source.image_std, peak, order)


ASK = "pass a PixelSpec"
READERS = (
    of_itself,
    of_timm,
    of_torchvision_weights,
    of_compose,
    of_detection_preset,
    of_image_processor,
    of_normalize,
)
