"""Libraries that come with an extra of the package, imported where they are needed."""

import importlib
from typing import Any


def library(name: str, extra: str) -> Any:
    """A module that the extra brings; ValueError says how to get it."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise ValueError(
            f"this needs {error.name}: install it with pip install 'vrdir-plug[{extra}]'"
        ) from error
