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

from search.loop.sampling.curves import Forecaster
from search.loop.sampling.gaussian_process import Floats
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.options import DEFAULTS, SamplerOptions

UNKNOWN_EXTRA = 1.0
"""Variance of a stopped trial beside the noise where the error of its prediction is unknown, in
units of the smooth part."""
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


def targets_of(
    observations: Sequence[Observation],
    weights: Sequence[float],
    options: SamplerOptions = DEFAULTS,
) -> tuple[Floats, Floats]:
    """Return the target of each trial, NaN without a value, and the variance beside the noise.

    The trials of each task are scored among themselves: values of another task shift, but their
    order tells something.

    Args:
        observations: trials, by number.
        weights: of the objectives.
        options: of the sampler.
    """
    targets = np.full(len(observations), np.nan)
    extra = np.zeros(len(observations))
    sources: dict[str, list[int]] = {}
    for index, each in enumerate(observations):
        if each.standing in (Standing.FINISHED, Standing.STOPPED, Standing.INFEASIBLE):
            sources.setdefault(each.source, []).append(index)
    for members in sources.values():
        values, errors = _final_values([observations[index] for index in members], options.curves)
        scores = normal_scores if options.ranks else standardised
        targets[members] = scores(scalarise(values, weights))
        spread = float(np.std(values[:, 0])) or 1.0
        extra[members] = np.nan_to_num(np.square(errors / spread), nan=UNKNOWN_EXTRA)
    return targets, extra


def _final_values(observations: Sequence[Observation], curves: bool) -> tuple[Floats, Floats]:
    """Return the values of ended trials and their errors.

    Those of stopped ones are predicted. Infeasible ones are worse than all others, in each
    objective.
    """
    values = np.array([each.values for each in observations], dtype=np.float64)
    errors = np.zeros(len(observations))
    stopped = [i for i, each in enumerate(observations) if each.standing is Standing.STOPPED]
    if stopped and curves:
        finished = [each for each in observations if each.standing is Standing.FINISHED]
        forecaster = Forecaster([(each.curve, each.values[0]) for each in finished])
        for index in stopped:
            forecast = forecaster.predict(observations[index].curve)
            if forecast is not None:
                values[index, 0] = forecast.value
            errors[index] = forecast.error if forecast is not None else np.nan
    infeasible = np.array([each.standing is Standing.INFEASIBLE for each in observations])
    if infeasible.any():
        feasible = values[~infeasible]
        values[infeasible] = 0.0
        if len(feasible):
            spread = feasible.std(axis=0)
            values[infeasible] = feasible.min(axis=0) - np.where(spread > 0, spread, 1.0)
    return values, errors
