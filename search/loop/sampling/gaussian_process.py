"""A Gaussian process that predicts at fixed queries and grows observation by observation.

Covariance of the noiseless function, up to a common scale::

    exp(-|x - x'| / length) + linear * (1 + z z')

|x - x'| is the mean absolute difference of all features (an L1 distance), and z are the logarithms
of parameters and multiply-accumulates. The second term is a constant and a linear mean under a
Gaussian prior: it extrapolates to costs that no trial had. In the L1 distance, each feature
contributes on its own, so many irrelevant features harm less than in the Euclidean distance, and
the function may have kinks.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cholesky, solve_triangular
from scipy.linalg.lapack import dpotrf, dtrtrs
from scipy.spatial.distance import cdist

Floats: TypeAlias = NDArray[np.float64]

LENGTHS = (0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
NOISES = (0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
LINEARS = (0.1, 1.0)
"""Candidates of the hyperparameters. A coarse grid is enough: predictions depend little on them."""
_FIT_AT_MOST = 200
"""Observations from which hyperparameters are chosen; more cost time and change little."""
_JITTER = 1e-8


@dataclass(frozen=True)
class Hyperparameters:
    """Hyperparameters of the covariance.

    Attributes:
        length: length scale, in mean absolute differences of standardised features.
        noise: variance of the noise, relative to that of the smooth part.
        linear: weight of the linear part.
    """

    length: float = 1.0
    noise: float = 0.1
    linear: float = 1.0


def covariance(first: Floats, second: Floats, hyper: Hyperparameters, costs: slice) -> Floats:
    """Return the covariance between two sets of inputs, of shape (first, second).

    Args:
        first: inputs, of shape (first, features).
        second: inputs, of shape (second, features).
        hyper: see `Hyperparameters`.
        costs: the features of the linear part.
    """
    found = cdist(first, second, "cityblock")
    found *= -1 / (hyper.length * first.shape[1])
    np.exp(found, out=found)
    found += hyper.linear * (1 + first[:, costs] @ second[:, costs].T)
    return np.asarray(found, dtype=np.float64)


def choose(
    inputs: Floats,
    targets: Floats,
    extra: Floats,
    costs: slice,
    noises: Sequence[float] = NOISES,
) -> Hyperparameters:
    """Return the hyperparameters of the largest marginal likelihood, with the scale fitted.

    Args:
        inputs: of shape (observations, features).
        targets: one per observation.
        extra: variance that each observation has beside the common noise.
        costs: the features of the linear part; an empty slice leaves a constant.
        noises: the levels to choose from.
    """
    if len(targets) < 4:
        return Hyperparameters()
    if len(targets) > _FIT_AT_MOST:
        some = np.linspace(0, len(targets) - 1, _FIT_AT_MOST).astype(int)
        inputs, targets, extra = inputs[some], targets[some], extra[some]
    distances = cdist(inputs, inputs, "cityblock") / inputs.shape[1]
    straight = 1 + inputs[:, costs] @ inputs[:, costs].T
    places = np.arange(len(targets))

    # Hundreds of small matrices: the functions of SciPy take longer than those of LAPACK.
    def likelihood(smooth: Floats, level: float) -> float:
        matrix = smooth.copy(order="F")
        matrix[places, places] += level + extra + _JITTER
        lower, failed = dpotrf(matrix, lower=1, clean=0, overwrite_a=1)
        if failed:
            return -np.inf
        white, _ = dtrtrs(lower, targets, lower=1)
        spread = np.log(white @ white / len(targets) + 1e-12)
        return float(-0.5 * len(targets) * spread - np.log(lower.diagonal()).sum())

    best, best_score = Hyperparameters(), -np.inf
    for length in LENGTHS:
        near = np.exp(-distances / length)
        for linear in LINEARS:
            smooth = np.asfortranarray(near + linear * straight)
            for level in noises:
                score = likelihood(smooth, level)
                if score > best_score:
                    best, best_score = Hyperparameters(length, level, linear), score
    return best


class Prediction(NamedTuple):
    """What a Gaussian process says of the noiseless function.

    Attributes:
        mean: at each query.
        deviation: standard deviation at each query.
        fitted: mean at each observation.
    """

    mean: Floats
    deviation: Floats
    fitted: Floats


class GaussianProcess:
    """A Gaussian process on fixed queries, to which observations are appended.

    Appending costs the square of the number of observations, not the cube. An observation without a
    target (a running trial) counts as if it had the value that those before it predict: it lowers
    the uncertainty around it and does not move the mean (a kriging believer).

    Args:
        hyper: hyperparameters.
        inputs: first observations, of shape (observations, features).
        extra: variance that each has beside the common noise.
        queries: inputs at which is predicted, of shape (queries, features).
        costs: the features of the linear part.
    """

    def __init__(
        self, hyper: Hyperparameters, inputs: Floats, extra: Floats, queries: Floats, costs: slice
    ) -> None:
        self._hyper, self._costs = hyper, costs
        self._inputs, self._extra = inputs, extra
        matrix = covariance(inputs, inputs, hyper, costs)
        matrix[np.diag_indices_from(matrix)] += hyper.noise + extra + _JITTER
        self._lower = cholesky(matrix, lower=True, check_finite=False)
        """L of the covariance of the observations, L L'."""
        self._queries, (self._projected, self._variance) = queries, self._project(queries)

    def _project(self, queries: Floats) -> tuple[Floats, Floats]:
        """Return L^-1 times the covariance of observations and queries, and the variances."""
        across = covariance(self._inputs, queries, self._hyper, self._costs)
        found = solve_triangular(self._lower, across, lower=True, check_finite=False)
        return found, self._alone(queries) - np.square(found).sum(axis=0)

    def _alone(self, queries: Floats) -> Floats:
        """Return the variance at queries without observations."""
        squares = np.square(queries[:, self._costs]).sum(axis=1)
        return np.asarray(1 + self._hyper.linear * (1 + squares), dtype=np.float64)

    def extend(self, queries: Floats) -> None:
        """Add queries, of shape (queries, features)."""
        projected, variance = self._project(queries)
        self._queries = np.concatenate([self._queries, queries])
        self._projected = np.concatenate([self._projected, projected], axis=1)
        self._variance = np.concatenate([self._variance, variance])

    @property
    def prior_deviation(self) -> Floats:
        """Relative deviation at each query if there were no observations."""
        return np.sqrt(self._alone(self._queries))

    @property
    def observations(self) -> int:
        """Number of observations."""
        return len(self._lower)

    def append(self, row: Floats, extra: float = 0.0) -> None:
        """Append an observation.

        Args:
            row: its features.
            extra: variance that it has beside the common noise.
        """
        number, hyper = self.observations, self._hyper
        row = row[np.newaxis]
        across = covariance(self._inputs, row, hyper, self._costs)[:, 0]
        edge = solve_triangular(self._lower, across, lower=True, check_finite=False)
        own = covariance(row, row, hyper, self._costs)[0, 0] + hyper.noise + extra + _JITTER
        corner = np.sqrt(max(own - edge @ edge, _JITTER))
        lower = np.zeros((number + 1, number + 1))
        lower[:number, :number] = self._lower
        lower[number, :number], lower[number, number] = edge, corner
        new = covariance(row, self._queries, hyper, self._costs)[0]
        new = (new - edge @ self._projected) / corner
        self._lower = lower
        self._inputs = np.concatenate([self._inputs, row])
        self._extra = np.append(self._extra, extra)
        self._projected = np.concatenate([self._projected, new[np.newaxis]])
        self._variance = self._variance - np.square(new)

    def truncate(self, number: int) -> None:
        """Drop the observations from a number on."""
        self._variance = self._variance + np.square(self._projected[number:]).sum(axis=0)
        self._lower = self._lower[:number, :number]
        self._inputs, self._extra = self._inputs[:number], self._extra[:number]
        self._projected = self._projected[:number]

    def predict(self, targets: Floats) -> Prediction:
        """Predict the noiseless function at the queries and at the observations.

        Args:
            targets: one per observation; NaN where there is none yet.
        """
        white = np.zeros(self.observations)
        known = np.isfinite(targets)
        if known.all():
            white = solve_triangular(self._lower, targets, lower=True, check_finite=False)
        else:
            for index in range(self.observations):
                if known[index]:
                    before = self._lower[index, :index] @ white[:index]
                    white[index] = (targets[index] - before) / self._lower[index, index]
        scale = max(float(white @ white) / max(int(known.sum()), 1), 1e-6)
        weights = solve_triangular(self._lower, white, lower=True, trans=1, check_finite=False)
        return Prediction(
            mean=white @ self._projected,
            deviation=np.sqrt(scale * np.maximum(self._variance, 1e-9)),
            fitted=self._lower @ white - (self._hyper.noise + self._extra) * weights,
        )
