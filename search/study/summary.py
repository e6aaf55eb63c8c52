"""What a search has come to, derived from its study: counts, leaderboard, savings.

Everything here is a function of the trials, so a running search, a finished one and a comparison
of two read alike.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.study.records import TrialRecord


@dataclass(frozen=True)
class Savings:
    """What pruning before training saved.

    Attributes:
        seconds: predicted training time of the rejected candidates, by reason. Predicted from the
            multiply-accumulates with the seconds an epoch took in the trials that were trained
            (straight line, least squares), times the epochs these got on average. Duplicates do
            not count: no search would pay for all of them.
        trained_seconds: measured training time of the trials, those included that are set aside.

    Both are seconds of the device, the share counted that a trial has of it.
    """

    seconds: dict[str, float]
    trained_seconds: float

    @property
    def total(self) -> float:
        """Predicted device seconds saved."""
        return sum(self.seconds.values())


@dataclass(frozen=True)
class Summary:
    """What a search has come to.

    Attributes:
        complete: trials trained for all epochs.
        pruned: trials stopped early.
        failed: trials that failed.
        interrupted: trials that were ended from outside; they go on when the search does.
        running: trials in training.
        rejections: candidates rejected, by reason.
        leaderboard: complete and pruned trials, best validation accuracy first, complete first.
        front: trials that no other one beats in all objectives, best validation accuracy first;
            empty where accuracy is the only objective.
        savings: what the rejections saved.
    """

    complete: int
    pruned: int
    failed: int
    interrupted: int
    running: int
    rejections: dict[str, int]
    leaderboard: list[TrialRecord]
    front: list[TrialRecord]
    savings: Savings

    @property
    def trained(self) -> int:
        """Trials that have ended training, whichever way."""
        return self.complete + self.pruned + self.failed

    @property
    def rejected(self) -> int:
        """Candidates rejected."""
        return sum(self.rejections.values())

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best validation accuracy."""
        if self.leaderboard and self.leaderboard[0].outcome is TrialState.COMPLETE:
            return self.leaderboard[0]
        return None


def summarise(trials: Sequence[FrozenTrial]) -> Summary:
    """Sum up the trials of a study."""
    records = [record for record in map(TrialRecord.of, trials) if not record.is_inherited]
    trained = [record for record in records if record.is_trained]
    outcomes = Counter(record.outcome for record in trained)
    ended = [r for r in trained if r.outcome in (TrialState.COMPLETE, TrialState.PRUNED)]
    ended.sort(key=lambda r: (r.outcome is not TrialState.COMPLETE, -(r.accuracy or 0), r.number))
    return Summary(
        complete=outcomes[TrialState.COMPLETE],
        pruned=outcomes[TrialState.PRUNED],
        failed=outcomes[TrialState.FAIL],
        interrupted=outcomes[TrialState.WAITING],
        running=outcomes[TrialState.RUNNING],
        rejections=dict(Counter(r.rejected_for for r in records if r.is_rejected).most_common()),
        leaderboard=ended,
        front=pareto_front(ended),
        savings=estimate_savings(records),
    )


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that no other one beats in all objectives, best accuracy first.

    One that was stopped early counts with what it had reached, which more training seldom lowers.
    One that stopped itself does not count, however cheap: it has learnt nothing.

    Args:
        records: complete and pruned trials.
    """
    several = [record for record in records if len(record.values) > 1 and not record.stopped]
    # In this order a trial can only be beaten by one before it.
    several.sort(key=lambda r: (-r.values[0], r.values[1:], r.number))
    front: list[TrialRecord] = []
    for record in several:
        beaten = any(
            other.values != record.values
            and all(
                ours <= its for ours, its in zip(other.values[1:], record.values[1:], strict=True)
            )
            for other in front
        )
        if not beaten:
            front.append(record)
    return front


def estimate_savings(records: Sequence[TrialRecord]) -> Savings:
    """Predict what the rejected candidates would have cost."""
    trained = sum(record.device_seconds for record in records if record.is_trained)
    timed = [record for record in records if record.epochs and record.macs is not None]
    if not timed:
        return Savings({}, trained)
    epochs = np.array([record.epochs for record in timed])
    macs = np.array([record.macs for record in timed], dtype=float)
    slope, base = _fit_line(macs, np.array([record.device_seconds for record in timed]) / epochs)
    saved: dict[str, float] = {}
    for record in records:
        # Neither a collapsed nor an invalid network has costs: it could not be trained at all.
        if not record.is_rejected or record.duplicate_of is not None or record.macs is None:
            continue
        cost = (base + slope * record.macs) * float(epochs.mean())
        saved[record.rejected_for] = saved.get(record.rejected_for, 0.0) + cost
    return Savings(saved, trained)


def _fit_line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept, neither below 0, that fit y over x by least squares."""
    from scipy.optimize import nnls  # noqa: PLC0415 - imports slowly

    if np.ptp(x) == 0:
        return 0.0, float(y.mean())  # Any slope fits.
    scale = x.max()  # Columns of like size keep the problem well-conditioned.
    (slope, base), _ = nnls(np.column_stack([x / scale, np.ones_like(x)]), y)
    return float(slope / scale), float(base)


@dataclass(frozen=True)
class Overlap:
    """Candidates that one search rejected and another one trained.

    Attributes:
        trials: the other search's trials of these candidates, best first.
        others_best: best validation accuracy among its remaining trials, None if there are none.
    """

    trials: list[TrialRecord]
    others_best: float | None


def trained_though_rejected(
    rejecting: Sequence[FrozenTrial], training: Sequence[FrozenTrial]
) -> Overlap:
    """Find the candidates that ``rejecting`` screened out and ``training`` trained."""
    digests = {
        record.digest
        for record in map(TrialRecord.of, rejecting)
        if record.is_rejected and record.rejected_for != "duplicate"
    } - {""}
    board = summarise(training).leaderboard
    found = [record for record in board if record.digest in digests]
    others = [record.accuracy or 0.0 for record in board if record.digest not in digests]
    return Overlap(found, max(others, default=None))
