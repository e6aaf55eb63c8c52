"""Transfers what searches on other tasks have learned: a prior mean for the surrogate.

A Gaussian process learns the trials of all other tasks together. Each task is scored on its own, so
other means and scales of accuracy do not matter. The prediction is the prior mean of this search,
times a slope. The slope starts at 1 and follows the search's own trials: it falls to 0 if they
disagree. The surrogate then learns what the prior mean leaves unexplained.

Compared with one process over all tasks: related tasks help as much, and misleading ones are
outgrown after five to ten trials instead of fifty.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.linalg import cho_solve, cholesky, solve_triangular

from search.loop.sampling.gaussian_process import (
    Floats,
    Hyperparameters,
    choose,
    covariance,
)
from search.loop.sampling.history import Observation
from search.loop.sampling.targets import targets_of

MOST_LENT = 300
"""Trials of other tasks that are learned from, an equal part of each task."""
SLOPE_ERROR = 0.5
"""Standard deviation of the slope before the first own trial."""
RESIDUAL = 0.3
"""Variance of an own score beside the prior mean, with which the slope is estimated."""
LARGEST_SLOPE = 1.5
_JITTER = 1e-8


class OtherTasks:
    """The trials of other tasks, and what they predict.

    Args:
        lent: their trials.
        inputs: features of these trials, of shape (trials, features).
        costs: the features of the linear part.
    """

    def __init__(self, lent: Sequence[Observation], inputs: Floats, costs: slice) -> None:
        self._lent, self._inputs, self._costs = lent, inputs, costs
        objectives = len(lent[0].values)
        targets, extra = targets_of(lent, [1 / objectives] * objectives)
        self._hyper = choose(inputs, targets, extra, costs)
        matrix = covariance(inputs, inputs, self._hyper, costs)
        matrix[np.diag_indices_from(matrix)] += self._hyper.noise + extra + _JITTER
        self._lower = cholesky(matrix, lower=True, check_finite=False)

    @property
    def hyper(self) -> Hyperparameters:
        """Hyperparameters of the process over the other tasks."""
        return self._hyper

    def covariance(self, inputs: Floats) -> Floats:
        """Return the covariance of candidates and the trials, of shape (candidates, trials)."""
        return covariance(inputs, self._inputs, self._hyper, self._costs)

    def prior_mean(self, pool: Floats, rows: Floats) -> PriorMean:
        """Return the prediction for the pool and the own trials of a block; see `PriorMean`."""
        return PriorMean(self, pool, rows)

    def solve(self, objectives: Sequence[float]) -> tuple[Floats, float]:
        """Return the weight of each trial in a prediction, and the scale of variances.

        Args:
            objectives: weight of each objective.
        """
        targets, _ = targets_of(self._lent, objectives)
        found = np.asarray(cho_solve((self._lower, True), targets, check_finite=False))
        return found, max(float(targets @ found) / len(targets), 1e-6)

    def variance(self, inputs: Floats, across: Floats) -> Floats:
        """Return the variance of the prediction at candidates, up to the scale of the scores.

        Args:
            inputs: features of the candidates.
            across: their `covariance`.
        """
        own = 1 + self._hyper.linear * (1 + np.square(inputs[:, self._costs]).sum(axis=1))
        white = solve_triangular(self._lower, across.T, lower=True, check_finite=False)
        return np.asarray(np.maximum(own - np.square(white).sum(axis=0), 0.0), dtype=np.float64)


def thinned(lent: Sequence[Observation]) -> list[Observation]:
    """Return at most `MOST_LENT` trials: of each task the best half, and a sample of the others."""
    sources: dict[str, list[Observation]] = {}
    for each in lent:
        sources.setdefault(each.source, []).append(each)
    most = max(MOST_LENT // max(len(sources), 1), 8)
    kept: list[Observation] = []
    for trials in sources.values():
        if len(trials) > most:
            ranked = sorted(trials, key=lambda each: (-each.values[0], each.number))
            rest = ranked[most // 2 :]
            some = np.linspace(0, len(rest) - 1, most - most // 2).astype(int)
            trials = [*ranked[: most // 2], *(rest[index] for index in some)]  # noqa: PLW2901
        kept += trials
    return sorted(kept, key=lambda each: each.number)


def best_of_each(lent: Sequence[Observation], count: int) -> list[Observation]:
    """Return the best trials of each task by the first objective, the first of all tasks first."""
    sources: dict[str, list[Observation]] = {}
    for each in sorted(lent, key=lambda each: (-each.values[0], each.number)):
        sources.setdefault(each.source, []).append(each)
    return [
        trials[rank] for rank in range(count) for trials in sources.values() if rank < len(trials)
    ]


@dataclass(frozen=True)
class Explained:
    """What the prior mean explains, in the units of the scores.

    Attributes:
        residuals: scores of the own trials without it, NaN without a value.
        at_rows: prior mean at the own trials.
        at_pool: prior mean at the pool.
    """

    residuals: Floats
    at_rows: Floats
    at_pool: Floats


class PriorMean:
    """The prediction of other tasks for the trials and the pool of a block.

    Args:
        tasks: the other tasks.
        pool: features of the proposals.
        rows: features of the own trials.
    """

    def __init__(self, tasks: OtherTasks, pool: Floats, rows: Floats) -> None:
        self._tasks = tasks
        self._pool = tasks.covariance(pool)
        self._rows = tasks.covariance(rows)
        self._variance = tasks.variance(rows, self._rows)

    @property
    def observations(self) -> int:
        """Number of own trials."""
        return len(self._rows)

    def extend(self, pool: Floats) -> None:
        """Add proposals, of shape (proposals, features)."""
        self._pool = np.concatenate([self._pool, self._tasks.covariance(pool)])

    def append(self, row: Floats) -> None:
        """Append an own trial with these features."""
        across = self._tasks.covariance(row[np.newaxis])
        self._rows = np.concatenate([self._rows, across])
        more = self._tasks.variance(row[np.newaxis], across)
        self._variance = np.concatenate([self._variance, more])

    def explain(self, targets: Floats, weights: Sequence[float]) -> Explained:
        """Return what the prior mean explains of the scores of the own trials.

        The own trials are scored among themselves. Started from good candidates, all of them are
        good: the mean and the spread that the prior mean gives them place their scores.

        Args:
            targets: scores of the own trials; NaN without a value.
            weights: of the objectives.
        """
        found, scale = self._tasks.solve(weights)
        at_rows, at_pool = self._rows @ found, self._pool @ found
        known = np.isfinite(targets)
        if not known.any():
            return Explained(targets, at_rows, at_pool)
        mean = float(at_rows[known].mean())
        unexplained = scale * (float(self._variance[known].mean()) + self._tasks.hyper.noise)
        spread = min(1.0, float(np.sqrt(at_rows[known].var() + unexplained)))
        scores = mean + spread * targets
        centred = at_rows[known] - mean
        precision = 1 / SLOPE_ERROR**2
        agreement = centred @ (scores[known] - mean) / RESIDUAL
        found_slope = (precision + agreement) / (precision + centred @ centred / RESIDUAL)
        slope = min(max(float(found_slope), 0.0), LARGEST_SLOPE)
        return Explained(scores - slope * at_rows, slope * at_rows, slope * at_pool)
