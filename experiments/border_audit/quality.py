"""Compares rejected networks with accepted ones as groups."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.border_audit.networks import Floats, Ints, Mask
from experiments.border_audit.rejections import Count

MATCHED = 1.25
"""Largest ratio of the costs of two networks that count as equal."""
DRAWS = 1000


def best_rejected(rejected: Mask, accuracy: Floats, part: float = 0.1) -> Count:
    """Count the rejected ones among the best networks of the table.

    Args:
        rejected: networks that the filter rejects.
        accuracy: mean accuracy of each network.
        part: of the networks that counts as best.
    """
    best = np.argsort(-accuracy, kind="stable")[: max(1, round(part * len(accuracy)))]
    return Count(int(np.sum(rejected[best])), len(best))


@dataclass(frozen=True)
class Difference:
    """Mean difference in accuracy of two groups.

    Attributes:
        accuracy: mean accuracy of the first group's networks with a counterpart.
        mean: first group minus second group.
        low: lower end of the 95 % bootstrap interval.
        high: upper end.
        pairs: networks of the first group with a counterpart.
        unmatched: networks of the first group without one; they are left out.
    """

    accuracy: float
    mean: float
    low: float
    high: float
    pairs: int
    unmatched: int


def at_equal_cost(
    group: Mask,
    accepted: Mask,
    accuracy: Floats,
    cost: Ints,
    generator: np.random.Generator,
    draws: int = DRAWS,
) -> Difference:
    """Compare each network of a group with the mean of the accepted ones of equal cost.

    Costs are equal up to the ratio `MATCHED`. The interval resamples the networks of both groups.

    Args:
        group: of rejected networks.
        accepted: networks to compare with.
        accuracy: mean accuracy of each network.
        cost: of each network.
        generator: draws the samples.
        draws: number of samples.
    """
    logs = np.log(cost)
    near = np.abs(logs[group][:, None] - logs[accepted][None, :]) <= np.log(MATCHED)
    matched = near.any(axis=1)
    near = near[matched].astype(np.float64)
    ours, others = accuracy[group][matched], accuracy[accepted]
    pairs, unmatched = len(ours), int(np.sum(~matched))
    if not pairs:
        return Difference(np.nan, np.nan, np.nan, np.nan, 0, unmatched)

    def mean(times_ours: Floats, times_others: Floats) -> float:
        weight = near @ times_others
        there = weight > 0
        counterpart = (near @ (times_others * others))[there] / weight[there]
        times = times_ours[there]
        total = np.sum(times)
        return float(np.sum(times * (ours[there] - counterpart)) / total) if total else np.nan

    samples = [
        mean(_resample(pairs, generator), _resample(len(others), generator)) for _ in range(draws)
    ]
    low, high = np.nanquantile(samples, [0.025, 0.975])
    return Difference(
        float(np.mean(ours)),
        mean(np.ones(pairs), np.ones(len(others))),
        float(low),
        float(high),
        pairs,
        unmatched,
    )


def _resample(size: int, generator: np.random.Generator) -> Floats:
    """Return how often a bootstrap sample contains each network."""
    return np.bincount(generator.integers(size, size=size), minlength=size).astype(np.float64)
