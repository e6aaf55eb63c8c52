"""How a trial of the study ended and how accurate it was, whatever its sampler was told.

The state of a trial is what its sampler learns from, and that is not always what happened: a
trial that did not fit into the device's memory is told as infeasible, since samplers ignore what
failed; and with several objectives one that was stopped early is told as complete, since Optuna
knows pruned trials with one objective only. Whoever asks what became of a trial asks here.
"""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

OUTCOME = "verdict"
"""Attribute of a trial whose state is not what happened to it: what did, in small letters."""

REJECTED = "rejected"
"""Attribute of a candidate that was never trained: the screen that rejected it."""
INHERITED = "inherited"
"""Attribute of a trial that another search has trained: its name."""
HISTORY = "history"
"""Attribute of a trial that has ended: what each epoch reported."""


@dataclass(frozen=True)
class Rejection:
    """Why a candidate is not trained.

    Attributes:
        reason: the screen: collapsed, untrainable, border, params, macs, memory, duplicate; or
            invalid: the values that were drawn describe no network.
        violation: how far beyond the limit, over 0: convolutions beyond the border layer, or the
            excess relative to the limit, or what the space says.
        detail: the same in words.
    """

    reason: str
    violation: float
    detail: str


def is_rejected(trial: FrozenTrial) -> bool:
    """Tell whether a candidate was screened out and never trained."""
    return REJECTED in trial.user_attrs


def is_trained(trial: FrozenTrial) -> bool:
    """Tell whether a trial was trained by this search: neither screened out nor inherited."""
    return not is_rejected(trial) and INHERITED not in trial.user_attrs


def outcome(trial: FrozenTrial) -> TrialState:
    """Return COMPLETE for trained to the end, PRUNED for stopped early, FAIL, or as it is now.

    One that has not ended is WAITING (set aside) or RUNNING.
    """
    if not trial.state.is_finished():
        return trial.state
    name: str = trial.user_attrs.get(OUTCOME, trial.state.name)
    return TrialState[name.upper()]


def failure(trial: FrozenTrial) -> str:
    """Return what a trial failed with."""
    return str(trial.user_attrs.get("cause", "the loss is no longer a number"))


def accuracy(trial: FrozenTrial) -> float | None:
    """Return the last validation accuracy of a trial that has ended well, the first objective."""
    return trial.values[0] if trial.values else None
