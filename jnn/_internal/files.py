"""Paths given by users."""

import os
import reprlib
from pathlib import Path

from jnn.typing import PathLike


def expanded(name: str, path: PathLike) -> Path:
    """The absolute path, with "~" expanded. Raises TypeError unless it is a path, ValueError without a home folder."""
    if not isinstance(path, str | os.PathLike):
        raise TypeError(f"{name} must be a path, got {reprlib.repr(path)}")
    try:
        return Path(path).expanduser().absolute()
    except RuntimeError:
        raise ValueError(f"{name} must start with a home folder that exists, got {path}: write it without ~") from None
