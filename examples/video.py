"""Show what a YOLO finds in a video, or in webcam 0: python examples/video.py yolo11n.pt 0"""

import sys
from collections.abc import Iterator
from typing import Any

import cv2
from ultralytics import YOLO

from vrdir_plug import RestoreThen


def main(detector: Any, source: str | int) -> Iterator[Any]:
    """Each frame with its boxes drawn in, (H, W, 3) BGR, as long as there are frames."""
    model = RestoreThen(detector)
    video = cv2.VideoCapture(source)
    while (frame := video.read())[0]:
        (result,) = model(frame[1], verbose=False)
        yield result.plot()
    video.release()


if __name__ == "__main__":
    camera = int(sys.argv[2]) if sys.argv[2].isdigit() else sys.argv[2]
    for picture in main(YOLO(sys.argv[1]), camera):
        cv2.imshow("restored, then detected; any key ends", picture)
        if cv2.waitKey(1) >= 0:
            break
