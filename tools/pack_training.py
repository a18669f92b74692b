"""Packs what a training run needs into two files small enough to carry to a machine with a GPU.

`python tools/pack_training.py OUT --images FOLDER ... --teacher-weights FILE ...` writes
OUT/images.zip (every photograph at a short side of 256, WebP) and OUT/teachers/ (the weights in
half precision). The zip is training data as it is: unpack it and name its folder to `vrdir train`.
"""

import argparse
import io
import warnings
import zipfile
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from vrdir_plug.data import read_image
from vrdir_plug.files import SUFFIXES

QUALITY = 55


def photographs(folders: list[Path]) -> Iterator[tuple[str, bytes]]:
    """Name and WebP of every photograph that can be read."""
    for folder in folders:
        for path in sorted(p for p in folder.rglob("*") if p.suffix.lower() in SUFFIXES):
            try:
                pixels = read_image(path).permute(1, 2, 0).numpy()
            except OSError as error:
                warnings.warn(f"left out {path}: {error}", stacklevel=2)
                continue
            encoded = io.BytesIO()
            Image.fromarray(pixels).save(encoded, "WEBP", quality=QUALITY)
            yield (
                f"{folder.name}/{path.relative_to(folder).with_suffix('.webp')}",
                encoded.getvalue(),
            )


def halved(file: Path) -> dict[str, torch.Tensor]:
    tensors = load_file(file) if file.suffix == ".safetensors" else torch.load(file, "cpu")
    return {
        name: (tensor.half() if tensor.is_floating_point() else tensor).contiguous()
        for name, tensor in tensors.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--images", type=Path, action="append", required=True)
    parser.add_argument("--teacher-weights", type=Path, action="append", default=[])
    arguments = parser.parse_args()
    (arguments.out / "teachers").mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(arguments.out / "images.zip", "w", zipfile.ZIP_STORED) as file:
        for name, content in photographs(arguments.images):
            file.writestr(name, content)
    for weights in arguments.teacher_weights:
        save_file(halved(weights), arguments.out / "teachers" / f"{weights.stem}.safetensors")
    size = sum(path.stat().st_size for path in arguments.out.rglob("*") if path.is_file())
    print(f"{size / 2**20:.1f} MiB in {arguments.out}")


if __name__ == "__main__":
    main()
