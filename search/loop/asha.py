"""Asynchronous successive halving (ASHA): stops unpromising trials early.

After Li et al. 2020 (arXiv 1810.05934).

A rung holds only the reported values of its trials. A resumed search fills the rungs from its study
and stops the same trials. As in Ray's scheduler of that name, a trial is compared with those that
reached the rung before it, so the decision never changes afterwards.

It is implemented here because Ray's scheduler cannot be restored from a study.
"""

from __future__ import annotations

import math
from bisect import insort
from dataclasses import dataclass, field

import numpy as np


class Asha:
    """Stops a trial at a rung unless it is among the best that have reached it so far.

    Args:
        epochs: length of a whole training, which is no rung.
        grace: epochs of the first rung.
        reduction: factor between two rungs; the best 1/reduction of the trials at a rung continue.
    """

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        self._quantile = 100 * (1 - 1 / reduction)
        self._rungs: dict[int, _Rung] = {}
        rung = grace
        while rung < epochs:
            self._rungs[rung] = _Rung()
            rung *= reduction

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the value that a trial reported after an epoch, if a rung lies there."""
        rung = self._rungs.get(epoch)
        if rung is None or number in rung.stops:
            return
        if math.isnan(value):
            rung.stops[number] = True
            return
        earlier = rung.values
        rung.stops[number] = bool(earlier) and bool(value < np.percentile(earlier, self._quantile))
        insort(earlier, value)

    def should_stop(self, number: int, epoch: int) -> bool:
        """Tell whether a trial stops after an epoch that it has reported.

        The first trial at a rung continues. A trial whose value is not a number stops.
        """
        rung = self._rungs.get(epoch)
        return rung is not None and rung.stops.get(number, False)


@dataclass
class _Rung:
    """The trials that have reached a rung.

    Attributes:
        values: that are numbers, in increasing order.
        stops: whether each trial stops here.
    """

    values: list[float] = field(default_factory=list)
    stops: dict[int, bool] = field(default_factory=dict)
