"""Standardises the features of candidates, once per candidate."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.loop.sampling.gaussian_process import Floats
from search.loop.sampling.proposals import Proposal, features_of

_FARTHEST = 5.0
_KEPT_ROWS = 4096


class Scaling:
    """Standardises features by their distribution among random draws from the space.

    Features that do not vary there are left out. The scale stays the same during a search, so
    distances between candidates do not change.

    Args:
        names: of the features.
        draws: candidates at random.
        costs_only: leave out all features but parameters and multiply-accumulates.
    """

    def __init__(
        self, names: Sequence[str], draws: Sequence[Proposal], *, costs_only: bool = False
    ) -> None:
        found = features_of(draws)
        spread = found.std(axis=0)
        costs = [names.index("params"), names.index("macs")]
        varies = [i for i in range(len(names)) if spread[i] > 1e-9 and i not in costs]
        if costs_only:
            varies = []
        self._columns = np.array([*costs, *varies])
        self._mean = found.mean(axis=0)[self._columns]
        self._spread = np.where(spread[self._columns] > 1e-9, spread[self._columns], 1.0)
        self._known: dict[str, tuple[tuple[float, ...], int]] = {}
        """Features and row of each candidate by its digest."""
        self._rows = np.zeros((_KEPT_ROWS, len(self._columns)))
        self._used = 0
        """Rows that hold a candidate."""

    def __call__(self, proposals: Sequence[Proposal]) -> Floats:
        """Return standardised features, of shape (proposals, columns)."""
        # The latest blocks ask for most proposals again.
        if self._used + len(proposals) > len(self._rows):
            self._known.clear()
            self._used = 0
            self._rows = np.zeros((max(_KEPT_ROWS, 2 * len(proposals)), len(self._columns)))
        places = np.array([self._place(each) for each in proposals], dtype=np.intp)
        return np.asarray(self._rows[places], dtype=np.float64)

    def _place(self, proposal: Proposal) -> int:
        """Return the row of a proposal."""
        known = self._known.get(proposal.digest)
        if known is not None and known[0] == proposal.features:
            return known[1]
        values = np.array(proposal.features, dtype=np.float64)[self._columns]
        row, self._used = self._used, self._used + 1
        self._rows[row] = np.clip((values - self._mean) / self._spread, -_FARTHEST, _FARTHEST)
        self._known[proposal.digest] = proposal.features, row
        return row
