"""The best accuracy so far, against trials and device time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from search.reporting.charts.plot import Mark, Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.gathering import Gathered
from search.reporting.page.describing import label
from search.reporting.page.frame import Part, figure, table
from search.reporting.standing import REGRESSION
from search.study.records import TrialRecord


@dataclass(frozen=True)
class Ended:
    """The state of a search when a trial ended.

    Attributes:
        record: the trial.
        trials: that had ended by then, this one included.
        device_hours: that these took.
        best: best validation accuracy of a complete trial by then; None before the first.
        improved: whether this trial raised it.
    """

    record: TrialRecord
    trials: int
    device_hours: float
    best: float | None
    improved: bool


def best_so_far(records: Sequence[TrialRecord]) -> list[Ended]:
    """Return the state of a search after each trial.

    Args:
        records: trials with an accuracy, the first to end first.
    """
    found: list[Ended] = []
    best: float | None = None
    seconds = 0.0
    for trials, record in enumerate(records, start=1):
        seconds += record.device_seconds
        accuracy = record.accuracy or 0.0
        improved = record.outcome is TrialState.COMPLETE and (best is None or accuracy > best)
        if improved:
            best = accuracy
        found.append(Ended(record, trials, seconds / 3600, best, improved))
    return found


def progress_part(gathered: Gathered) -> Part | None:
    """Return the part on the progress of a search; None before a trial has an accuracy."""
    steps = best_so_far(gathered.scored)
    if not steps:
        return None
    last = next((step for step in reversed(steps) if step.improved), None)
    sentences = []
    if last is not None:
        after = steps[-1].trials - last.trials
        hours = steps[-1].device_hours
        sentences.append(
            f"The best accuracy, {last.best:.4f}, came with trial {last.record.number}, the "
            f"{_ordinal(last.trials)} of {len(steps):,} to end, after "
            f"{last.device_hours / hours if hours else 0:.0%} of the device time; "
            + (f"{after:,} later trials did not exceed it." if after else "no trial followed.")
        )
    rows = [
        (
            str(step.trials),
            str(step.record.number),
            f"{step.best:.4f}",
            f"{step.device_hours:.4g}",
        )
        for step in steps
        if step.improved
    ]
    data = table(("trials ended", "trial", "best accuracy", "device-hours"), rows)
    levels: tuple[Mark, ...] = ()
    if gathered.standing is not None:
        levels = (Mark(gathered.standing.baseline.validation, REGRESSION),)

    def plot(title: str, axis: str, *, by_time: bool) -> Plot:
        def points(chosen: Sequence[Ended], *, best: bool = False) -> list[Point]:
            return [
                Point(
                    step.device_hours if by_time else step.trials,
                    (step.best if best else step.record.accuracy) or 0.0,
                    label(step.record),
                )
                for step in chosen
            ]

        complete = [step for step in steps if step.record.outcome is TrialState.COMPLETE]
        stopped = [step for step in steps if step.record.outcome is not TrialState.COMPLETE]
        ends = [step for step in steps if step.improved] + steps[-1:]
        line = points(ends if last else [], best=True)
        return Plot(
            title,
            Axis(axis, whole=not by_time),
            Axis("validation accuracy", fraction=True),
            [
                Series("stopped early", points(stopped), None),
                Series("complete", points(complete), 0),
                Series("best so far", line, 1, line="step"),
            ],
            levels=levels,
        )

    by_trials = plot("Validation accuracy by trials", "trials ended", by_time=False)
    by_time = plot("Validation accuracy by device time", "device-hours", by_time=True)
    return Part(
        "Progress",
        tuple(sentences),
        (
            figure(by_trials, "Each trial when it ended, and the best so far.", data),
            figure(by_time, "The same by the device time that all trials took until then."),
        ),
    )


def _ordinal(number: int) -> str:
    suffix = {1: "st", 2: "nd", 3: "rd"}.get(number % 10, "th")
    return f"{number:,}{'th' if 10 < number % 100 < 14 else suffix}"
