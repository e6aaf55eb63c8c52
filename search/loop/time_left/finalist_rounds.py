"""Plays the rounds of finalists; see `search.study.finalist_seeds`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from random import Random
from statistics import fmean

from search.loop.time_left.plan import FinalistPlan
from search.study.finalist_seeds import plan_seeds

_DISTANCE = 0.7
"""Assumed spread of the accuracies of finalists, relative to the spread over seeds."""

Known = Mapping[int, Mapping[int, float | None]]
"""Validation accuracy by finalist and index of the seed; None for a training that failed."""


def play_rounds(plan: FinalistPlan, known: Known, chance: Random) -> Iterator[list[int]]:
    """Yield the finalists of each training of each round that is still to come.

    Args:
        plan: of the finalists.
        known: results so far, by finalist; empty for each at first.
        chance: of the further results.
    """
    results: dict[int, dict[int, float | None]] = {n: dict(found) for n, found in known.items()}
    spread = _spread(results) or 1.0
    middle = {n: _mean(found) for n, found in results.items()}
    average = fmean([each for each in middle.values() if each is not None] or [0.0])
    means = {
        n: average + chance.gauss(0, _DISTANCE * spread)
        if mean is None
        else mean + chance.gauss(0, spread / len(results[n]) ** 0.5)
        for n, mean in middle.items()
    }
    while missing := plan_seeds(results, plan.seeds, plan.most_seeds).missing:
        yield [number for number, _ in missing]
        for number, index in missing:
            results[number][index] = chance.gauss(means[number], spread)


def _mean(found: Mapping[int, float | None]) -> float | None:
    scores = [each for each in found.values() if each is not None]
    return fmean(scores) if scores else None


def _spread(results: Known) -> float:
    """Return the pooled standard deviation over the seeds; 0 if it is unknown."""
    squares, freedom = 0.0, 0
    for found in results.values():
        scores = [each for each in found.values() if each is not None]
        if scores:
            squares += sum((each - fmean(scores)) ** 2 for each in scores)
            freedom += len(scores) - 1
    return (squares / freedom) ** 0.5 if freedom > 0 else 0.0
