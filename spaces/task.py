"""Defines the task of a search: image shape and number of classes."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.operations import Shape


@dataclass(frozen=True)
class Task:
    """An image classification task.

    Attributes:
        channels: 1 for greyscale, 3 for colour.
        height: height of the images in pixels.
        width: width of the images in pixels.
        classes: number of classes.
    """

    channels: int
    height: int
    width: int
    classes: int

    @property
    def image_shape(self) -> Shape:
        """``(channels, height, width)``."""
        return (self.channels, self.height, self.width)
