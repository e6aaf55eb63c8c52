"""Describes how a source was read: images, classes, and where each split is from."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import counted, printable, shown
from trainables.images.labelling import check_classes, describe_doubtful
from trainables.images.layout.split_names import SPLITS
from trainables.images.sources import Listing, Origin


def check_listing(listing: Listing) -> Listing:
    """Check a listing whose classes are as the user writes them, and add notes on their names.

    Args:
        listing: with notes on its source only.

    Returns:
        The listing with printable names of classes.

    Raises:
        UnusableDataError: there are fewer than two classes, or a split lacks one.
    """
    check_classes(listing.classes, listing.labels, listing.splits)
    return replace(
        listing,
        classes=tuple(printable(name) for name in listing.classes),
        notes=(*listing.notes, *describe_doubtful(listing.classes)),
    )


def summarize(
    classes: Sequence[str],
    labels: NDArray[np.int64],
    splits: NDArray[np.int8],
    origin: Origin,
    *,
    has_folds: bool = False,
) -> str:
    """Return the line that says how a source was read.

    Args:
        classes: names of the classes.
        labels: class index of each image, [n].
        splits: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].
        origin: of the splits; splits without images are drawn from train.
        has_folds: whether validation is by folds, so that it is no split.
    """
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    if len(classes) <= 8:
        sizes = ", ".join(
            f"{shown(name, 40)} {count:,}" for name, count in zip(classes, counts, strict=True)
        )
    else:
        (few, rare), (many, common) = (
            pick(zip(counts, classes, strict=True)) for pick in (min, max)
        )
        sizes = f"from {few} of {shown(rare, 40)} to {many} of {shown(common, 40)}"
    found = Counter(splits.tolist())
    parts = [origin.whole] if origin.whole else []
    parts += [
        f"{SPLITS[split]} from {place} ({found[split]})"
        for split, place in sorted(origin.places.items())
    ]
    drawn = [
        name
        for split, name in enumerate(SPLITS)
        if split not in found and not (has_folds and name == "validation")
    ]
    if drawn:
        parts.append(f"{' and '.join(drawn)} {'is' if len(drawn) == 1 else 'are'} drawn from train")
    return (
        f"{counted(len(labels), 'image')} of {len(classes)} classes ({sizes}): {', '.join(parts)}"
    )
