"""Predicts the seconds of an epoch of a network from its costs and the epochs of other networks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from search.study.records import Workload

_SLOPES = np.array([0.5, 0.2, 0.1])
"""Powers of multiply-accumulates, activations and layers per step that are assumed at first."""
_PRIOR = 4.0
"""Weight of the assumption, in networks that differ by a factor of e in one cost."""


class EpochSeconds:
    """A power law over the costs of networks, fitted to their epochs.

    Few networks leave the exponents near the assumed ones, so that it extrapolates with care.

    Args:
        workloads: of trained networks, at least one.
        seconds: mean time of an epoch of each.
        weights: of each, in networks.
    """

    def __init__(
        self, workloads: Sequence[Workload], seconds: Sequence[float], weights: Sequence[float]
    ) -> None:
        # Studies of older versions know only multiply-accumulates.
        self._costs = len(_SLOPES) if all(each.is_complete for each in workloads) else 1
        slopes = _SLOPES[: self._costs]
        inputs = np.array([self._logarithms(each) for each in workloads])
        values = np.log(np.maximum(seconds, 1e-6))
        weight = np.maximum(weights, 1e-3)
        self._centre: NDArray[np.float64] = np.average(inputs, axis=0, weights=weight)
        self._level = float(np.average(values, weights=weight))
        centred = inputs - self._centre
        weighted = centred.T * weight
        rest = values - self._level - centred @ slopes
        gram = weighted @ centred + _PRIOR * np.eye(self._costs)
        self._slopes: NDArray[np.float64] = slopes + np.linalg.solve(gram, weighted @ rest)
        # The mean of a logarithm is below the logarithm of the mean.
        errors = values - self._level - centred @ self._slopes
        self._level += float(np.average(errors**2, weights=weight)) / 2

    def predict(self, workload: Workload) -> float:
        """Return the predicted seconds of an epoch."""
        offset = (np.array(self._logarithms(workload)) - self._centre) @ self._slopes
        return math.exp(self._level + float(offset))

    def _logarithms(self, workload: Workload) -> list[float]:
        steps = (workload.layers or 1) / (workload.batch_size or 1)
        costs = (workload.macs, workload.activation_bytes or 1, steps)
        return [math.log(max(each, 1e-9)) for each in costs[: self._costs]]
