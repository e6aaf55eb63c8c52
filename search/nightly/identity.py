"""The identity of a test split: champions are compared on the same images only."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

import numpy as np

from trainables.data import Dataset


@dataclass(frozen=True)
class JudgedImages:
    """The identity of the images that finalists are judged on, in their order.

    A comparison pairs the predictions of two networks image by image, so the order counts here. It
    does not in `trainables.data_identity.DataIdentity`, which covers all splits.

    Attributes:
        classes: names, in the order of the labels.
        resolution: height and width in pixels.
        channels: 1 for greyscale, 3 for colour.
        images: number of test images.
        digest: of the test images and their labels, in their order.
    """

    classes: tuple[str, ...]
    resolution: tuple[int, int]
    channels: int
    images: int
    digest: str

    def difference(self, other: JudgedImages) -> str:
        """Return how another test split differs from this one; empty if they are the same."""
        if self.classes != other.classes:
            return f"it distinguishes {_classes(self)}, not {_classes(other)}"
        if (self.resolution, self.channels) != (other.resolution, other.channels):
            return f"it takes images of {_shape(self)}, not of {_shape(other)}"
        if self.images != other.images:
            counts = f"{self.images:,} and {other.images:,} of them"
            return f"it was judged on other test images ({counts})"
        if self.digest != other.digest:
            return "it was judged on other test images, or on the same ones in another order"
        return ""


def identify(dataset: Dataset) -> JudgedImages:
    """Return the identity of the test split of a dataset."""
    height, width, channels = dataset.shape
    digest = hashlib.blake2b(digest_size=16)
    labels = dataset.labels[dataset.test].astype("<i8")
    digest.update(labels.tobytes())
    # By parts: a test split may be larger than the memory.
    for rows in np.array_split(dataset.test, max(1, len(dataset.test) // 1024)):
        digest.update(dataset.images[rows].tobytes())
    return JudgedImages(
        dataset.classes, (height, width), channels, len(dataset.test), digest.hexdigest()
    )


def _classes(data: JudgedImages) -> str:
    names = data.classes if len(data.classes) <= 4 else (*data.classes[:3], "..")
    return f"{len(data.classes)} classes ({', '.join(names)})"


def _shape(data: JudgedImages) -> str:
    height, width = data.resolution
    return f"{height}x{width} pixels in {'colour' if data.channels == 3 else 'grey'}"
