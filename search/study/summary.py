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

from search.study.records import INHERITED, accuracy, is_rejected, is_trained, outcome


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
    leaderboard: list[FrozenTrial]
    front: list[FrozenTrial]
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
    def best(self) -> FrozenTrial | None:
        """The complete trial with the best validation accuracy."""
        if self.leaderboard and outcome(self.leaderboard[0]) is TrialState.COMPLETE:
            return self.leaderboard[0]
        return None


def summarise(trials: Sequence[FrozenTrial]) -> Summary:
    """Sum up the trials of a study."""
    trials = [trial for trial in trials if INHERITED not in trial.user_attrs]
    trained = [trial for trial in trials if is_trained(trial)]
    states = Counter(map(outcome, trained))
    ended = [t for t in trained if outcome(t) in (TrialState.COMPLETE, TrialState.PRUNED)]
    ended.sort(key=lambda t: (outcome(t) is not TrialState.COMPLETE, -(accuracy(t) or 0), t.number))
    return Summary(
        complete=states[TrialState.COMPLETE],
        pruned=states[TrialState.PRUNED],
        failed=states[TrialState.FAIL],
        interrupted=states[TrialState.WAITING],
        running=states[TrialState.RUNNING],
        rejections=dict(
            Counter(t.user_attrs["rejected"] for t in trials if is_rejected(t)).most_common()
        ),
        leaderboard=ended,
        front=pareto_front(ended),
        savings=estimate_savings(trials),
    )


def pareto_front(trials: Sequence[FrozenTrial]) -> list[FrozenTrial]:
    """Return the trials that no other one beats in all objectives, best accuracy first.

    One that was stopped early counts with what it had reached, which more training seldom lowers.
    One that gave itself up does not count, however cheap: it has learnt nothing.

    Args:
        trials: complete and pruned ones.
    """
    several = [
        (t, t.values)
        for t in trials
        if t.values is not None and len(t.values) > 1 and "stopped" not in t.user_attrs
    ]
    # In this order a trial can only be beaten by one before it.
    several.sort(key=lambda each: (-each[1][0], each[1][1:], each[0].number))
    front: list[tuple[FrozenTrial, list[float]]] = []
    for trial, values in several:
        beaten = any(
            other != values
            and all(mine <= its for mine, its in zip(other[1:], values[1:], strict=True))
            for _, other in front
        )
        if not beaten:
            front.append((trial, values))
    return [trial for trial, _ in front]


def device_seconds(trial: FrozenTrial) -> float:
    """Return how long a trial has occupied a device, the share counted that it had of it."""
    attributes = trial.user_attrs
    seconds: float = attributes.get("seconds", 0.0) * attributes.get("share", 1.0)
    return seconds


def estimate_savings(trials: Sequence[FrozenTrial]) -> Savings:
    """Predict what the rejected candidates would have cost."""
    trained = sum(device_seconds(t) for t in trials if is_trained(t))
    timed = [t for t in trials if t.user_attrs.get("epochs", 0) > 0 and "macs" in t.user_attrs]
    if not timed:
        return Savings({}, trained)
    macs = np.array([t.user_attrs["macs"] for t in timed], dtype=float)
    spent = [device_seconds(t) for t in timed]
    seconds = np.array(spent) / np.array([t.user_attrs["epochs"] for t in timed])
    slope, base = _line(macs, seconds)
    epochs = float(np.mean([t.user_attrs["epochs"] for t in timed]))
    saved: dict[str, float] = {}
    for trial in trials:
        attributes = trial.user_attrs
        # Neither a collapsed nor an invalid network has costs: it could not be trained at all.
        if not is_rejected(trial) or "duplicate_of" in attributes or "macs" not in attributes:
            continue
        cost = (base + slope * attributes["macs"]) * epochs
        saved[attributes["rejected"]] = saved.get(attributes["rejected"], 0.0) + cost
    return Savings(saved, trained)


def _line(x: np.ndarray, y: np.ndarray) -> tuple[float, float]:
    """Return slope and intercept, neither under 0, that fit y over x."""
    if len(x) > 1 and np.ptp(x) > 0:
        slope, base = np.polyfit(x, y, 1)
        if slope >= 0 and base >= 0:
            return float(slope), float(base)
        if slope >= 0:
            return float((x @ y) / (x @ x)), 0.0
    return 0.0, float(y.mean())


@dataclass(frozen=True)
class Overlap:
    """Candidates that one search rejected and another one trained.

    Attributes:
        trials: the other search's trials of these candidates, best first.
        others_best: best validation accuracy among its remaining trials, None if there are none.
    """

    trials: list[FrozenTrial]
    others_best: float | None


def trained_though_rejected(
    rejecting: Sequence[FrozenTrial], training: Sequence[FrozenTrial]
) -> Overlap:
    """Find the candidates that ``rejecting`` screened out and ``training`` trained."""
    digests = {
        t.user_attrs["digest"]
        for t in rejecting
        if is_rejected(t) and "digest" in t.user_attrs and t.user_attrs["rejected"] != "duplicate"
    }
    board = summarise(training).leaderboard
    found = [t for t in board if t.user_attrs["digest"] in digests]
    numbers = {t.number for t in found}
    others = [accuracy(t) or 0.0 for t in board if t.number not in numbers]
    return Overlap(found, max(others, default=None))
