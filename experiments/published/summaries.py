"""Summarises results over seeds, as text for the pages."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import permutations
from statistics import fmean, stdev

from experiments.reproduction.records import Point, Result

UNKNOWN = "-"


def by_case(results: Iterable[Result]) -> dict[str, list[Result]]:
    """Group results by the names of their cases, in the order of the results."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(result.case.name, []).append(result)
    return groups


def deviation(values: Sequence[float]) -> float:
    """Return the standard deviation over seeds; 0 for one seed."""
    return stdev(values) if len(values) > 1 else 0.0


def percent(fractions: Sequence[float]) -> str:
    """Return mean and standard deviation of fractions as percent, such as ``52.1 ± 0.4 %``."""
    return f"{_numbers(fractions, '')} %" if fractions else UNKNOWN


def points(differences: Sequence[float]) -> str:
    """Return mean and standard deviation of differences of fractions, in percentage points."""
    return _numbers(differences, "+") if differences else UNKNOWN


def plain(values: Sequence[float], digits: int = 1) -> str:
    """Return mean and standard deviation of values."""
    return _text(values, "", digits) if values else UNKNOWN


def point(x: float, values: Sequence[float], label: str = "") -> Point:
    """Return the point of a mean, with the standard deviation as its error bar."""
    return Point(x, fmean(values), deviation(values), label)


def paired(results: Sequence[Result], references: Sequence[Result]) -> list[float]:
    """Return the differences of test accuracies, seed by seed, for seeds that both have."""
    accuracies = {each.outcome.seed: each.outcome.test_accuracy for each in references}
    return [
        each.outcome.test_accuracy - accuracies[each.outcome.seed]
        for each in results
        if each.outcome.seed in accuracies
    ]


def accuracies(results: Sequence[Result]) -> list[float]:
    """Return the test accuracies, 0..1."""
    return [each.outcome.test_accuracy for each in results]


def rank_correlation(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return Spearman's rank correlation; None for fewer than three pairs or a constant."""
    from scipy import stats  # noqa: PLC0415 - imports slowly

    if len(pairs) < 3 or any(len({pair[side] for pair in pairs}) == 1 for side in (0, 1)):
        return None
    return float(stats.spearmanr([a for a, _ in pairs], [b for _, b in pairs]).statistic)


def rank_correlation_p(pairs: Sequence[tuple[float, float]]) -> float:
    """Return the exact two-sided p-value of Spearman's rank correlation.

    This is the fraction of all orders of one side whose correlation is at least as far from 0.

    Args:
        pairs: at most seven; more have too many orders.
    """
    import numpy as np  # noqa: PLC0415 - imports slowly
    from scipy.stats import rankdata  # noqa: PLC0415 - imports slowly

    one, other = (rankdata([pair[side] for pair in pairs]) for side in (0, 1))
    one, other = one - one.mean(), other - other.mean()
    products = np.array(list(permutations(other))) @ one
    return float(np.mean(abs(products) >= abs(one @ other) - 1e-9))


def is_beyond_chance(differences: Sequence[float]) -> bool:
    """Tell whether a two-sided paired t test of level 0.05 finds a difference.

    Args:
        differences: one per seed. One difference alone is never beyond chance.
    """
    from scipy.stats import t  # noqa: PLC0415 - imports slowly

    count = len(differences)
    if count < 2:
        return False
    limit = float(t.ppf(0.975, count - 1)) * stdev(differences) / count**0.5
    return bool(abs(fmean(differences)) > limit)


def millions(number: float) -> str:
    """Return a number in millions, such as ``14.72``; small ones with more digits."""
    return f"{number / 1e6:.2f}" if number >= 1e6 else f"{number / 1e6:.3f}"


def _numbers(fractions: Sequence[float], sign: str) -> str:
    return _text([100 * each for each in fractions], sign, 1)


def _text(values: Sequence[float], sign: str, digits: int) -> str:
    mean = f"{fmean(values):{sign}.{digits}f}"
    return f"{mean} ± {stdev(values):.{digits}f}" if len(values) > 1 else mean
