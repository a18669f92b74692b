"""Opening photographs as people see them."""

from pathlib import Path

from PIL import Image, ImageOps


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
    except (SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise OSError(str(error)) from error
