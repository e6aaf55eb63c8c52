"""Counts false rejections: rejected networks that beat all accepted ones of no higher cost."""

from __future__ import annotations

from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from experiments.border_audit.networks import Floats, Ints, Mask

ALPHA = 0.05
"""Level of the one-sided test of each rejected network."""
UPPER = 0.95
"""Part of the accepted networks that a network in the upper range exceeds."""
LEVEL = 0.95
"""Of intervals."""


@dataclass(frozen=True)
class Count:
    """Number of networks with a property.

    Attributes:
        hits: networks that have it.
        total: networks that were looked at.
    """

    hits: float
    total: int

    @property
    def share(self) -> float:
        """Share of the networks, 0..1; 0 of no networks."""
        return self.hits / self.total if self.total else 0.0

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson interval of the share (95 %)."""
        if not self.total:
            return 0.0, 1.0
        z2 = NormalDist().inv_cdf((1 + LEVEL) / 2) ** 2
        centre = (self.hits + z2 / 2) / (self.total + z2)
        spread = np.sqrt(z2 * (self.hits * (self.total - self.hits) / self.total + z2 / 4)) / (
            self.total + z2
        )
        return float(max(0.0, centre - spread)), float(min(1.0, centre + spread))


@dataclass(frozen=True)
class FalseRejections:
    """False rejections of one filter at equal or lower cost.

    Attributes:
        measured: rejected networks whose mean accuracy exceeds that of each accepted network of
            equal or lower cost, without a margin.
        beyond_noise: those that exceed each by more than the noise of the difference.
        upper: rejected networks that exceed at least the part `UPPER` of these accepted networks.
            A random filter has about one minus `UPPER`, or more where few accepted networks are
            cheap, in tables of any size; its `measured` is smaller in larger tables.
        incomparable: rejected networks that are cheaper than every accepted one. They are not
            counted in the other numbers.
    """

    measured: Count
    beyond_noise: Count
    upper: Count
    incomparable: int


def false_rejections(
    rejected: Mask, accuracy: Floats, variance: Floats, cost: Ints | Floats | None = None
) -> FalseRejections:
    """Count the false rejections of a filter.

    ``beyond_noise`` is an intersection-union test: a rejected network must exceed each accepted one
    of equal or lower cost by a one-sided test at level `ALPHA`. It therefore keeps this level for
    each rejected network, although the best of many noisy accuracies is among the others.

    Args:
        rejected: networks that the filter rejects.
        accuracy: mean accuracy of each network.
        variance: of these means; see `experiments.border_audit.noise`.
        cost: of each network; None compares with all accepted networks.
    """
    accepted = ~rejected
    if cost is None:
        cost = np.zeros(len(rejected))
    comparable = cost[accepted][None, :] <= cost[rejected][:, None]
    some = comparable.any(axis=1)
    gain = accuracy[rejected][:, None] - accuracy[accepted][None, :]
    error = np.sqrt(variance[rejected][:, None] + variance[accepted][None, :])
    z = NormalDist().inv_cdf(1 - ALPHA)
    total = int(np.sum(some))

    def count(exceeds: Mask) -> Count:
        return Count(int(np.sum((exceeds | ~comparable).all(axis=1) & some)), total)

    exceeded = np.sum((gain > 0) & comparable, axis=1)
    upper = exceeded >= UPPER * np.sum(comparable, axis=1)
    return FalseRejections(
        measured=count(gain > 0),
        beyond_noise=count(gain > z * error),
        upper=Count(int(np.sum(upper & some)), total),
        incomparable=int(np.sum(~some)),
    )
