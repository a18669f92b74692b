"""What ultralytics reads when it is imported: no network, no installing, no settings kept."""

import importlib
import os
import tempfile

from PIL import Image

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
