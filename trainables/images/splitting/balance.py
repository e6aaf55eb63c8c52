"""Describes classes that are unbalanced or small."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import counted, shown, some

UNBALANCED = 3
"""Ratio of the largest class to the smallest from which a note is given."""

FEW_IMAGES = 20
"""Number of training images below which a class is called small."""


def describe_balance(labels: NDArray[np.int64], classes: Sequence[str]) -> tuple[str, ...]:
    """Return notes on unbalanced and small classes.

    Args:
        labels: class index of each training image, [n].
        classes: names of the classes.
    """
    counts = np.bincount(labels, minlength=len(classes))
    largest, smallest = int(counts.argmax()), int(counts.argmin())
    notes = []
    if counts[largest] > UNBALANCED * counts[smallest]:
        notes.append(
            f"the classes are unbalanced: {shown(classes[largest])} has "
            f"{counted(int(counts[largest]), 'training image')}, {shown(classes[smallest])} has "
            f"{counts[smallest]:,}; accuracy favours the large classes "
            "(balance: weights or sampling gives classes equal influence on training)"
        )
    if small := [name for name, count in zip(classes, counts, strict=True) if count < FEW_IMAGES]:
        have = "class has" if len(small) == 1 else "classes have"
        notes.append(
            f"{len(small)} {have} fewer than {FEW_IMAGES} training images: {some(small, 5)}"
        )
    return tuple(notes)
