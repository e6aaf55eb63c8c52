"""The best accuracy so far of an arm, by trials and by device time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from search.reporting.compare.arm import Arm


@dataclass(frozen=True)
class Step:
    """The best complete trial after a trial ended.

    Attributes:
        trials: trained so far.
        device_seconds: of training so far.
        best: best validation accuracy so far.
        number: of the trial with it.
    """

    trials: int
    device_seconds: float
    best: float
    number: int


def best_so_far(arm: Arm) -> list[Step]:
    """Return a step for each improvement, and one for the end; none without a complete trial."""
    steps: list[Step] = []
    seconds = 0.0
    for count, record in enumerate(arm.ended, start=1):
        seconds += record.device_seconds
        if record.outcome is not TrialState.COMPLETE or record.accuracy is None:
            continue
        if not steps or record.accuracy > steps[-1].best:
            steps.append(Step(count, seconds, record.accuracy, record.number))
    if steps and steps[-1].trials < len(arm.ended):
        steps.append(Step(len(arm.ended), seconds, steps[-1].best, steps[-1].number))
    return steps


def reached(arm: Arm, accuracy: float) -> Step | None:
    """Return the first step with at least an accuracy; None if the arm never reached it."""
    return next((step for step in best_so_far(arm) if step.best >= accuracy), None)


def common_accuracy(arms: Sequence[Arm]) -> float | None:
    """Return the highest validation accuracy that every arm reached; None if one has none."""
    ends = [steps[-1].best if (steps := best_so_far(arm)) else None for arm in arms]
    known = [end for end in ends if end is not None]
    return min(known) if known and len(known) == len(ends) else None
