"""Draws the three splits; equal arguments give equal splits on every machine."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import floor

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, shown
from trainables.images.layout.split_names import SPLITS

Rows = NDArray[np.int64]

_TRAIN, _VALIDATION, _TEST = range(len(SPLITS))

# Whether every split gets every class can depend on the order in which groups are drawn.
_ORDERS = 10


@dataclass(frozen=True, eq=False)
class Splits:
    """Rows of the images of each split: disjoint, sorted, and with every class.

    Validation by folds needs no split of its own, so that one is empty.
    """

    train: Rows
    validation: Rows
    test: Rows
    folds: NDArray[np.int8] | None = None
    """Fold of each image of train in each repetition, [repetitions, train]; None without folds."""


def draw_splits(
    labels: Rows,
    given: NDArray[np.int8],
    classes: Sequence[str],
    *,
    validation: float | None,
    test: float,
    subset: float,
    seed: int,
    groups: Rows | None = None,
) -> Splits:
    """Draw stratified splits that keep groups of images together.

    The test split is the source's own, or else the fraction ``test`` of all images. The validation
    split is the source's own, or else the fraction ``validation`` of the remaining images. Counts
    are rounded per class and are at least 1. With equal seeds, a smaller ``subset`` is part of a
    larger one.

    All images of a group lie on one side of each drawn split. A group may hold images of several
    classes. Groups are taken whole, in random order, each if it brings the counts per class closer
    to their targets, so a count can miss its target by about half of a large group. Groups of
    single images do not change the result. The source's own splits stay as they are, even if they
    divide a group.

    Args:
        labels: class index of each image, [n].
        given: index in :data:`trainables.images.layout.split_names.SPLITS` of each image, [n].
        classes: names of the classes, for messages.
        validation: fraction in (0, 1); None for no drawn validation split.
        test: fraction in (0, 1).
        subset: fraction of each split to keep, in (0, 1].
        seed: seed of the draw; not negative.
        groups: number of each image's group, [n]; None if every image stands alone. Combine several
            reasons to keep images together by :func:`join_groups`.

    Raises:
        UnusableDataError: a class has fewer images, or fewer groups of images, than splits.
    """
    # NumPy guarantees only the raw output of bit generators to never change.
    bits = np.random.PCG64(np.random.SeedSequence(seed))
    keys = bits.random_raw(len(labels))
    drawn = {
        split: fraction
        for split, fraction in ((_TEST, test), (_VALIDATION, validation))
        if fraction is not None and not np.any(given == split)
    }
    pool = np.flatnonzero(given == _TRAIN)
    splits = given.copy()
    if groups is None or len(np.unique(groups[pool])) == len(pool):
        _check_shares(labels[pool], classes, drawn, "image", "images")
        for rows in _by_class(pool, labels, keys, len(classes)):
            splits[rows] = _draw_images(len(rows), drawn)
    else:
        orders = (
            keys if number == 0 else bits.random_raw(len(labels)) for number in range(_ORDERS)
        )
        splits[pool] = _draw_groups(
            labels[pool], groups[pool], classes, drawn, (order[pool] for order in orders)
        )

    def kept(split: int) -> Rows:
        by_class = _by_class(np.flatnonzero(splits == split), labels, keys, len(classes))
        return np.sort(np.concatenate([rows[: _round(len(rows), subset)] for rows in by_class]))

    return Splits(kept(_TRAIN), kept(_VALIDATION), kept(_TEST))


def join_groups(*groupings: Rows) -> Rows:
    """Return the smallest groups that keep together what any of the groupings keeps together.

    Args:
        groupings: number of each image's group, [n] each.

    Returns:
        The lowest row of each image's group, [n].
    """
    inverses = [np.unique(grouping, return_inverse=True)[1] for grouping in groupings]
    joined = np.arange(len(groupings[0]))
    while True:
        before = joined
        for inverse in inverses:
            lowest = np.full(len(inverse), len(inverse))
            np.minimum.at(lowest, inverse, joined)
            joined = lowest[inverse]
        if np.array_equal(joined, before):
            return joined


def _by_class(rows: Rows, labels: Rows, keys: NDArray[np.uint64], classes: int) -> list[Rows]:
    """Return the rows of each class in the order of their keys."""
    order = rows[np.lexsort((keys[rows], labels[rows]))]
    counts = np.bincount(labels[rows], minlength=classes)
    return np.split(order, np.cumsum(counts)[:-1])


def _check_shares(
    labels: Rows, classes: Sequence[str], drawn: Mapping[int, float], one: str, many: str
) -> None:
    """Check that each split can get an image or a group of each class."""
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    for each, count in zip(classes, counts, strict=True):
        if count <= len(drawn):
            name = shown(each, 40)
            raise UnusableDataError(
                f"the class {name} has {count} {one if count == 1 else many} to be shared by "
                f"{_listed(_drawn_from(drawn))}, and each needs one",
                f"add {many} of {name} or remove the class",
            )


def _plan(drawn: Mapping[int, float]) -> Iterator[tuple[int, float, int]]:
    """Yield each drawn split, its fraction, and how many splits still need an image after it."""
    for position, (split, fraction) in enumerate(drawn.items()):
        yield split, fraction, len(drawn) - position


def _target(count: int, fraction: float, needed_after: int) -> int:
    return min(_round(count, fraction), count - needed_after)


def _draw_images(count: int, drawn: Mapping[int, float]) -> NDArray[np.int8]:
    """Return the splits of the images of one class, in the order of their keys."""
    splits = np.full(count, _TRAIN, dtype=np.int8)
    start = 0
    for split, fraction, needed_after in _plan(drawn):
        end = start + _target(count - start, fraction, needed_after)
        splits[start:end] = split
        start = end
    return splits


def _draw_groups(
    labels: Rows,
    groups: Rows,
    classes: Sequence[str],
    drawn: Mapping[int, float],
    orders: Iterable[NDArray[np.uint64]],
) -> NDArray[np.int8]:
    """Return the split of each image of the pool; take the first order of groups that works."""
    # The key of its first image orders a group. The lowest of all keys would favour large groups.
    _, first, group_of = np.unique(groups, return_index=True, return_inverse=True)
    pairs, counts = np.unique(group_of * len(classes) + labels, return_counts=True)
    _check_shares(pairs % len(classes), classes, drawn, "group of images", "groups of images")
    for keys in orders:
        ranks = np.argsort(np.argsort(keys[first]))
        pool = _Pool(ranks, pairs // len(classes), pairs % len(classes), counts, len(classes))
        try:
            for split, fraction, needed_after in _plan(drawn):
                pool.draw(split, fraction, needed_after)
        except _ClassMissingError as error:
            missing = shown(classes[error.label], 40)
            continue
        return pool.split_of[group_of]
    raise UnusableDataError(
        f"no draw gives {_listed(_drawn_from(drawn))} images of the class {missing} each without "
        "dividing a group of images",
        f"add groups of images of {missing} or remove the class",
    )


class _ClassMissingError(Exception):
    """A drawn split would get no image of a class."""

    def __init__(self, label: int) -> None:
        self.label = label
        super().__init__(label)


class _Pool:
    """Groups of images, drawn one after another in the order of their ranks.

    Most groups are single images. Of these, a split takes the first of each class, which needs no
    loop over them.

    Args:
        ranks: position of each group in the order, [g].
        group: group of each pair of a group and a class that it has images of, sorted, [p].
        label: class index of each pair, [p].
        count: number of images of each pair, [p].
        classes: number of classes.
    """

    def __init__(self, ranks: Rows, group: Rows, label: Rows, count: Rows, classes: int) -> None:
        self.split_of = np.full(len(ranks), _TRAIN, dtype=np.int8)
        self._images = np.bincount(label, count, classes).astype(int).tolist()
        self._groups = np.bincount(label, minlength=classes).tolist()
        single = np.bincount(group, count) == 1
        by_rank = np.argsort(ranks)
        self._ranks = ranks.tolist()
        self._contents: dict[int, list[tuple[int, int]]] = {
            each: [] for each in by_rank[~single[by_rank]].tolist()
        }
        several = ~single[group]
        for each, *content in zip(
            group[several].tolist(), label[several].tolist(), count[several].tolist(), strict=True
        ):
            self._contents[each].append((content[0], content[1]))
        alone, alone_label = group[~several], label[~several]
        order = np.lexsort((ranks[alone], alone_label))
        bounds = np.cumsum(np.bincount(alone_label, minlength=classes))[:-1]
        self._singles = np.split(alone[order], bounds)
        self._single_ranks = np.split(ranks[alone[order]], bounds)

    def draw(self, split: int, fraction: float, needed_after: int) -> None:
        """Draw the groups of a split.

        Args:
            split: index of the split.
            fraction: of the images of each class that are left.
            needed_after: groups of each class that other splits need.

        Raises:
            _ClassMissingError: the split gets no image of a class.
        """
        targets = [_target(count, fraction, needed_after) for count in self._images]
        missing = targets.copy()
        passed = [0] * len(targets)
        taken = [0] * len(targets)

        def take_singles(label: int, rank: int) -> None:
            """Take single images of a class with ranks below this one, as long as they are needed.

            Once they are not, they never are again, so those taken are the first ones.
            """
            end = int(np.searchsorted(self._single_ranks[label], rank))
            spare = self._groups[label] - needed_after
            count = max(0, min(end - passed[label], missing[label], spare))
            passed[label] = end
            taken[label] += count
            remove(label, count, groups=count)

        def remove(label: int, count: int, groups: int = 1) -> None:
            missing[label] -= count
            self._images[label] -= count
            self._groups[label] -= groups

        def is_free(group: int) -> bool:
            return self.split_of[group] == _TRAIN and all(
                self._groups[label] > needed_after for label, _ in self._contents[group]
            )

        def gain(group: int) -> float:
            """Return by how much a group lowers the chi-squared distance to the targets."""
            return sum(
                (missing[label] ** 2 - (missing[label] - count) ** 2) / targets[label]
                for label, count in self._contents[group]
            )

        def take(group: int) -> None:
            self.split_of[group] = split
            for label, count in self._contents[group]:
                remove(label, count)

        for group, content in self._contents.items():
            for label, _ in content:
                take_singles(label, self._ranks[group])
            if is_free(group) and gain(group) > 0:
                take(group)
        for label, target in enumerate(targets):
            take_singles(label, len(self._ranks))
            if missing[label] == target:
                having = (
                    group
                    for group, content in self._contents.items()
                    if is_free(group) and any(each == label for each, _ in content)
                )
                best = max(having, key=gain, default=None)
                if best is None:
                    raise _ClassMissingError(label)
                take(best)
        for label, count in enumerate(taken):
            self.split_of[self._singles[label][:count]] = split
            self._singles[label] = self._singles[label][count:]
            self._single_ranks[label] = self._single_ranks[label][count:]


def _drawn_from(drawn: Mapping[int, float]) -> list[str]:
    return [SPLITS[_TRAIN], *(SPLITS[split] for split in sorted(drawn))]


def _round(count: int, fraction: float) -> int:
    return max(1, floor(count * fraction + 0.5))


def _listed(names: Sequence[str]) -> str:
    return f"{', '.join(names[:-1])} and {names[-1]}" if len(names) > 1 else names[0]
