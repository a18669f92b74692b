"""Videos: every frame restored, at its own time, with the sound, whole or not at all."""

import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
import torch
from torch import Tensor

from vrdir_plug.restoring import restore_files
from vrdir_plug.video import restore_video

TIMES = (0, 1, 2, 3, 5, 8, 9, 10)  # in twentieths of a second, uneven as phones record


def film(path: Path, width: int = 64, sound: bool = True) -> Path:
    """Two colours side by side, the right one brightening; a tone."""
    with av.open(str(path), "w") as made:
        video = made.add_stream("libx264", rate=20, options={"crf": "5"})
        video.width, video.height, video.pix_fmt = width, 48, "yuv444p"
        video.codec_context.time_base = Fraction(1, 20)
        track = made.add_stream("aac", rate=44100) if sound else None
        for index, time in enumerate(TIMES):
            pixels = np.full((48, width, 3), (40, 80, 120), np.uint8)
            pixels[:, width // 2 :] = 100 + 5 * index
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts, frame.time_base = time, Fraction(1, 20)
            made.mux(video.encode(frame))
        if track:
            tone = np.sin(np.arange(22050) * 0.05)[None].astype(np.float32)
            heard = av.AudioFrame.from_ndarray(tone, format="fltp", layout="mono")
            heard.rate, heard.pts = 44100, 0
            made.mux(track.encode(heard))
            made.mux(track.encode(None))
        made.mux(video.encode(None))
    return path


def frames_of(path: Path) -> list[tuple[float, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
    with av.open(str(path)) as given:
        return [(f.time, f.to_ndarray(format="rgb24")) for f in given.decode(video=0)]


def sound_of(path: Path) -> list[bytes]:
    with av.open(str(path)) as given:
        return [bytes(packet) for packet in given.demux(audio=0) if packet.dts is not None]


def negative(images: Tensor) -> Tensor:
    return 1 - images


@pytest.mark.parametrize(("suffix", "width"), [(".mp4", 64), (".mkv", 63)])
def test_frames_times_and_sound(tmp_path: Path, suffix: str, width: int) -> None:
    source = film(tmp_path / f"a{suffix}", width)
    summary = restore_files([source], negative, tmp_path / "out")
    assert summary.restored == 1, summary.failures
    assert [path.name for path in (tmp_path / "out").iterdir()] == [f"a{suffix}"]
    before, after = frames_of(source), frames_of(tmp_path / "out" / f"a{suffix}")
    assert [time for time, _ in after] == pytest.approx([time for time, _ in before], abs=2e-3)
    for (_, given), (_, made) in zip(before, after, strict=True):
        assert np.abs(made.astype(int) - (255 - given.astype(int))).mean() < 4
    assert sound_of(tmp_path / "out" / f"a{suffix}") == sound_of(source)


def test_a_silent_video_beside_photographs(tmp_path: Path) -> None:
    film(tmp_path / "a.mp4", sound=False)
    (tmp_path / "broken.mp4").write_text("not a video")
    summary = restore_files([tmp_path], negative)
    assert (summary.restored, summary.failed) == (1, 1)
    assert len(frames_of(tmp_path / "a.restored.mp4")) == len(TIMES)
    assert restore_files([tmp_path], negative).skipped == 1
    assert not list(tmp_path.glob("*.part*"))


def test_a_stopped_video_leaves_nothing(tmp_path: Path) -> None:
    def stopped(images: Tensor) -> Tensor:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        restore_files([film(tmp_path / "a.mp4")], stopped)
    assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]


def test_large_frames_are_failures_that_say_so(tmp_path: Path) -> None:
    summary = restore_files([film(tmp_path / "a.mp4")], negative, most_megapixels=0.001)
    assert "megapixels" in summary.failures[0]["reason"]


def test_missing_extra_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = film(tmp_path / "a.mp4")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(OSError, match=r"pip install 'vrdir-plug\[video\]'"):
        restore_video(source, tmp_path / "b.mp4", negative, torch.device("cpu"), 10**6)
