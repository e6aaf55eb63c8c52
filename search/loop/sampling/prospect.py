"""Estimates how much the best accuracy improves in the next trials."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy.special import ndtr

from search.loop.sampling.gaussian_process import Floats

FEWEST = 10
"""Finished trials of this search that an estimate needs."""
_TOP = 4
"""The best 1/n of the trials show how scores translate to accuracies."""
_LEAST_TOP = 5
_STEPS = 128


def expected_gain(mean: Floats, deviation: Floats, best: float, trials: int) -> float:
    """Return by how much the best of some candidates is expected to exceed the best trial.

    The most promising candidates count as independent. This overestimates what they bring at once,
    and makes up for the fact that the search learns between them.

    Args:
        mean: predicted for each candidate.
        deviation: of each prediction.
        best: predicted for the best trial.
        trials: number of candidates that are tried.
    """
    gain = (mean - best) / deviation
    density = np.exp(-0.5 * np.square(gain)) / np.sqrt(2 * np.pi)
    improvement = deviation * (gain * ndtr(gain) + density)
    chosen = np.argsort(-improvement, kind="stable")[:trials]
    if not len(chosen):
        return 0.0
    mean, deviation = mean[chosen], deviation[chosen]
    highest = float((mean + 5 * deviation).max())
    if highest <= best:
        return 0.0
    levels = np.linspace(best, highest, _STEPS)
    below = np.prod(ndtr((levels[:, np.newaxis] - mean) / deviation), axis=1)
    return float(np.sum((2 - below[1:] - below[:-1]) / 2) * (levels[1] - levels[0]))


def accuracy_per_score(accuracies: Sequence[float], scores: Floats) -> float:
    """Return by how much accuracy grows per unit of score among the best trials.

    Few validation images give many trials the same accuracy. Where all of the best have it, the
    next ones are added until accuracies differ, unless the accuracy is 1.

    Args:
        accuracies: of finished trials.
        scores: of the same trials, see `search.loop.sampling.targets.targets_of`.
    """
    known = np.array(accuracies, dtype=np.float64)
    ranked = np.argsort(-known, kind="stable")
    size, best = max(_LEAST_TOP, len(known) // _TOP), known[ranked[0]]
    if best != 1:
        size = max(size, int(np.count_nonzero(known == best)) + 1)
    top = ranked[:size]
    centred = scores[top] - scores[top].mean()
    squares = float(centred @ centred)
    return max(float(centred @ known[top]) / squares, 0.0) if squares else 0.0
