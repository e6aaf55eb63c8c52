"""Asynchronous successive halving (ASHA): stops unpromising trials early.

After Li et al. 2020 (arXiv 1810.05934).

A rung holds only the reported values of its trials. A resumed search fills the rungs from its study
and stops the same trials. As in Ray's scheduler of that name, a trial is compared with those that
reached the rung before it, so the decision never changes afterwards.

It is implemented here because Ray's scheduler cannot be restored from a study.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import takewhile

import numpy as np


class Asha:
    """Stops a trial at a rung unless it is among the best that have reached it so far.

    Args:
        epochs: length of a whole training, which is no rung.
        grace: epochs of the first rung.
        reduction: factor between two rungs; the best 1/reduction of the trials at a rung continue.
    """

    def __init__(self, epochs: int, grace: int, reduction: int) -> None:
        self._reduction = reduction
        self._rungs: dict[int, dict[int, float]] = {}
        rung = grace
        while rung < epochs:
            self._rungs[rung] = {}
            rung *= reduction

    def report(self, number: int, epoch: int, value: float) -> None:
        """Record the value that a trial reported after an epoch, if a rung lies there."""
        rung = self._rungs.get(epoch)
        if rung is not None:
            rung.setdefault(number, value)

    def should_stop(self, number: int, epoch: int) -> bool:
        """Tell whether a trial stops after an epoch that it has reported.

        The first trial at a rung continues. A trial whose value is not a number stops.
        """
        rung: Mapping[int, float] = self._rungs.get(epoch, {})
        if number not in rung:
            return False
        value = rung[number]
        if math.isnan(value):
            return True
        earlier = [rung[other] for other in takewhile(lambda other: other != number, rung)]
        known = [other for other in earlier if not math.isnan(other)]
        if not known:
            return False
        return bool(value < np.percentile(known, 100 * (1 - 1 / self._reduction)))
