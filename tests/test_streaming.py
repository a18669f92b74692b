"""Light is held steady within a scene, starts anew at a cut, and nothing else is changed."""

import numpy as np
import torch
from skimage.data import astronaut
from torch import Generator, Tensor

from vrdir_plug import Restorer
from vrdir_plug.streaming import stream


def noisy(scene: Tensor, count: int, amount: float = 0.1) -> list[Tensor]:
    generator = Generator().manual_seed(0)
    return [
        (scene + amount * torch.randn(scene.shape, generator=generator)).clamp(0, 1)
        for _ in range(count)
    ]


def scene(seed: int) -> Tensor:
    """(3, 24, 32) between 0.2 and 0.8, in smooth patches."""
    generator = Generator().manual_seed(seed)
    patches = torch.rand(1, 3, 3, 4, generator=generator) * 0.6 + 0.2
    return torch.nn.functional.interpolate(patches, (24, 32), mode="bilinear")[0]


class Jittering:
    """Its gain and offset change with every call."""

    def __init__(self) -> None:
        self.calls = 0

    def __call__(self, images: Tensor) -> Tensor:
        self.calls += 1
        sign = 1 if self.calls % 2 else -1
        return images * (1 + 0.1 * sign) + 0.02 * sign


def flicker(frames: list[Tensor]) -> float:
    """How much the brightness of a still scene changes from frame to frame."""
    means = torch.stack([frame.mean() for frame in frames])
    return float(means.diff().abs().mean())


def test_a_jittering_restorer_is_held_steady() -> None:
    frames = noisy(scene(0), 40, 0.01)
    network = Jittering()
    apart = [network(frame[None])[0] for frame in frames]
    together = list(stream(frames, Jittering()))
    assert flicker(together[10:]) < 0.2 * flicker(apart[10:])


def test_a_steady_restorer_is_left_alone() -> None:
    frames = noisy(scene(0), 6)
    for frame, restored in zip(frames, stream(frames, lambda x: 0.8 * x + 0.1), strict=True):
        torch.testing.assert_close(restored, 0.8 * frame + 0.1, atol=1e-4, rtol=0)


def test_detail_is_each_frames_own() -> None:
    """Something moves: it is where the restorer puts it, with no trail."""
    frames = []
    for step in range(8):
        frame = scene(0).clone()
        frame[:, 10:14, 3 * step : 3 * step + 4] = 1.0
        frames.append(frame)

    def without_spot(images: Tensor) -> Tensor:
        return images.clamp(max=0.8)

    for frame, restored in zip(frames, stream(frames, without_spot), strict=True):
        assert (restored - frame.clamp(max=0.8)).abs().max() < 0.02


def test_a_cut_starts_anew() -> None:
    """Dark and foggy scenes need opposite things: the first frame of the next is right at once."""
    dark, pale = 0.2 * scene(1), 0.8 + 0.2 * scene(2)

    def stretch(images: Tensor) -> Tensor:
        low, high = images.amin((2, 3), keepdim=True), images.amax((2, 3), keepdim=True)
        return (images - low) / (high - low)

    frames = [dark] * 10 + [pale] * 3
    restored = list(stream(frames, stretch))
    for frame, got in zip(frames, restored, strict=True):
        torch.testing.assert_close(got, stretch(frame[None])[0], atol=1e-3, rtol=0)


def test_frames_come_one_by_one() -> None:
    taken = 0

    def source() -> object:
        nonlocal taken
        for frame in noisy(scene(0), 5):
            taken += 1
            yield frame

    results = stream(source(), lambda images: images)  # type: ignore[arg-type]
    for number, _ in enumerate(results, start=1):
        assert taken == number


def test_an_even_frame_is_no_trap() -> None:
    frames = [torch.full((3, 8, 8), value) for value in (0.0, 0.5, 1.0)]
    for frame, restored in zip(frames, stream(frames, lambda images: images), strict=True):
        torch.testing.assert_close(restored, frame, atol=1e-4, rtol=0)


def test_the_embedded_network_does_not_flicker() -> None:
    """A still photograph whose noise is new in every frame, and its amount too."""
    photo = torch.from_numpy(np.array(astronaut()[100:196, 150:246])).permute(2, 0, 1) / 255
    # away from black and white: noise that is cut off there changes a frame's own brightness, by
    # more than the bound below where the photograph is taken as it is
    photo = 0.2 + 0.6 * photo
    weak, strong = noisy(photo, 12, 0.03), noisy(photo, 12, 0.12)
    frames = [frame for pair in zip(weak, strong, strict=True) for frame in pair]
    assert flicker(frames[4:]) < 0.001, "what is given is still"
    restorer = Restorer.from_pretrained("fast")
    with torch.inference_mode():
        apart = [restorer(frame[None])[0] for frame in frames]
    together = list(stream(frames, restorer))
    assert flicker(together[4:]) < min(flicker(apart[4:]), 1 / 255)
