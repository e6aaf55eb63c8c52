"""Keeps copies of an image on one side of drawn splits, and reports copies that remain apart."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from trainables.images.errors import UnusableDataError, shown, some
from trainables.images.layout.split_names import SPLITS
from trainables.images.splitting.splits import Splits, join_groups

Rows = NDArray[np.int64]

_TRAIN = SPLITS.index("train")
_UNUSED = -1


@dataclass(frozen=True, eq=False)
class Copies:
    """Images with equal or almost equal content.

    Args:
        digests: digest of the content of each image, uint64 [n].
        similar: rows of images with almost the same pixels, [m, 2], without exact copies.
        labels: class index of each image, [n].
        classes: names of the classes.
        names: relative path of each image, [n]; None if the images are not files.
    """

    digests: NDArray[np.uint64]
    similar: Rows
    labels: Rows
    classes: Sequence[str]
    names: Sequence[str] | None

    def draw(
        self,
        given: NDArray[np.int8],
        groups: Rows | None,
        draw: Callable[[Rows | None], Splits],
    ) -> tuple[Splits, list[str]]:
        """Draw splits that keep exact copies together, if the classes have enough other images.

        Args:
            given: index in :data:`SPLITS` of each image, [n].
            groups: number of each image's group, [n], which no drawn split divides.
            draw: draws splits that keep groups together.

        Returns:
            The splits, and notes on copies in them.

        Raises:
            UnusableDataError: the splits cannot be drawn, even if copies are not kept together.
        """
        together, loose = self._together(given, groups)
        notes = []
        try:
            splits = draw(together)
        except UnusableDataError:
            if together is groups:
                raise
            splits = draw(groups)
            notes.append(
                "exact copies are not kept in one split: there are too few different images"
            )
        else:
            if loose:
                notes.append(
                    f"exact copies in {some(loose, 4)} are not kept in one split: "
                    "there are too few different images"
                )
        return splits, notes + self._describe(splits)

    def _together(
        self, given: NDArray[np.int8], groups: Rows | None
    ) -> tuple[Rows | None, list[str]]:
        """Return groups that also keep copies together, and the classes for which they do not."""
        distinct, same = np.unique(self.digests, return_inverse=True)
        drawn = sum(not np.any(given == split) for split in range(len(SPLITS)) if split != _TRAIN)
        if len(distinct) == len(same) or not drawn:
            return groups, []
        joined = same if groups is None else join_groups(groups, same)
        pool = given == _TRAIN
        pairs = np.unique(joined[pool] * len(self.classes) + self.labels[pool])
        counts = np.bincount(pairs % len(self.classes), minlength=len(self.classes))
        loose = np.flatnonzero(counts <= drawn)
        if len(loose):
            alone = len(same) + np.arange(len(same))
            same = np.where(np.isin(self.labels, loose), alone, same)
            joined = same if groups is None else join_groups(groups, same)
        return joined, [self.classes[label] for label in loose.tolist()]

    def _describe(self, splits: Splits) -> list[str]:
        """Return notes on copies in the splits."""
        side = np.full(len(self.labels), _UNUSED)
        for split, name in enumerate(SPLITS):
            side[getattr(splits, name)] = split
        used = np.flatnonzero(side != _UNUSED)
        # Copies lie side by side, those of an earlier split first.
        order = used[np.lexsort((used, side[used], self.digests[used]))]
        one, two = order[:-1], order[1:]
        copied = self.digests[one] == self.digests[two]
        if not np.any(copied) and not len(self.similar):
            return []
        one, two = one[copied], two[copied]
        everywhere = np.full(len(one), fill_value=True)
        similar = self.similar[np.all(side[self.similar] != _UNUSED, axis=1)]
        like, alike = similar.T
        return [
            *self._line("exact copies of other images: {}", one, two, everywhere),
            *self._line(
                "exact copies in different splits: {}; scores on them are too optimistic",
                *(one, two, side[one] != side[two]),
            ),
            *self._line(
                "exact copies in different classes: {}; one of the labels is wrong",
                *(one, two, self.labels[one] != self.labels[two]),
            ),
            *self._line(
                "pairs of images in different splits that look almost the same: at least {}",
                *(like, alike, side[like] != side[alike]),
            ),
        ]

    def _line(self, text: str, one: Rows, two: Rows, which: NDArray[np.bool_]) -> list[str]:
        """Return a note with the number of pairs and an example, none without pairs."""
        if not np.any(which):
            return []
        first = int(np.argmax(which))
        example = f"{self._name(int(one[first]))} and {self._name(int(two[first]))}"
        return [text.format(f"{np.sum(which):,} (e.g. {example})")]

    def _name(self, row: int) -> str:
        return shown(self.names[row]) if self.names is not None else f"image {row}"
