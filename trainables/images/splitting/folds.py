"""Divides the training images into folds; equal arguments give equal folds on every machine."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from trainables.folds import Folds
from trainables.images.errors import UnusableDataError, shown

Rows = NDArray[np.int64]

# Whether each class lies in two folds can depend on the order in which groups are dealt.
_ORDERS = 10


def draw_folds(
    labels: Rows,
    classes: Sequence[str],
    folds: Folds,
    *,
    seed: int,
    groups: Rows | None = None,
) -> NDArray[np.int8]:
    """Divide images into stratified folds that keep groups of images together.

    Without groups, the numbers of images of a class in two folds differ by at most one, and so do
    the sizes of the folds. Groups are dealt whole, large ones first, each to the fold that has the
    smallest part of its classes.

    Args:
        labels: class index of each training image, [n].
        classes: names of the classes, for messages.
        folds: their number, and how often to divide the images.
        seed: seed of the draw; not negative.
        groups: number of each image's group, [n]; None if every image stands alone.

    Returns:
        Fold of each image in each repetition, [repetitions, n].

    Raises:
        UnusableDataError: a fold would get no image, or all images of a class.
    """
    if groups is None or len(np.unique(groups)) == len(groups):
        groups = np.arange(len(labels))
    pairs = np.unique(groups * len(classes) + labels)
    counts = np.bincount(pairs % len(classes), minlength=len(classes))
    several = len(np.unique(groups)) < len(groups)
    one, many = ("group of images", "groups of images") if several else ("image", "images")
    for label in np.flatnonzero(counts == 1).tolist():
        name = shown(classes[label], 40)
        raise UnusableDataError(
            f"the class {name} has 1 {one} for training and validation by folds, and needs two",
            f"add images of {name} or remove the class",
        )
    if len(np.unique(groups)) < folds.count:
        raise UnusableDataError(
            f"{folds} needs {folds.count} {many} for training, and there are "
            f"{len(np.unique(groups))}",
            "use fewer folds, or add images",
        )
    deal = _deal_groups if several else _deal_images
    return np.stack(
        [
            deal(labels, groups, classes, folds.count, _random(seed, repetition))
            for repetition in range(folds.repetitions)
        ]
    )


def _random(seed: int, repetition: int) -> np.random.PCG64:
    # NumPy guarantees only the raw output of bit generators to never change.
    return np.random.PCG64(np.random.SeedSequence(seed, spawn_key=(repetition,)))


def _deal_images(
    labels: Rows, _groups: Rows, _classes: Sequence[str], count: int, random: np.random.PCG64
) -> NDArray[np.int8]:
    """Deal the images in turn, class after class."""
    folds = np.empty(len(labels), dtype=np.int8)
    folds[np.lexsort((random.random_raw(len(labels)), labels))] = np.arange(len(labels)) % count
    return folds


def _deal_groups(
    labels: Rows, groups: Rows, classes: Sequence[str], count: int, random: np.random.PCG64
) -> NDArray[np.int8]:
    """Deal groups of images; take the first order that leaves each class to two folds."""
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    sizes = np.bincount(group_of)
    for _ in range(_ORDERS):
        keys = random.random_raw(len(labels))[first]
        order = np.lexsort((keys, labels[first], -sizes))
        folds = _deal(labels, group_of, order, count)[group_of]
        lone = [
            name
            for label, name in enumerate(classes)
            if len(np.unique(folds[labels == label])) == 1
        ]
        if not lone and len(np.unique(folds)) == count:
            return folds
    problem = f"{lone[0]} in two folds" if lone else "images in every fold"
    raise UnusableDataError(
        f"no draw gives {problem} without dividing a group of images",
        "use fewer folds, or add groups of images",
    )


def _deal(labels: Rows, group_of: Rows, order: Rows, count: int) -> NDArray[np.int8]:
    """Return the fold of each group, dealt in an order."""
    width = int(labels.max()) + 1
    totals: list[int] = np.bincount(labels, minlength=width).tolist()
    pairs, counts = np.unique(group_of * width + labels, return_counts=True)
    contents: list[list[tuple[int, int]]] = [[] for _ in order]
    for pair, images in zip(pairs.tolist(), counts.tolist(), strict=True):
        contents[pair // width].append((pair % width, images))
    have = [[0] * width for _ in range(count)]
    filled = [0] * count
    folds = np.empty(len(order), dtype=np.int8)
    for group in order.tolist():

        def crowding(fold: int, content: Sequence[tuple[int, int]] = contents[group]) -> float:
            """Return the growth of the squared counts of images, relative to their classes."""
            return sum(
                images * (2 * have[fold][label] + images) / totals[label]
                for label, images in content
            )

        chosen = min(range(count), key=lambda fold: (crowding(fold), filled[fold]))
        for label, images in contents[group]:
            have[chosen][label] += images
            filled[chosen] += images
        folds[group] = chosen
    return folds
