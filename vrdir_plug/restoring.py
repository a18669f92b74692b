"""Restoring files: folders of any size, in bounded memory, that can be stopped and gone on with."""

import glob
import json
import os
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from . import files, video
from .files import Array, Photo, ahead, format_of, read_photo, write_photo

SUFFIXES = files.SUFFIXES | {".gif", ".avif"} | video.SUFFIXES
BESIDE = ".restored"  # photo.jpg -> photo.restored.jpg
BATCH_PIXELS = 4_000_000  # restored at a time, unless one image alone has more
WAITING_PIXELS = 32_000_000  # decoded images that wait for others of their shape
NAMED = 1000  # failures named in the summary; beyond they are counted only


@dataclass(frozen=True)
class Item:
    """One file on its way; `error` says why it goes no further."""

    source: Path
    target: Path
    photo: Photo | None = None
    error: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of one file: `error` says why it was not restored; `reduced` as in `Summary`."""

    source: Path
    error: str | None = None
    reduced: bool = False


@dataclass
class Summary:
    """What became of the files.

    Attributes:
        restored, skipped, failed: how many; skipped are those whose output was there already.
        reduced: how many of the restored came with 16 bits a colour and were written with 8.
        seconds: in all.
        failures: file and reason, of the first thousand.
    """

    restored: int = 0
    skipped: int = 0
    failed: int = 0
    reduced: int = 0
    seconds: float = 0.0
    failures: list[dict[str, str]] = field(default_factory=list)

    def count(self, outcome: Outcome) -> None:
        if outcome.error is None:
            self.restored += 1
            self.reduced += outcome.reduced
            return
        self.failed += 1
        if len(self.failures) < NAMED:
            self.failures.append({"file": str(outcome.source), "reason": outcome.error})

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2) + "\n"


def restore_files(
    sources: Iterable[str | Path],
    restorer: Callable[[Tensor], Tensor],
    out: str | Path | None = None,
    *,
    overwrite: bool = False,
    device: str = "auto",
    batch_size: int = 16,
    most_megapixels: float = 50,
    on_failure: Callable[[Path, str], None] | None = None,
) -> Summary:
    """Restore images and videos; a file that cannot be restored is counted, the others go on.

    Every output is written whole or not at all, and one that exists is skipped: the same call goes
    on where it was stopped. Memory does not grow with the number of files. The format is that of
    the source's suffix; alpha, EXIF, colour profile, grey and 16-bit grey stay, the orientation is
    applied, CMYK becomes RGB. Every frame of an animation is restored on its own; a video (with
    the extra `video`) is restored by `streaming.stream`.

    Args:
        sources: files, folders (all images below) and glob patterns.
        restorer: images (N, 3, H, W), RGB in [0, 1], float32 -> the same. `tiling.Tiled` around a
            Restorer takes large ones in tiles, as the command does.
        out: folder for the outputs, with the sources' own folders inside; None writes
            photo.restored.jpg beside photo.jpg.
        overwrite: make outputs anew that exist.
        device: "auto", "cpu", "cuda", ...; a restorer that is a module is moved there.
        batch_size: most images of one shape at a time; fewer if they are large.
        most_megapixels: larger images are failures, so that none exhausts the memory.
        on_failure: called with file and reason.

    Raises:
        FileNotFoundError: a source is not there.
        ValueError: no image or video at all; outputs would overwrite sources or one another.
    """
    work = Work(restorer, batch_size, most_megapixels, overwrite)
    return follow(
        lambda waiting, _: work.on(device).results(waiting), sources, out, overwrite, on_failure
    )


def follow(
    results: Callable[[Iterator[Item], int], Iterable[Outcome]],
    sources: Iterable[str | Path],
    out: str | Path | None,
    overwrite: bool,
    on_failure: Callable[[Path, str], None] | None,
) -> Summary:
    """Find the files, have them restored and count what became of them.

    Args:
        results: the files to restore, and their number -> what became of each, as it comes.
        sources, out, overwrite, on_failure: as for `restore_files`, which names what is raised.
    """
    start, summary = time.monotonic(), Summary()
    sources = list(sources)
    places = [place_of(source) for source in sources]
    check_places(places, None if out is None else Path(out))
    # the files are walked over twice rather than listed: their number may be anything
    todo = 0
    for item in items(places, out):
        done = not overwrite and item.target.exists()
        todo, summary.skipped = todo + (not done), summary.skipped + done
    if not todo and not summary.skipped:
        raise ValueError(f"no image in {', '.join(map(str, sources))}: expected {sorted(SUFFIXES)}")
    waiting = (i for i in items(places, out) if overwrite or not i.target.exists())
    for outcome in tqdm(results(waiting, todo), "restoring", todo, unit="file", disable=None):
        summary.count(outcome)
        if outcome.error is not None and on_failure is not None:
            on_failure(outcome.source, outcome.error)
    summary.seconds = round(time.monotonic() - start, 3)
    return summary


def pick_device(name: str) -> torch.device:
    """ "auto" is a GPU if there is one; ValueError if the named one is not there."""
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
        name = "mps" if name == "cpu" and torch.backends.mps.is_available() else name
    try:
        return torch.zeros(0, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"there is no device {name!r} here: {reason}") from error


# --- which files, and where to ---------------------------------------------------------------


@dataclass(frozen=True)
class Place:
    """One source: its files lie below `base`; `pattern` is None for a single file."""

    base: Path
    pattern: str | None


def place_of(source: str | Path) -> Place:
    path = Path(source)
    if path.is_file():
        return Place(path, None)
    if path.is_dir():
        return Place(path, "**")
    text = str(source)
    if glob.has_magic(text):
        fixed = [part for part in path.parts]
        first = next(i for i, part in enumerate(fixed) if glob.has_magic(part))
        return Place(Path(*fixed[:first]), os.path.join(*fixed[first:]))
    raise FileNotFoundError(f"no file or folder {text!r}")


def check_places(places: Sequence[Place], out: Path | None) -> None:
    """Outputs must fall neither onto sources nor onto one another."""
    if out is None:
        return
    for place in places:
        folder = place.base if place.pattern else place.base.parent
        if folder.resolve() == out.resolve():
            raise ValueError(
                f"the outputs would overwrite the images in {folder}: "
                "name another folder, or none to write beside them"
            )
    names = [place.base.resolve().name for place in places]
    twice = sorted({name for name in names if names.count(name) > 1}) if len(names) > 1 else []
    if twice:
        raise ValueError(f"two sources are called {twice[0]!r}: restore them into folders apart")


def items(places: Sequence[Place], out: str | Path | None) -> Iterator[Item]:
    """Every image file with its target, found as it goes."""
    for place in places:
        for path in files_of(place, out):
            if out is None:
                target = path.with_name(f"{path.stem}{BESIDE}{path.suffix}")
            elif place.pattern is None:
                target = Path(out) / path.name
            else:
                # several folders stay apart
                inside = place.base.resolve().name if len(places) > 1 else ""
                target = Path(out, inside, path.relative_to(place.base))
            yield Item(path, target)


def files_of(place: Place, out: str | Path | None) -> Iterator[Path]:
    """Images of the place, but no outputs of ours."""
    if place.pattern is None:
        yield place.base
        return
    outputs = None if out is None else Path(out).resolve()
    for path in walk(place.base) if place.pattern == "**" else matches(place):
        if path.suffix.lower() not in SUFFIXES or not path.is_file():
            continue
        if out is None and path.stem.endswith(BESIDE):
            continue
        if outputs is None or outputs not in path.resolve().parents:
            yield path


def walk(folder: Path) -> Iterator[Path]:
    def stop(error: OSError) -> None:
        raise error  # os.walk would leave the folder out without a word

    for root, folders, names in os.walk(folder, onerror=stop):
        folders.sort()
        for name in sorted(names):
            yield Path(root, name)


def matches(place: Place) -> Iterator[Path]:
    for name in glob.iglob(str(place.pattern), root_dir=place.base, recursive=True):
        yield place.base / name


# --- the line: decode | batch | restore | write ----------------------------------------------


def batches(read: Iterable[Item], batch_size: int) -> Iterator[list[Item]]:
    """Items of one shape and depth together, in lists; failures and what waits long, as it is."""
    waiting: dict[object, list[Item]] = {}
    for item in read:
        if item.photo is None:
            yield [item]
            continue
        frames = item.photo.frames
        group = waiting.setdefault((frames.shape[1:], frames.dtype), [])
        group.append(item)
        if sum(pixels(other) for other in group) >= BATCH_PIXELS or len(group) >= batch_size:
            yield waiting.pop((frames.shape[1:], frames.dtype))
        elif sum(pixels(other) for group in waiting.values() for other in group) > WAITING_PIXELS:
            yield waiting.pop(max(waiting, key=lambda key: sum(map(pixels, waiting[key]))))
    yield from waiting.values()


def is_video(item: Item) -> bool:
    return item.source.suffix.lower() in video.SUFFIXES


def reason(error: Exception) -> str:
    """The first line of what went wrong: torch adds a page."""
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__


def pixels(item: Item) -> int:
    return 0 if item.photo is None else item.photo.frames[..., 0].size


@dataclass(frozen=True)
class Work:
    """How files are restored; bounds what is in memory at a time."""

    restorer: Callable[[Tensor], Tensor]
    batch_size: int
    most_megapixels: float
    overwrite: bool
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.most_megapixels <= 0:
            raise ValueError("batch_size and most_megapixels must be positive")

    @property
    def most_pixels(self) -> int:
        return int(self.most_megapixels * 1e6)

    def on(self, device: str) -> "Work":
        """The same on a device, for which `pick_device` takes a name; a module is moved there."""
        where, restorer = pick_device(device), self.restorer
        if isinstance(restorer, torch.nn.Module):
            restorer = restorer.to(where)
        return replace(self, restorer=restorer, device=where)

    def results(self, waiting: Iterable[Item]) -> Iterator[Outcome]:
        """What became of each item."""
        threads = min(8, os.cpu_count() or 1)
        with ThreadPoolExecutor(threads) as pool:
            decoded = ahead(pool, self.read, waiting, 2 * threads)
            restored = (
                item for batch in batches(decoded, self.batch_size) for item in self.restore(batch)
            )
            yield from ahead(pool, self.write, restored, 2 * threads)

    def read(self, item: Item) -> Item:
        if is_video(item):
            return item
        try:
            format_of(item.target)
            return replace(item, photo=read_photo(item.source, self.most_pixels))
        except (OSError, MemoryError) as error:
            return replace(item, error=reason(error))

    def write(self, item: Item) -> Outcome:
        if item.photo is None:
            return Outcome(item.source, item.error)
        try:
            # another run may have been quicker
            if self.overwrite or not item.target.exists():
                write_photo(item.photo, item.target)
        except (OSError, ValueError, MemoryError) as error:
            return Outcome(item.source, reason(error))
        return Outcome(item.source, reduced=item.photo.reduced)

    def restore(self, batch: Sequence[Item]) -> Iterator[Item]:
        """Restore items of one shape together; if that fails, each on its own."""
        photos = [item.photo for item in batch if item.photo is not None]
        if not photos:
            yield from (self.convert(item) if is_video(item) else item for item in batch)
            return
        try:
            done = self.restored([photo.frames for photo in photos])
        except (RuntimeError, MemoryError) as error:
            if len(batch) > 1:
                for item in batch:
                    yield from self.restore([item])
            else:
                yield replace(batch[0], photo=None, error=reason(error))
            return
        for item, photo, frames in zip(batch, photos, done, strict=True):
            yield replace(item, photo=replace(photo, frames=frames))

    def convert(self, item: Item) -> Item:
        """A video, frame by frame into its file."""
        try:
            video.restore_video(
                item.source, item.target, self.restorer, self.device, self.most_pixels
            )
        except (OSError, RuntimeError, MemoryError) as error:
            return replace(item, error=reason(error))
        return item

    @torch.inference_mode()
    def restored(self, frames: Sequence[Array]) -> list[Array]:
        """Arrays (F, H, W, 3) of one shape and depth -> the same, restored."""
        together = np.concatenate(frames)
        parts = [
            self.restored_batch(part) for part in np.array_split(together, self.cuts(together))
        ]
        return np.split(np.concatenate(parts), np.cumsum([len(f) for f in frames])[:-1])

    def cuts(self, frames: Array) -> int:
        most = max(1, min(self.batch_size, BATCH_PIXELS // (frames.shape[1] * frames.shape[2])))
        return -(-len(frames) // most)

    def restored_batch(self, frames: Array) -> Array:
        peak = np.iinfo(frames.dtype).max
        # torch has no arithmetic for 16 bits without a sign; as few bytes as can be travel
        travel = torch.uint8 if peak == 255 else torch.int32
        given = torch.from_numpy(frames if peak == 255 else frames.astype(np.int32))
        images = given.to(self.device).permute(0, 3, 1, 2) / peak
        restored = self.restorer(images)
        del images  # of an 8K photograph they are 0.4 GB
        restored = restored.mul(peak).round_().clamp_(0, peak).to(travel)
        return restored.permute(0, 2, 3, 1).cpu().numpy().astype(frames.dtype)
