"""The size of images with sides of different length, as users write it: ``64x48``."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Self


@dataclass(frozen=True)
class ImageSize:
    """Height and width of images in pixels, each at least 1.

    Example:
        >>> ImageSize.parse("64x48")
        ImageSize(height=64, width=48)
        >>> str(ImageSize(64, 48))
        '64x48'
    """

    height: int
    width: int

    def __str__(self) -> str:
        return f"{self.height}x{self.width}"

    @classmethod
    def parse(cls, text: str) -> Self | None:
        """Return the size that a text describes; None for any other text."""
        match = re.fullmatch(r"\s*([1-9]\d{0,4})\s*[xX]\s*([1-9]\d{0,4})\s*", text)
        return None if match is None else cls(int(match[1]), int(match[2]))

    @classmethod
    def of(cls, resolution: int | ImageSize) -> ImageSize:
        """Return a size; a number is the side of a square."""
        return resolution if isinstance(resolution, ImageSize) else cls(resolution, resolution)
