"""What every source of images offers, whether bundled, downloaded or the user's own."""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from trainables.images.decoding import Content


@dataclass(frozen=True, slots=True)
class Item:
    """One image, not yet decoded.

    Args:
        row: where it belongs in the data set.
        name: what the user calls it.
        content: the image itself, or the path to it.
        size: bytes of the file.
    """

    row: int
    name: str
    content: Content
    size: int


@dataclass(frozen=True)
class Listing:
    """What a source holds, known before any image is decoded.

    Args:
        classes: names of the classes.
        labels: position in ``classes`` of each image, [n].
        splits: position in :data:`trainables.images.layout.SPLITS` of each image, [n], as the
            source itself has it; ``train`` for all where it has none.
        total_size: bytes of all image files together.
        items: yields each image exactly once, in whatever order is cheapest to read.
    """

    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    splits: NDArray[np.int8]
    total_size: int
    items: Callable[[], Generator[Item, None, None]]


class Source(Protocol):
    """Where images come from."""

    def identity(self) -> str:
        """Return text that changes whenever the decoded images could.

        Raises:
            UnusableDataError: there is nothing to read.
        """

    def listing(self) -> Listing:
        """Return what there is.

        Raises:
            UnusableDataError: the source cannot be read or is not arranged as it should be.
        """
