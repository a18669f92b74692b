"""Restoring a stream of frames, with the light held steady from one to the next."""

from collections.abc import Callable, Iterable, Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

SHARE = 0.15  # of a frame's own light in what is held: it follows within a dozen frames
CUT = 0.08  # mean difference of two thumbnails from which they are of two scenes
THUMBNAIL = 16


def stream(frames: Iterable[Tensor], restorer: Callable[[Tensor], Tensor]) -> Iterator[Tensor]:
    """Restore frames one by one, each as soon as it comes, without flicker.

    Restored apart, two frames of one scene come out in slightly different light, as their noise
    differs. What the restorer does to a frame's light is one gain and one offset a channel (the
    line that fits restored to given pixels best); they are averaged over the frames of a scene, and
    start anew at a cut. All else that it does stays each frame's own, so nothing is dragged along
    behind what moves. It saves no time.

    Args:
        frames: (3, H, W), RGB in [0, 1], float; on the restorer's device.
        restorer: images (N, 3, H, W), RGB in [0, 1] -> the same.

    Yields:
        The restored frame (3, H, W) for each.
    """
    seen: Tensor | None = None
    held = torch.empty(0)
    for frame in frames:
        with torch.inference_mode():
            restored = restorer(frame[None])[0]
            thumbnail = F.adaptive_avg_pool2d(frame.float(), THUMBNAIL)
            light = fit(frame, restored)
            if seen is None or float((thumbnail - seen).abs().mean()) > CUT:
                held = light
            held, seen = held + SHARE * (light - held), thumbnail
            yield steadied(frame, restored, held - light)


def fit(frame: Tensor, restored: Tensor) -> Tensor:
    """Gain and offset (2, 3) of the line from given to restored pixels, for each channel."""
    given, made = frame.flatten(1).float(), restored.flatten(1).float()
    centred = given - given.mean(1, keepdim=True)
    # an even frame has no gain to speak of: all is in the offset then
    gain = (centred * made).mean(1) / (centred.square().mean(1) + 1e-6)
    return torch.stack([gain, made.mean(1) - gain * given.mean(1)])


def steadied(frame: Tensor, restored: Tensor, missing: Tensor) -> Tensor:
    """The restored frame in the light that is held; its own type and range."""
    gain, offset = missing[:, :, None, None]
    return (restored.float() + gain * frame.float() + offset).clamp(0, 1).to(restored.dtype)
