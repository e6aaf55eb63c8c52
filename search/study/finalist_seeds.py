"""Decides which finalists train with more seeds: those that seeds do not tell from the leader.

All finalists start with the same number of seeds. In each further round, finalists that are clearly
worse than the leader leave, and the others, the leader included, train with one more seed. The
rounds end when one finalist remains, or when the rest has the largest number of seeds. Finalists
that left do not return.

A finalist is clearly worse if a one-sided t test of level `ALPHA` says so. The test pools the
variance over the seeds of the finalists that remain, because few seeds estimate it badly. It
ignores the noise of the validation images: more seeds do not reduce it, and a rule that counts it
spends seeds in vain. `ALPHA` is large because a wrong exit costs little, and waiting costs seeds;
0.16 to 0.25 served best in a simulation (docs/results.md).

Each decision uses the first seeds of each finalist only, so an interrupted search decides as an
uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

ALPHA = 0.2
"""Probability that an equally good finalist leaves in a round, at most."""
# Means of equal accuracies differ by rounding.
_ROUNDING = 1e-12


@dataclass(frozen=True)
class SeedPlan:
    """The trainings that decide between finalists next.

    Attributes:
        contenders: numbers of the finalists that remain, best first once they have results.
        seeds: number of seeds for each of them.
        missing: trainings without a result, as number of the finalist and index of the seed; empty
            if the choice has ended.
    """

    contenders: tuple[int, ...]
    seeds: int
    missing: tuple[tuple[int, int], ...]


def plan_seeds(
    known: Mapping[int, Mapping[int, float | None]], seeds: int, max_seeds: int
) -> SeedPlan:
    """Return which finalists train next, and with which seeds.

    Args:
        known: by the number of each finalist, the validation accuracy by index of the seed from 0;
            None for a training that failed.
        seeds: number of seeds of every finalist, at least 1.
        max_seeds: largest number of seeds of a finalist, at least `seeds`.

    Example:
        >>> plan_seeds({4: {0: 0.90, 1: 0.92}, 7: {0: 0.91, 1: 0.91}, 9: {0: 0.5, 1: 0.51}}, 2, 4)
        SeedPlan(contenders=(4, 7), seeds=3, missing=((4, 2), (7, 2)))
    """
    contenders = tuple(known)
    for count in range(seeds, max_seeds + 1):
        missing = tuple(
            (number, index)
            for number in contenders
            for index in range(count)
            if index not in known[number]
        )
        if missing:
            return SeedPlan(contenders, count, missing)
        contenders = within_noise({n: _scores(known[n], count) for n in contenders})
        if len(contenders) < 2:
            return SeedPlan(contenders, count, ())
    return SeedPlan(contenders, max_seeds, ())


def within_noise(scores: Mapping[int, Sequence[float]]) -> tuple[int, ...]:
    """Return the finalists that are not clearly worse than the leader, best first.

    Without two seeds of one finalist the noise is unknown, and none is clearly worse.

    Args:
        scores: by the number of each finalist, its validation accuracies; those without any fail.
    """
    scores = {number: found for number, found in scores.items() if found}
    ranked = sorted(scores, key=lambda number: -fmean(scores[number]))
    freedom = sum(len(found) - 1 for found in scores.values())
    if len(ranked) < 2 or not freedom:
        return tuple(ranked)
    from scipy.special import stdtrit  # noqa: PLC0415 - imports slowly

    squares = [(each - fmean(found)) ** 2 for found in scores.values() for each in found]
    variance = sum(squares) / freedom
    quantile = abs(float(stdtrit(freedom, ALPHA)))
    leader = scores[ranked[0]]

    def is_close(number: int) -> bool:
        own = scores[number]
        error = math.sqrt(variance * (1 / len(own) + 1 / len(leader)))
        distance: float = fmean(leader) - fmean(own)
        return distance <= quantile * error + _ROUNDING

    return tuple(number for number in ranked if is_close(number))


def _scores(known: Mapping[int, float | None], count: int) -> list[float]:
    return [score for index in range(count) if (score := known[index]) is not None]
