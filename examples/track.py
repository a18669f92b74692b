"""Detect and track with a YOLO: python examples/track.py yolo11n.pt VIDEO"""

import sys
from typing import Any

from ultralytics import YOLO

from vrdir_plug import RestoreThen


def main(detector: Any, video: str, **settings: Any) -> list[list[int]]:
    """The tracks that are visible in each frame."""
    model = RestoreThen(detector)
    frames = model.track(video, stream=True, verbose=False, **settings)
    return [[] if frame.boxes.id is None else frame.boxes.id.int().tolist() for frame in frames]


if __name__ == "__main__":
    for number, tracks in enumerate(main(YOLO(sys.argv[1]), sys.argv[2])):
        print(number, tracks)
