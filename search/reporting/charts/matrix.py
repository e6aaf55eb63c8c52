"""Confusion matrices as SVG: rows are true classes, columns predicted ones."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from search.templates import render

MOST_CLASSES = 30
"""Classes up to which a matrix is readable."""
_LABEL, _LONGEST = 110.0, 14


@dataclass(frozen=True)
class _Cell:
    x: float
    y: float
    opacity: float
    count: str
    tip: str
    is_wrong: bool


def draw_matrix(counts: NDArray[np.int64], names: Sequence[str]) -> Markup:
    """Return a confusion matrix as SVG for a page.

    The colour of a cell is its part of the true class. Errors have a colour of their own, which
    reaches its full strength at the most frequent error.

    Args:
        counts: [true, predicted], square.
        names: of the classes.
    """
    size = max(18.0, min(44.0, 620.0 / len(names)))
    totals = counts.sum(axis=1)
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    most = max(int(wrong.max()), 1)
    cells = []
    for row, column in np.argwhere(counts).tolist():
        count, total = int(counts[row, column]), int(totals[row])
        is_wrong = row != column
        part = count / most if is_wrong else count / total
        tip = f"{names[row]} classified as {names[column]}: {count:,} of {total:,}"
        cells.append(
            _Cell(
                _LABEL + column * size,
                _LABEL + row * size,
                round(0.15 + 0.6 * part, 2),
                f"{count:,}" if size >= 26 else "",
                tip,
                is_wrong,
            )
        )
    return render(
        "matrix.svg",
        size=size,
        label=_LABEL,
        side=_LABEL + size * len(names) + 4,
        names=[name if len(name) <= _LONGEST else f"{name[: _LONGEST - 2]}.." for name in names],
        cells=cells,
    )
