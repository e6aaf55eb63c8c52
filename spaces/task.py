"""What a candidate is drawn for: the images and the classes."""

from __future__ import annotations

from dataclasses import dataclass

from spaces.operations import Shape


@dataclass(frozen=True)
class Task:
    """An image classification task.

    Attributes:
        channels: 1 for greyscale, 3 for colour.
        height: of the images, in pixels.
        width: of the images, in pixels.
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
