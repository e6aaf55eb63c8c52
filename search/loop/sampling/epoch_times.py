"""Predicts how long a candidate trains, for a search whose budget is time or money."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from search.loop.sampling.gaussian_process import Floats
from search.loop.sampling.history import Observation

FEWEST = 4
"""Timed trials that a prediction needs."""
_PRIOR = 1.0
"""Weight of the prior, which knows no difference between candidates, in trials."""


def relative_seconds(
    timed: Sequence[Observation], inputs: Floats, candidates: Floats
) -> Floats | None:
    """Return the predicted time of an epoch of each candidate, relative to their median.

    A line through the logarithms of parameters and multiply-accumulates predicts the logarithm of
    the time. With few trials it is nearly flat.

    Args:
        timed: trials with a known time of an epoch.
        inputs: their standardised logarithms of costs, of shape (trials, costs).
        candidates: those of the candidates.

    Returns:
        One positive number per candidate; None if too few trials are timed.
    """
    if len(timed) < FEWEST:
        return None
    seconds = np.log([each.epoch_seconds for each in timed])
    centre = inputs.mean(axis=0)
    centred = inputs - centre
    gram = centred.T @ centred + _PRIOR * np.eye(inputs.shape[1])
    slopes = np.linalg.solve(gram, centred.T @ (seconds - seconds.mean()))
    found = (candidates - centre) @ slopes
    return np.asarray(np.exp(found - np.median(found)), dtype=np.float64)
