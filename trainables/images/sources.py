"""Interface of image sources, whether bundled, downloaded or the user's own."""

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.images.decoding import Content


@dataclass(frozen=True, slots=True)
class Item:
    """An image before decoding.

    Args:
        row: row of the image in the data set.
        name: name for messages.
        content: the image, or the path to it.
        size: size of the file in bytes.
    """

    row: int
    name: str
    content: Content
    size: int


@dataclass(frozen=True)
class Origin:
    """Where a source says to which split an image belongs.

    Args:
        places: where the images of each split are from; empty without splits. The keys are indices
            in :data:`trainables.images.layout.split_names.SPLITS`.
        whole: where all images are from, for a source without splits; may be empty.
    """

    places: Mapping[int, str] = field(default_factory=dict)
    whole: str = ""


@dataclass(frozen=True)
class Listing:
    """The content of a source, known before decoding.

    Args:
        classes: names of the classes.
        labels: class index of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n];
            ``train`` for all images if the source has no splits.
        total_size: size of all image files in bytes.
        items: yields each image exactly once, in the cheapest order to read.
        notes: one line each: which layout was found, and what was assumed or left out.
        origin: of the splits, from which :func:`trainables.images.summary.summarize` writes the
            first line about the data.
        names: relative path of each image, [n]; None if the images are not files.
        groups: index of the group of each image, [n], which the splits keep together; None
            without groups.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    total_size: int
    items: Callable[[], Generator[Item, None, None]]
    notes: tuple[str, ...] = ()
    origin: Origin = Origin()
    names: tuple[str, ...] | None = None
    groups: NDArray[np.int64] | None = None


class Source(Protocol):
    """A source of images."""

    def version(self) -> str:
        """Return text that changes whenever the decoded images may change: the key of the cache.

        Raises:
            UnusableDataError: the source has no images.
        """

    def listing(self) -> Listing:
        """Return the content.

        Raises:
            UnusableDataError: the source cannot be read or has the wrong layout.
        """
