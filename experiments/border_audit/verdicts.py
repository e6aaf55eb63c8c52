"""Judges each filter of a table: what it rejects wrongly, and what it saves."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from experiments.border_audit.filters import at_random, border_screen, largest, smallest
from experiments.border_audit.networks import Floats, Ints, Mask, Networks
from experiments.border_audit.quality import best_rejected
from experiments.border_audit.rejections import Count, FalseRejections, false_rejections
from spaces.border import Rule


@dataclass(frozen=True)
class Verdict:
    """What one filter does.

    Attributes:
        rejected: networks that it rejects.
        seconds: share of the seconds of all networks that the rejected ones take.
        by_macs: false rejections at equal or lower multiply-accumulates.
        by_parameters: at equal or fewer parameters.
        by_seconds: at equal or fewer measured seconds.
        at_any_cost: against all accepted networks.
        best: rejected networks among the best tenth.
    """

    rejected: Count
    seconds: float
    by_macs: FalseRejections
    by_parameters: FalseRejections
    by_seconds: FalseRejections
    at_any_cost: FalseRejections
    best: Count


@dataclass(frozen=True)
class Table:
    """A table that is audited.

    Attributes:
        networks: of the table.
        accuracy: mean accuracy of each network.
        variance: of these means.
    """

    networks: Networks
    accuracy: Floats
    variance: Floats


@dataclass(frozen=True)
class Comparison:
    """The border screen and its controls, which reject as many networks.

    Attributes:
        rule: of the screen.
        allow_beyond: of the screen.
        mask: networks that the screen rejects.
        screen: the screen's verdict.
        largest: verdict of a filter that rejects the most multiply-accumulates.
        smallest: verdict of a filter that rejects the fewest.
        random: measured share of false rejections (by multiply-accumulates) of a random filter,
            the mean over its draws.
        random_upper: the same for rejected networks in the upper range.
    """

    rule: Rule
    allow_beyond: int
    mask: Mask
    screen: Verdict
    largest: Verdict
    smallest: Verdict
    random: float
    random_upper: float


def judge(table: Table, rejected: Mask) -> Verdict:
    """Judge a filter by the networks that it rejects."""
    networks = table.networks

    def against(cost: Ints | Floats | None) -> FalseRejections:
        return false_rejections(rejected, table.accuracy, table.variance, cost)

    seconds = networks.seconds
    return Verdict(
        rejected=Count(int(np.sum(rejected)), len(networks)),
        seconds=float(np.sum(seconds[rejected]) / np.sum(seconds)),
        by_macs=against(networks.macs),
        by_parameters=against(networks.parameters),
        by_seconds=against(networks.seconds),
        at_any_cost=against(None),
        best=best_rejected(rejected, table.accuracy),
    )


def compare(
    table: Table, rule: Rule, allow_beyond: int, generator: np.random.Generator, draws: int
) -> Comparison:
    """Judge the border screen and its controls.

    Args:
        table: of trained networks.
        rule: of the screen.
        allow_beyond: of the screen; see `experiments.border_audit.filters.border_screen`.
        generator: draws the random filters.
        draws: number of random filters.
    """
    networks = table.networks
    mask = border_screen(networks, rule, allow_beyond)
    count = int(np.sum(mask))
    random = [
        false_rejections(
            at_random(len(networks), count, generator),
            table.accuracy,
            table.variance,
            networks.macs,
        )
        for _ in range(draws)
    ]
    return Comparison(
        rule=rule,
        allow_beyond=allow_beyond,
        mask=mask,
        screen=judge(table, mask),
        largest=judge(table, largest(networks.macs, count)),
        smallest=judge(table, smallest(networks.macs, count)),
        random=float(np.mean([each.measured.share for each in random])),
        random_upper=float(np.mean([each.upper.share for each in random])),
    )
