"""Compares networks with their truncated twins."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats

from experiments.border_audit.networks import Floats, Mask
from experiments.border_audit.rejections import LEVEL
from experiments.plain_networks.records import Row


@dataclass(frozen=True)
class Pairs:
    """One entry per network that has been trained with and without its tail.

    Attributes:
        gain: mean over the common seeds of the accuracy with the tail minus that without it.
        accuracy: mean over the same seeds of the accuracy with the tail.
        beyond: convolutions beyond the border layer that the network has.
        macs: multiply-accumulates of the twin relative to those of the network.
        seconds: of the twin's training relative to those of the network.
        train: training accuracy of the network, the mean over the same seeds.
    """

    gain: Floats
    accuracy: Floats
    beyond: Floats
    macs: Floats
    seconds: Floats
    train: Floats

    def __len__(self) -> int:
        """Return the number of pairs."""
        return len(self.gain)


def pair(networks: Sequence[Row], twins: Sequence[Row], *, keep_border: bool) -> Pairs:
    """Pair trainings of the same network and seed.

    Args:
        networks: rows of the table.
        twins: rows of the table of twins.
        keep_border: take the twins that keep the border layer, or those without it.
    """
    whole = {(row.number, row.seed): row for row in networks}
    found: dict[int, list[tuple[Row, Row]]] = {}
    for row in twins:
        other = whole.get((row.number, row.seed))
        if other is not None and (row.border_previous_conv is not None) is keep_border:
            found.setdefault(row.number, []).append((other, row))

    def means(of: Sequence[Sequence[float]]) -> Floats:
        return np.array([np.mean(each) for each in of], np.float64)

    by_network = list(found.values())
    return Pairs(
        gain=means([[a.accuracy - b.accuracy for a, b in each] for each in by_network]),
        accuracy=means([[a.accuracy for a, _ in each] for each in by_network]),
        beyond=means([[a.beyond_previous_conv for a, _ in each] for each in by_network]),
        macs=means([[b.macs / a.macs for a, b in each] for each in by_network]),
        seconds=means([[b.cpu_seconds / a.cpu_seconds for a, b in each] for each in by_network]),
        train=means([[a.train_accuracy for a, _ in each] for each in by_network]),
    )


@dataclass(frozen=True)
class Gain:
    """What the tail adds to a group of networks.

    Attributes:
        mean: accuracy with the tail minus accuracy without it.
        low: lower end of the 95 % interval of the mean over networks, by Student's t.
        high: upper end.
        better: share of the networks that are better with their tail.
        number: of networks.
    """

    mean: float
    low: float
    high: float
    better: float
    number: int


def gain(pairs: Pairs, chosen: Mask) -> Gain:
    """Return what the tail adds to the chosen networks, at least two."""
    values = pairs.gain[chosen]
    mean = float(np.mean(values))
    quantile = float(stats.t.ppf((1 + LEVEL) / 2, len(values) - 1))
    margin = quantile * float(np.std(values, ddof=1) / np.sqrt(len(values)))
    return Gain(mean, mean - margin, mean + margin, float(np.mean(values > 0)), len(values))
