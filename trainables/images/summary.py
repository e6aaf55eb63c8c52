"""Describes how a source was read: images, classes, and where each split is from."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import counted, printable, shown
from trainables.images.labelling import check_classes, describe_doubtful
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Listing


def describe_listing(listing: Listing, places: Mapping[int, str]) -> Listing:
    """Check a listing whose classes are as the user writes them, and add the usual notes.

    Args:
        listing: with notes on its source only.
        places: where the images of each split are from; empty without splits.

    Returns:
        The listing with printable names of classes. Its first note says how the source was read.

    Raises:
        UnusableDataError: there are fewer than two classes, or a split lacks one.
    """
    classes, labels, splits = listing.classes, listing.labels, listing.splits
    check_classes(classes, labels, splits)
    return replace(
        listing,
        classes=tuple(printable(name) for name in classes),
        notes=(
            summarize(classes, labels, splits, places),
            *listing.notes,
            *describe_doubtful(classes),
        ),
    )


def summarize(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    places: Mapping[int, str],
    whole: str = "",
) -> str:
    """Return the line that says how a source was read.

    Args:
        classes: names of the classes.
        labels: class index of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].
        places: where the images of each split are from; empty without splits.
        whole: where all images are from, used without splits.
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    if len(classes) <= 8:
        sizes = ", ".join(
            f"{shown(name, 40)} {count}" for name, count in zip(classes, counts, strict=True)
        )
    else:
        (few, rare), (many, common) = (
            pick(zip(counts, classes, strict=True)) for pick in (min, max)
        )
        sizes = f"from {few} of {shown(rare, 40)} to {many} of {shown(common, 40)}"
    found = Counter(splits.tolist())
    parts = [f"{SPLITS[split]} from {places[split]} ({found[split]})" for split in sorted(places)]
    if not places and whole:
        parts = [whole]
    drawn = [name for split, name in enumerate(SPLITS) if split not in found]
    if drawn:
        parts.append(f"{' and '.join(drawn)} {'is' if len(drawn) == 1 else 'are'} drawn from train")
    return (
        f"{counted(len(labels), 'image')} of {len(classes)} classes ({sizes}): {', '.join(parts)}"
    )
