"""Images that several tests evaluate; and ultralytics kept from network, installing, settings."""

import importlib
import os
import tempfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from vrdir_plug.evaluation import Sample

os.environ.update(
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    YOLO_CONFIG_DIR=tempfile.mkdtemp(prefix="ultralytics-"),
)

# It puts an open of its own into Pillow, which wants to install a package for each broken file.
pillows = Image.open
importlib.import_module("ultralytics")
Image.open = pillows


@pytest.fixture
def samples(tmp_path: Path) -> list[Sample]:
    """Five images, red, green, blue, red, green, with their labels."""
    rng = np.random.default_rng(0)
    made = []
    for index in range(5):
        pixels = rng.integers(0, 120, (30, 40, 3), dtype=np.uint8)
        pixels[..., index % 3] += 100
        file = tmp_path / f"{index}.png"
        Image.fromarray(pixels).save(file)
        made.append(Sample(file.name, file, index % 3))
    return made
