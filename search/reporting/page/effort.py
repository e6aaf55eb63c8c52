"""Where the time of a search went, and what failed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from search.formatting import duration
from search.reporting.gathering import Gathered
from search.reporting.page.frame import Part, bar, table
from search.reporting.sections.rejections import failures_section
from search.study.records import TrialRecord

_NAMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "interrupted",
}


@dataclass(frozen=True)
class Effort:
    """The device time of one kind of trainings.

    Attributes:
        kind: in words.
        trainings: number of them.
        epochs: that they trained.
        seconds: of device time; one second on half a device counts as 0.5.
    """

    kind: str
    trainings: int
    epochs: int
    seconds: float


def efforts(records: Sequence[TrialRecord]) -> list[Effort]:
    """Return the device time of trials by their outcome; outcomes without trials are left out."""
    found = []
    for outcome, name in _NAMES.items():
        trained = [each for each in records if each.is_trained and each.outcome is outcome]
        if trained:
            epochs = sum(each.epochs for each in trained)
            seconds = sum(each.device_seconds for each in trained)
            found.append(Effort(name, len(trained), epochs, seconds))
    return found


def effort_part(gathered: Gathered) -> Part:
    """Return the part on time and failures."""
    found = efforts(gathered.records)
    if gathered.finalists:
        results = [result for each in gathered.finalists for result in each.results]
        seconds = sum(result.seconds for result in results)
        epochs = gathered.experiment.epochs
        each = epochs if isinstance(epochs, int) else 0
        found.append(Effort("finalists, retrained", len(results), each * len(results), seconds))
    heading = "Time and failures"
    if not found:
        return Part(heading, ("No trial has started.",))
    total = sum(each.seconds for each in found)
    price = gathered.experiment.budget.price
    sentences = [f"Trainings took {duration(total)} of device time in all."]
    if price:
        sentences.append(f"At {price:g} per device-hour, that is {total / 3600 * price:.2f}.")
    rows = [
        (
            each.kind,
            f"{each.trainings:,}",
            f"{each.epochs:,}",
            bar(duration(each.seconds), each.seconds / total if total else 0.0),
            f"{each.seconds / each.epochs:.2f} s" if each.epochs else "-",
        )
        for each in found
    ]
    content = [table(("", "trainings", "epochs", "device time", "per epoch"), rows)]
    failed = failures_section(gathered.records) if gathered.summary.failed else None
    if failed is None:
        sentences.append("No trial failed.")
    else:
        content.append(table(failed.header, failed.rows, "Failed trials by cause."))
    return Part(heading, tuple(sentences), tuple(content))
