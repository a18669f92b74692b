"""Opening photographs as people see them, and writing restored ones as they came."""

import io
import os
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms, ImageOps

Array = NDArray[Any]
# of photographs that training and evaluation look for in a folder
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff"}
ANIMATED = ("GIF", "PNG", "WEBP", "AVIF")
LUMA = np.array([0.299, 0.587, 0.114], np.float32)
# lossy formats are written at a quality at which restoration is not undone
QUALITY: dict[str, dict[str, Any]] = {
    "JPEG": {"quality": 95},
    "WEBP": {"quality": 95},
    "AVIF": {"quality": 90},
}


Given = TypeVar("Given")
Made = TypeVar("Made")


def ahead(
    pool: ThreadPoolExecutor, step: Callable[[Given], Made], items: Iterable[Given], most: int
) -> Iterator[Made]:
    """step(item) for all in order, on threads; at most `most` are begun and not yet taken."""
    futures: deque[Future[Made]] = deque()
    for item in items:
        futures.append(pool.submit(step, item))
        if len(futures) >= most:
            yield futures.popleft().result()
    while futures:
        yield futures.popleft().result()


def open_rgb(path: Path) -> Image.Image:
    """An image as 8-bit RGB, turned upright by its EXIF orientation.

    Raises:
        OSError: Pillow cannot read it whole, or it has more than 8 bits a channel, which Pillow
            would clip to white.
    """
    try:
        with Image.open(path) as file:
            if file.mode.startswith(("I", "F")):
                raise OSError(f"more than 8 bits a channel (mode {file.mode})")
            return ImageOps.exif_transpose(file).convert("RGB")
    except OSError:
        raise
    except Exception as error:
        raise unreadable(error) from error


def unreadable(error: Exception) -> OSError:
    """Pillow's decoders raise nearly anything on damaged files: struct.error, KeyError, ..."""
    return OSError(f"{type(error).__name__}: {error}")


@dataclass(frozen=True)
class Photo:
    """An image file as arrays, with what it takes to write it as it came.

    Attributes:
        frames: RGB (F, H, W, 3), uint8 or uint16, upright; F is 1 unless it is animated.
        alpha: (F, H, W) uint8, or None.
        grey: it has one channel of light.
        reduced: it has 16 bits a channel, of which only 8 could be read.
        meta: what Pillow's `save` takes: exif, icc_profile, dpi; for animations duration and loop.
    """

    frames: Array
    alpha: Array | None = None
    grey: bool = False
    reduced: bool = False
    meta: dict[str, Any] = field(default_factory=dict)


def read_photo(path: Path, most_pixels: int) -> Photo:
    """Read an image file whole: any mode that Pillow reads, upright, every frame of an animation.

    Raises:
        OSError: damaged, truncated, of a kind that could not be written back, or of more than
            `most_pixels` (all frames together; nothing is decoded then).
    """
    try:
        with Image.open(path) as file:
            return decode(file, most_pixels)
    except OSError:
        raise
    except Exception as error:
        raise unreadable(error) from error


def decode(file: Any, most_pixels: int) -> Photo:
    # cameras put previews behind the picture in one file: those are not frames
    count = 1 if file.format == "MPO" else getattr(file, "n_frames", 1)
    pixels = file.width * file.height * count
    if pixels > most_pixels:
        raise OSError(
            f"{pixels / 1e6:.1f} megapixels, more than the limit of {most_pixels / 1e6:g}: "
            "restoring takes about 0.07 GB for each; raise the limit if the memory is there"
        )
    if count > 1 and (file.format not in ANIMATED or file.info.get("default_image")):
        raise OSError(f"{count} pages or pictures in one {file.format} file: split it first")
    # Pillow's raw modes; "BGR;16" is another thing, five or six bits a colour
    reduced = bool(re.search(";16[BLN]", str(file.tile))) and not file.mode.startswith("I")
    frames, durations = [], []
    for index in range(count):
        if index:
            file.seek(index)
        frames.append(ImageOps.exif_transpose(file))
        durations.append(frames[-1].info.get("duration", 0))
    meta = {key: frames[0].info[key] for key in KEPT if frames[0].info.get(key)}
    if frames[0].mode == "CMYK":
        meta.pop("icc_profile", None)
    if count > 1:
        meta |= {key: file.info[key] for key in ("loop",) if key in file.info}
        meta["duration"] = [round(duration) for duration in durations]
    colours, alphas = zip(*map(channels, frames), strict=True)
    alpha = None if all(a is None for a in alphas) else np.stack(list(map(opaque, colours, alphas)))
    grey = all(frame.mode in GREY for frame in frames)
    return Photo(np.stack(colours), alpha, grey, reduced, meta)


KEPT = ("exif", "icc_profile", "dpi")
SIXTEEN = ("I;16", "I;16L", "I;16B", "I;16N")
GREY = ("1", "L", "LA", "La", "I", *SIXTEEN)


def channels(image: Any) -> tuple[Array, Array | None]:
    """RGB (H, W, 3), uint8 or uint16, and alpha (H, W) or None."""
    if image.mode.startswith(("I", "F")):
        values = np.asarray(image)
        # Pillow's 32-bit mode holds 16-bit PNGs of older versions, and anything else
        whole = image.mode in SIXTEEN or (image.mode == "I" and values.min() >= 0)
        if not whole or values.max() > 65535:
            raise OSError(f"more than 16 bits a channel (mode {image.mode})")
        return values.astype(np.uint16)[..., None].repeat(3, -1), None
    if image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        return rgba[..., :3], rgba[..., 3]
    return np.asarray(from_cmyk(image) if image.mode == "CMYK" else image.convert("RGB")), None


def opaque(colours: Array, alpha: Array | None) -> Array:
    return np.full(colours.shape[:2], 255, np.uint8) if alpha is None else alpha


def from_cmyk(image: Image.Image) -> Image.Image:
    """By the printer's profile if the file has one; Pillow's own formula is too bright."""
    profile = image.info.get("icc_profile")
    if not profile:
        return image.convert("RGB")
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(profile)), ImageCms.createProfile("sRGB")
    converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB")
    return image.convert("RGB") if converted is None else converted


def format_of(path: Path) -> str:
    """The format Pillow writes for the name's suffix; OSError if there is none."""
    name = Image.registered_extensions().get(path.suffix.lower(), "")
    if name not in Image.SAVE:
        raise OSError(f"cannot write files that end in {path.suffix!r}")
    return name


def write_photo(photo: Photo, path: Path) -> None:
    """Write the file whole or not at all, in the format of its suffix, folders made if need be."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kind = format_of(path)
    first, *others = images(photo)
    more: dict[str, Any] = {"save_all": True, "append_images": others} if others else {}
    if kind == "GIF" and photo.alpha is not None:
        more["disposal"] = 2  # or every frame would shine through the next one's holes
    half_written = path.with_name(path.name + ".part")
    try:
        first.save(half_written, kind, **QUALITY.get(kind, {}), **photo.meta, **more)
        os.replace(half_written, path)
    finally:
        half_written.unlink(missing_ok=True)


def images(photo: Photo) -> Sequence[Image.Image]:
    """Every frame as Pillow writes it."""
    made = []
    for index, frame in enumerate(photo.frames):
        values = (frame @ LUMA).round().astype(frame.dtype) if photo.grey else frame
        image = Image.fromarray(values)
        if photo.alpha is not None:
            image.putalpha(Image.fromarray(photo.alpha[index]))
        made.append(image)
    return made
