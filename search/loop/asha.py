"""Which trials are stopped early: asynchronous successive halving.

After Li et al. 2020 (arXiv 1810.05934).

The rungs hold nothing but what trials have reported there, so that they can be filled again from a
study, and a search that is resumed stops what it would have stopped. What a trial is measured by is
what others had reported before it, as in Ray's scheduler of that name: whenever it is asked, the
answer is the same.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile

import numpy as np


class Asha:
    """Stops a trial at a rung unless it is among the best that have come there so far.

    Args:
        epochs: of a whole training; no rung lies there.
        grace: epochs of the first rung.
        reduction: at each rung one in so many goes on, and the next lies so many times as far.
    """

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        self._reduction = reduction
        self._rungs: dict[int, dict[int, float]] = {}
        rung = grace
        while rung < epochs:
            self._rungs[rung] = {}
            rung *= reduction

    def report(self, number: int, epoch: int, value: float) -> None:
        """Enter what a trial has reported after an epoch; what is no rung is not kept."""
        rung = self._rungs.get(epoch)
        if rung is not None:
            rung.setdefault(number, value)

    def should_stop(self, number: int, epoch: int) -> bool:
        """Tell whether a trial that has entered ends here: it lies under those that go on.

        The first of a rung goes on; what is no number never does.
        """
        rung: Mapping[int, float] = self._rungs.get(epoch, {})
        if number not in rung:
            return False
        value = rung[number]
        if math.isnan(value):
            return True
        before = [rung[other] for other in takewhile(lambda other: other != number, rung)]
        found = [other for other in before if not math.isnan(other)]
        if not found:
            return False
        return bool(value < np.percentile(found, 100 * (1 - 1 / self._reduction)))
