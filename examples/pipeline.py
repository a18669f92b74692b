"""A Hugging Face pipeline: python examples/pipeline.py PHOTO..."""

import sys
from typing import Any

from transformers import pipeline

from vrdir_plug import RestoreThen


def main(classify: Any, photos: list[str]) -> list[str]:
    """The most probable label of each photograph."""
    restored = RestoreThen(classify)
    return [labels[0]["label"] for labels in restored(photos)]


if __name__ == "__main__":
    name = "google/vit-base-patch16-224"
    print(*main(pipeline("image-classification", model=name), sys.argv[1:]), sep="\n")
