"""Predicts the final value of a stopped trial from the curves of the finished ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

Curve = Mapping[int, float]
"""Value by epoch."""

NEEDED = 4
"""Finished trials from which a slope is estimated; fewer give a mean gain."""


@dataclass(frozen=True)
class Forecast:
    """A predicted final value.

    Attributes:
        value: the mean.
        error: standard deviation of the error of such predictions on finished trials; NaN where
            there were too few to tell.
    """

    value: float
    error: float


class _Line(NamedTuple):
    """Final values by the value at an epoch, with the residual and the lowest value at it."""

    slope: float
    offset: float
    error: float
    lowest: float


class Forecaster:
    """Predicts final values by a line through (value at the same epoch, final value).

    One line per epoch assumes nothing about the shape of curves, and its residuals are the error of
    the prediction. ASHA lets the better trials finish, so the line is fitted on better ones than
    it predicts; its slope is therefore kept at 0 or more. Below the values of all finished trials,
    a trial loses at least as much at the end as it is behind: finished trials that all end alike
    tell nothing of one that starts much worse.

    Args:
        finished: curve and final value of each finished trial.
    """

    def __init__(self, finished: Sequence[tuple[Curve, float]]) -> None:
        self._finished = finished
        self._lines: dict[int, _Line] = {}

    def predict(self, curve: Curve) -> Forecast | None:
        """Return the predicted final value; None if the trial has reported nothing."""
        if not curve:
            return None
        epoch = max(curve)
        if epoch not in self._lines:
            self._lines[epoch] = self._fit(epoch)
        line, value = self._lines[epoch], curve[epoch]
        behind = max(line.lowest - value, 0.0)
        final = line.slope * (value + behind) + line.offset - max(line.slope, 1.0) * behind
        return Forecast(final, line.error)

    def _fit(self, epoch: int) -> _Line:
        """Return the line of final values on those at an epoch."""
        pairs = [(curve[epoch], final) for curve, final in self._finished if epoch in curve]
        if not pairs:
            return _Line(1.0, 0.0, float("nan"), float("-inf"))
        early, final = (np.array(each, dtype=np.float64) for each in zip(*pairs, strict=True))
        if len(pairs) < NEEDED or np.ptp(early) == 0:
            error = float(np.std(final - early, ddof=1)) if len(pairs) > 1 else float("nan")
            return _Line(1.0, float(np.mean(final - early)), error, float("-inf"))
        centred = early - early.mean()
        slope = max(float(centred @ (final - final.mean())) / float(centred @ centred), 0.0)
        offset = float(final.mean() - slope * early.mean())
        residual = final - slope * early - offset
        error = float(np.sqrt(residual @ residual / max(len(pairs) - 2, 1)))
        return _Line(slope, offset, error, float(early.min()))
