"""Draws the three splits; equal arguments give equal splits on every machine."""

from collections.abc import Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError
from trainables.images.layout import SPLITS

Rows = NDArray[np.int64]

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of the images of each split: disjoint, sorted, and with every class."""

    train: Rows
    validation: Rows
    test: Rows


def draw_splits(
    labels: Rows,
    given: NDArray[np.int8],
    classes: Sequence[str],
    *,
    validation: float,
    test: float,
    subset: float,
    seed: int,
) -> Splits:
    """Draw stratified splits.

    The test split is the source's own, or else the fraction ``test`` of all images. The validation
    split is the source's own, or else the fraction ``validation`` of the remaining images. Counts
    are rounded per class and are at least 1. With equal seeds, a smaller ``subset`` is part of a
    larger one.

    Args:
        labels: class index of each image, [n].
        given: index in :data:`trainables.images.layout.SPLITS` of each image, [n].
        classes: names of the classes, for messages.
        validation: fraction in (0, 1).
        test: fraction in (0, 1).
        subset: fraction of each split to keep, in (0, 1].
        seed: seed of the draw; not negative.

    Raises:
        UnusableDataError: a class has fewer images than splits.
    """
    # NumPy guarantees only the raw output of bit generators to never change.
    keys = np.random.PCG64(np.random.SeedSequence(seed)).random_raw(len(labels))

    def shuffled_by_class(split: int) -> list[Rows]:
        rows = np.flatnonzero(given == split)
        order = rows[np.lexsort((keys[rows], labels[rows]))]
        counts = np.bincount(labels[rows], minlength=len(classes))
        return np.split(order, np.cumsum(counts)[:-1])

    parts = {split: shuffled_by_class(split) for split in range(len(SPLITS))}
    drawn = {
        split: fraction
        for split, fraction in ((_TEST, test), (_VALIDATION, validation))
        if not np.any(given == split)
    }
    for label, name in enumerate(classes):
        pool = parts[_TRAIN][label]
        if len(pool) <= len(drawn):
            wanted = [SPLITS[_TRAIN], *(SPLITS[split] for split in sorted(drawn))]
            raise UnusableDataError(
                f"the class {name} has {_images(len(pool))} to be shared by "
                f"{_listed(wanted)}, and each needs one",
                f"add images of {name} or remove the class",
            )
        for needed_after, (split, fraction) in zip(
            reversed(range(1, len(drawn) + 1)), drawn.items(), strict=True
        ):
            taken = min(_round(len(pool), fraction), len(pool) - needed_after)
            parts[split][label], pool = pool[:taken], pool[taken:]
        parts[_TRAIN][label] = pool
    kept = {
        split: np.sort(np.concatenate([rows[: _round(len(rows), subset)] for rows in by_class]))
        for split, by_class in parts.items()
    }
    return Splits(kept[_TRAIN], kept[_VALIDATION], kept[_TEST])


def _round(count: int, fraction: float) -> int:
    return max(1, floor(count * fraction + 0.5))


def _images(count: int) -> str:
    return "1 image" if count == 1 else f"{count} images"


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
