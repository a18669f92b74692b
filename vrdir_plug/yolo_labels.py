"""A detection dataset as ultralytics describes it: data.yaml, images, a label file for each.

https://docs.ultralytics.com/datasets/detect: a line `class x y width height` for each object,
centre and size as shares of the image; a line with more numbers is a polygon. ultralytics itself
is not needed for it.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from PIL import Image

from .evaluation import Sample
from .files import SUFFIXES

SIDEWAYS = (5, 6, 7, 8)  # EXIF orientations that swap width and height


def read_yolo(folder: Path, file: Path) -> tuple[list[Sample], Mapping[str, Any]]:
    """The images of the `val` split and their annotations, as a COCO json has them.

    Args:
        folder: what the file calls `path`: `val` is below it.
        file: data.yaml, with `val` (a folder, a .txt that lists images, or a list of these) and
            `names`. An image without a label file has no objects, as ultralytics has it.

    Raises:
        ValueError: not such a file, no images, no label file for any, or a line that is no object.
    """
    content = read_yaml(file)
    names = content["names"]
    classes = dict(names if isinstance(names, dict) else enumerate(names))
    entries = content["val"] if isinstance(content["val"], list) else [content["val"]]
    images = [image for entry in entries for image in images_of(folder, folder / entry)]
    if not images:
        raise ValueError(f"{file}: there is no image in val, {entries} below {folder}")
    labels = [labels_of(image) for image in images]
    if not any(label.is_file() for label in labels):
        raise ValueError(f"{file}: no image of val has a label file: expected {labels[0]}")
    samples = [Sample(name_of(folder, image), image, n) for n, image in enumerate(images, 1)]
    annotations = [
        {"image_id": sample.label, **note}
        for sample, label in zip(samples, labels, strict=True)
        for note in objects(sample.file, label, classes)
    ]
    if not annotations:
        raise ValueError(f"{file}: there is no object in the label files of val")
    return samples, {
        "images": [{"id": sample.label, "file_name": sample.name} for sample in samples],
        "annotations": annotations,
        "categories": [{"id": number, "name": name} for number, name in classes.items()],
    }


def read_yaml(file: Path) -> dict[str, Any]:
    try:
        content = yaml.safe_load(file.read_text("utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{file} is not YAML: {error}") from error
    if not isinstance(content, dict) or not (content.get("val") and content.get("names")):
        raise ValueError(f"{file} is no data.yaml of ultralytics with val and names")
    return content


def images_of(folder: Path, place: Path) -> list[Path]:
    """Of a folder, or of a .txt with a path on each line, below the dataset's folder."""
    if place.suffix == ".txt":
        return [folder / line for line in place.read_text("utf-8").split("\n") if line.strip()]
    return sorted(path for path in place.rglob("*") if path.suffix.lower() in SUFFIXES)


def name_of(folder: Path, image: Path) -> str:
    return image.relative_to(folder).as_posix() if image.is_relative_to(folder) else str(image)


def labels_of(image: Path) -> Path:
    """The last folder `images` of the path is `labels`, the suffix .txt."""
    parts = list(image.with_suffix(".txt").parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return Path(*parts)


def objects(image: Path, label: Path, classes: Mapping[int, str]) -> Iterator[dict[str, Any]]:
    """`category_id` and `bbox` (left, top, width, height in pixels) of each line."""
    size = upright_size(image) if label.is_file() else None
    if size is None:
        return
    for number, line in enumerate(label.read_text("utf-8").splitlines(), 1):
        if not line.split():
            continue
        category, box = parsed(line, classes, f"{label}, line {number}")
        scaled = [value * size[axis % 2] for axis, value in enumerate(box)]
        yield {"category_id": category, "bbox": scaled}


def parsed(line: str, classes: Mapping[int, str], at: str) -> tuple[int, list[float]]:
    """The class, and left, top, width and height as shares of the image."""
    try:
        category, *numbers = (float(word) for word in line.split())
        if category not in classes:
            raise ValueError(f"there is no class {category:g} in names")
        if len(numbers) == 4:
            x, y, width, height = numbers
            return int(category), [x - width / 2, y - height / 2, width, height]
        if len(numbers) < 6 or len(numbers) % 2:
            raise ValueError(f"{len(numbers)} numbers after the class are no box and no polygon")
    except ValueError as error:
        raise ValueError(f"{at}: {error}") from error
    across, down = numbers[::2], numbers[1::2]
    left, top = min(across), min(down)
    return int(category), [left, top, max(across) - left, max(down) - top]


def upright_size(image: Path) -> tuple[int, int] | None:
    """Width and height from the header; None where Pillow cannot read it: it is left out later."""
    try:
        with Image.open(image) as file:
            width, height = file.size
            return (height, width) if file.getexif().get(0x0112) in SIDEWAYS else (width, height)
    except (OSError, SyntaxError):
        return None
