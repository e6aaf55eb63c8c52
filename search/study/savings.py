"""Estimates the device time that rejected candidates would have taken.

The seconds of an epoch are predicted by a sum with coefficients of 0 or more: a constant, layers
per step (layers / batch size), multiply-accumulates, and the bytes of activations. The fit has the
least relative squared error. `benchmarks/saved_time.py` compares this form with a line over
multiply-accumulates, on the tables of plain networks.

An estimate is an interval of 90 %, from two sources:

- **Seconds per epoch.** The spread of measured over predicted time, where each trained candidate is
  predicted from all others (from 100 candidates on, by 100-fold cross-validation).
- **Epochs.** A rejected candidate counts with the mean epochs of the candidates trained by then,
  including those stopped early: it is assumed to train as long as they did.

No estimate extrapolates. A predictor above the range of the trained candidates counts as its
largest trained value, and the interval has no upper end. One below the range counts as 0 for the
lower end and as its smallest trained value for the upper end.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from search.formatting import duration
from search.study.records import TrialRecord, Workload

FEWEST = 8
"""Trained candidates with a known time that an estimate needs."""
CONFIDENCE = 0.9
_GROWTH = 25
"""The prediction is fitted again for one further candidate per so many in the last fit."""
_FOLDS = 100
"""Most parts of the trained candidates that are predicted from all others."""
_WIDEST = math.log(1000)


@dataclass(frozen=True)
class SavedTime:
    """An interval of device seconds; one second on half a device counts as 0.5.

    Attributes:
        low: lower end.
        high: upper end; None if the candidate exceeds all trained candidates in some predictor.
    """

    low: float
    high: float | None

    def __add__(self, other: SavedTime) -> SavedTime:
        # Errors of one model go the same way, so the ends add up.
        open_ended = self.high is None or other.high is None
        high = None if open_ended else (self.high or 0.0) + (other.high or 0.0)
        return SavedTime(self.low + other.low, high)

    @property
    def shown(self) -> str:
        """The interval in words: ``4s to 9s``, or ``at least 4s``."""
        if self.high is None:
            return f"at least {duration(self.low)}"
        low, high = duration(self.low), duration(self.high)
        return low if low == high else f"{low} to {high}"


NO_TIME = SavedTime(0.0, 0.0)


@dataclass(frozen=True)
class Savings:
    """Device time that rejections saved, and that training took.

    Attributes:
        by_reason: estimated for the rejected candidates, by reason. Duplicates do not count: no
            search would train them all.
        trained_seconds: measured for the trials, including interrupted ones.
        waiting: rejected candidates without an estimate: too few candidates are trained.
    """

    by_reason: dict[str, SavedTime]
    trained_seconds: float
    waiting: int = 0

    @property
    def total(self) -> SavedTime:
        """Saved by all rejections."""
        return sum(self.by_reason.values(), NO_TIME)


class EpochTimes:
    """Predicts device time from trained candidates.

    Args:
        trained: candidates with a known time (see `is_timed`), `FEWEST` or more.
    """

    def __init__(self, trained: Sequence[TrialRecord]) -> None:
        from scipy.special import stdtrit  # noqa: PLC0415 - imports slowly

        workloads = [record.workload for record in trained if record.workload is not None]
        # Trials of older versions have only their multiply-accumulates.
        self._is_complete = all(workload.is_complete for workload in workloads)
        predictors = np.array([self._predictors(workload) for workload in workloads])
        epochs = np.array([record.epochs for record in trained], dtype=float)
        seconds = np.array([record.device_seconds for record in trained]) / epochs
        coefficients = _fit(predictors, seconds)
        quantile = float(stdtrit(len(trained) - 1, (1 + CONFIDENCE) / 2))

        self._coefficients: list[float] = coefficients.tolist()
        self._smallest: list[float] = predictors.min(axis=0).tolist()
        self._largest: list[float] = predictors.max(axis=0).tolist()
        self._most_seconds = float((predictors @ coefficients).max())
        ratios = _log_ratios(predictors, seconds)
        spread = quantile * float(ratios.std(ddof=1)) * math.sqrt(1 + 1 / len(trained))
        self._least_ratio = math.exp(float(ratios.mean()) - spread)
        self._greatest_ratio = math.exp(float(ratios.mean()) + spread)
        spread = quantile * float(epochs.std(ddof=1)) / math.sqrt(len(trained))
        self._fewest_epochs = max(float(epochs.min()), float(epochs.mean()) - spread)
        self._most_epochs = min(float(epochs.max()), float(epochs.mean()) + spread)

    def _predictors(self, workload: Workload) -> list[float]:
        if not self._is_complete:
            return [1.0, float(workload.macs)]
        return [
            1.0,
            float(workload.macs),
            float(workload.activation_bytes or 0),
            (workload.layers or 0) / (workload.batch_size or 1),
        ]

    def estimate(self, rejected: Workload) -> SavedTime:
        """Estimate the device time of a rejected candidate."""
        low = high = 0.0
        is_beyond = self._is_complete and not rejected.is_complete
        for value, coefficient, smallest, largest in zip(
            self._predictors(rejected),
            self._coefficients,
            self._smallest,
            self._largest,
            strict=True,
        ):
            is_beyond |= value > largest
            if value >= smallest:
                low += coefficient * min(value, largest)
            high += coefficient * max(value, smallest)
        is_beyond |= high > self._most_seconds
        low = min(low, self._most_seconds) * self._least_ratio * self._fewest_epochs
        if is_beyond:
            return SavedTime(low, None)
        return SavedTime(low, high * self._greatest_ratio * self._most_epochs)


class RejectionTimes:
    """Estimates the time of each candidate when it is rejected, from the trials ended by then."""

    def __init__(self) -> None:
        self._trained: list[TrialRecord] = []
        self._times: EpochTimes | None = None
        self._fitted = 0

    def ended(self, record: TrialRecord) -> None:
        """Take note of a trial that ended."""
        if is_timed(record):
            self._trained.append(record)

    def estimate(self, rejected: Workload) -> SavedTime | None:
        """Estimate the time of a rejected candidate; None before enough trials have ended."""
        if len(self._trained) < FEWEST:
            return None
        # A search of thousands of trials would spend more time on fits than on draws.
        if self._times is None or len(self._trained) - self._fitted > self._fitted // _GROWTH:
            self._times = EpochTimes(self._trained)
            self._fitted = len(self._trained)
        return self._times.estimate(rejected)


def is_timed(record: TrialRecord) -> bool:
    """Tell whether a trial tells how long its candidate trains."""
    has_time = record.epochs > 0 and record.device_seconds > 0 and record.workload is not None
    return record.is_trained and record.outcome.is_finished() and has_time


def estimate_savings(records: Sequence[TrialRecord]) -> Savings:
    """Return the device time that the rejected candidates would have taken.

    An estimate never changes. It is stored with the rejection. Candidates rejected before enough
    trials had ended, or by an older version, are estimated from the first trials that ended.

    Args:
        records: of all trials of a study.
    """
    first = _first_times(records)
    found: dict[str, SavedTime] = {}
    waiting = 0
    for record in records:
        # A collapsed or invalid network has no workload, for it cannot be trained.
        if not record.is_rejected or record.duplicate_of is not None or record.workload is None:
            continue
        if record.saved_low is not None:
            saved = SavedTime(record.saved_low, record.saved_high)
        elif first is not None:
            saved = first.estimate(record.workload)
        else:
            waiting += 1
            continue
        found[record.rejected_for] = found.get(record.rejected_for, NO_TIME) + saved
    trained = sum(record.device_seconds for record in records if record.is_trained)
    return Savings(found, trained, waiting)


def _first_times(records: Iterable[TrialRecord]) -> EpochTimes | None:
    """Return the prediction from the first trials that ended; None before enough have ended."""
    timed = sorted(filter(is_timed, records), key=lambda record: (record.ended_at, record.number))
    return EpochTimes(timed[:FEWEST]) if len(timed) >= FEWEST else None


def _fit(predictors: NDArray[np.float64], seconds: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return coefficients of 0 or more with the least relative squared error."""
    from scipy.optimize import nnls  # noqa: PLC0415 - imports slowly

    # Columns of like size keep the problem well-conditioned.
    scale = np.maximum(predictors.max(axis=0), 1e-300)
    found, _ = nnls(predictors / scale / seconds[:, None], np.ones_like(seconds))
    result: NDArray[np.float64] = found / scale
    return result


def _log_ratios(
    predictors: NDArray[np.float64], seconds: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return log(measured / predicted), where each is predicted from the other folds."""
    ratios = np.empty_like(seconds)
    fold = np.arange(len(seconds)) % _FOLDS
    for left_out in range(min(len(seconds), _FOLDS)):
        inside = fold == left_out
        predicted = predictors[inside] @ _fit(predictors[~inside], seconds[~inside])
        ratios[inside] = np.log(seconds[inside]) - np.log(np.maximum(predicted, 1e-300))
    clipped: NDArray[np.float64] = ratios.clip(-_WIDEST, _WIDEST)
    return clipped
