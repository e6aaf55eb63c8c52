"""Turns the values of trials into the targets of the surrogate: normal scores of ranks.

Ranks make one surrogate fit accuracies, losses and latencies of any scale and skew: a few networks
that learned nothing would otherwise take all of the variance. They also make the objectives of a
multi-objective search comparable.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri
from scipy.stats import rankdata

from search.loop.sampling.gaussian_process import Floats

_MIXED = 0.05
"""Weight of the sum of all losses in a scalarisation, so that it prefers non-dominated trials."""


def normal_scores(values: Floats) -> Floats:
    """Return the normal scores of the ranks of values; the largest has the largest score."""
    return np.asarray(ndtri((rankdata(values) - 0.5) / max(len(values), 1)), dtype=np.float64)


def standardised(values: Floats) -> Floats:
    """Return values with the mean 0 and the standard deviation 1."""
    return np.asarray((values - values.mean()) / (values.std() or 1.0), dtype=np.float64)


def scalarise(values: Floats, weights: Sequence[float]) -> Floats:
    """Return one value per trial, to be maximised: an augmented Chebyshev scalarisation.

    After ParEGO (Knowles 2006). Losses are ranks between 0 and 1, so scales do not matter.

    Args:
        values: of shape (trials, objectives), all to be maximised.
        weights: one per objective, with the sum 1.
    """
    if values.shape[1] == 1:
        return values[:, 0]
    ranks = np.stack([rankdata(-column) for column in values.T], axis=1) / len(values)
    losses = ranks * np.asarray(weights)
    return np.asarray(-(losses.max(axis=1) + _MIXED * losses.sum(axis=1)), dtype=np.float64)


def draw_weights(uniform: Sequence[float]) -> list[float]:
    """Return weights that are uniform on the simplex.

    Args:
        uniform: one uniform number in (0, 1) per objective.
    """
    parts = [-float(np.log(max(each, 1e-12))) for each in uniform]
    return [part / sum(parts) for part in parts]
