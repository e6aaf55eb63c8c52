"""How measurements are stored: rounded numbers, and the versions that made them."""

from __future__ import annotations

import platform
from importlib.metadata import version


def rounded(value: float) -> float:
    """Return a number with four decimals."""
    return round(value, 4)


def versions() -> str:
    """Return the versions of Python and torch."""
    return f"python {platform.python_version()}, torch {version('torch')}"
