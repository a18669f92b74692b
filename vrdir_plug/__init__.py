"""vrdir-plug: restore what recognition needs, in front of any frozen recogniser."""

from .config import RestorerConfig
from .pixels import IMAGENET, UNIT, PixelRangeWarning, PixelSpec, UnknownPixels
from .restorer import Restorer
from .weights import WeightsError
from .wrap import RestoreThen

__version__ = "0.1.0"

__all__ = [
    "IMAGENET",
    "UNIT",
    "PixelRangeWarning",
    "PixelSpec",
    "RestoreThen",
    "Restorer",
    "RestorerConfig",
    "UnknownPixels",
    "WeightsError",
    "__version__",
]
