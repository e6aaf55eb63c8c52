"""How far finalists are behind the first, and whether chance explains it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from search.study.finalists import Finalist, FinalistStore
from search.study.significance import Comparison, compare


def distances(
    finalists: Sequence[Finalist], store: FinalistStore, alpha: float
) -> dict[int, Comparison]:
    """Compare the first finalist with each other one on the same validation images.

    Args:
        finalists: best first.
        store: of their results.
        alpha: see `search.study.significance.compare`.

    Returns:
        By the number of each finalist but the first: the first minus it. Finalists with a training
        of an older version, which did not store this, are left out.
    """
    found = {each.number: _right(each, store) for each in finalists}
    if not finalists or (first := found[finalists[0].number]) is None:
        return {}
    return {
        each.number: compare(first, own, alpha)
        for each in finalists[1:]
        if (own := found[each.number]) is not None and own.shape[1] == first.shape[1]
    }


def tied_with_first(behind: Mapping[int, Comparison]) -> list[int]:
    """Return the numbers of the finalists whose distance chance explains.

    Args:
        behind: see `distances`.
    """
    return [number for number, each in behind.items() if not each.is_better]


def _right(finalist: Finalist, store: FinalistStore) -> NDArray[np.bool_] | None:
    """Return whether each training is right about each image, bool [trainings, images]."""
    rows = [store.validation_right(finalist.number, each.seed) for each in finalist.results]
    known = [row for row in rows if row is not None]
    if len(known) < len(rows) or len({len(row) for row in known}) != 1 or len(known[0]) < 2:
        return None
    return np.stack(known)
