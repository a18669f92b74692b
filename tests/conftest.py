"""What ultralytics reads when it is imported: no network, no installing, no settings kept."""

import os
import tempfile

os.environ.update(
    YOLO_OFFLINE="true",
    YOLO_AUTOINSTALL="false",
    YOLO_VERBOSE="false",
    YOLO_CONFIG_DIR=tempfile.mkdtemp(prefix="ultralytics-"),
)
