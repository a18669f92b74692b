"""Video files, by PyAV: `pip install 'vrdir-plug[video]'`."""

import importlib
import os
from collections.abc import Callable, Iterator
from itertools import tee
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from .streaming import stream

SUFFIXES = {".mp4", ".mov", ".mkv", ".m4v"}
HDR = (16, 18)  # the transfer functions of PQ and HLG, as ffmpeg counts them


def restore_video(
    source: Path,
    target: Path,
    restorer: Callable[[Tensor], Tensor],
    device: torch.device,
    most_pixels: int,
) -> None:
    """Restore a video as a stream, one frame in memory: H.264, upright, times and sound kept.

    The file is written whole or not at all, folders made if need be.

    Raises:
        OSError: PyAV is missing, or cannot read or write it; frames of more than `most_pixels`.
    """
    try:
        av: Any = importlib.import_module("av")
    except ModuleNotFoundError as error:
        raise OSError("videos need PyAV: pip install 'vrdir-plug[video]'") from error
    target.parent.mkdir(parents=True, exist_ok=True)
    half_written = target.with_name(f"{target.stem}.part{target.suffix}")
    try:
        with av.open(str(source)) as given:
            first = first_frame(given, most_pixels)
        with av.open(str(source)) as given, av.open(str(half_written), "w") as made:
            output = begin(made, first, given.streams.video[0].average_rate)
            frames = given_frames(given, made, device)
            for time, image in aligned(frames, restorer):
                made.mux(output.encode(as_frame(av, image, time, first.time_base)))
            made.mux(output.encode(None))
        os.replace(half_written, target)
    except av.FFmpegError as error:
        raise OSError(f"{type(error).__name__}: {error}") from error
    finally:
        half_written.unlink(missing_ok=True)


def first_frame(given: Any, most_pixels: int) -> Any:
    """It tells the size, which a container wants to know before anything, and how it lies."""
    if not given.streams.video:
        raise OSError("there is no video in it")
    video = given.streams.video[0]
    if video.width * video.height > most_pixels:
        raise OSError(
            f"frames of {video.width * video.height / 1e6:.1f} megapixels, more than the limit of "
            f"{most_pixels / 1e6:g}: raise it if the memory is there"
        )
    if video.codec_context.color_trc in HDR:
        raise OSError("HDR video: its brightness is not that of RGB in [0, 1]; convert it first")
    for frame in given.decode(video):
        return frame
    raise OSError("there is no frame in it")


def begin(made: Any, first: Any, rate: Any) -> Any:
    """The track for restored frames that are like the first, upright."""
    height, width = upright(first).shape[1:]
    output = made.add_stream("libx264", rate=rate or 25, options={"crf": "18"})
    output.width, output.height = width, height
    output.codec_context.time_base = first.time_base
    # half the colour resolution needs even sides
    output.pix_fmt = "yuv444p" if width % 2 or height % 2 else "yuv420p"
    return output


def given_frames(given: Any, made: Any, device: torch.device) -> Iterator[tuple[int, Tensor]]:
    """Time and pixels of every frame; the sound goes over on the way."""
    tracks = {track.index: made.add_stream_from_template(track) for track in given.streams.audio}
    for packet in given.demux(given.streams.video[0], *given.streams.audio):
        if packet.stream.index in tracks:
            copy(packet, tracks[packet.stream.index], made)
            continue
        for frame in packet.decode():
            yield frame.pts, upright(frame).to(device)


def aligned(
    frames: Iterator[tuple[int, Tensor]], restorer: Callable[[Tensor], Tensor]
) -> Iterator[tuple[int, Tensor]]:
    """The restored frames with their times: the stream gives one for one."""
    times, images = tee(frames)
    restored = stream((image for _, image in images), restorer)
    return zip((time for time, _ in times), restored, strict=True)


def as_frame(av: Any, image: Tensor, time: int, time_base: Any) -> Any:
    pixels = image.mul(255).round().byte().permute(1, 2, 0).cpu().numpy()
    frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
    frame.pts, frame.time_base = time, time_base
    return frame


def copy(packet: Any, track: Any, made: Any) -> None:
    """Sound as it is; the last, empty packet of a track has no time."""
    if packet.dts is not None:
        packet.stream = track
        made.mux(packet)


def upright(frame: Any) -> Tensor:
    """(3, H, W) in [0, 1], turned as the camera noted."""
    pixels = np.rot90(frame.to_ndarray(format="rgb24"), round(frame.rotation / 90))
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1).float() / 255
