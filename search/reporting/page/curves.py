"""The learning curves of the trials, and the rungs at which they were stopped."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import TrialState

from search.experiment.schema import Experiment
from search.formatting import plural
from search.reporting.charts.plot import Mark, Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.gathering import Gathered
from search.reporting.page.frame import Part, bar, figure, table
from search.study.records import TrialRecord

NAMED, OTHERS = 5, 80
"""Curves that have a colour of their own, and most others that are drawn."""


@dataclass(frozen=True)
class Rung:
    """An epoch at which the scheduler may stop trials.

    Attributes:
        epoch: number of epochs trained.
        reached: trials that trained so far.
        stopped: of these, trials that ended there.
    """

    epoch: int
    reached: int
    stopped: int


def rungs_of(experiment: Experiment, records: Sequence[TrialRecord]) -> list[Rung]:
    """Return the rungs of a search; none without a scheduler.

    Args:
        experiment: of the search.
        records: trials that ended.
    """
    scheduler = experiment.scheduler
    if scheduler.name != "asha" or not isinstance(experiment.epochs, int):
        return []
    found, epoch = [], scheduler.grace_epochs
    while epoch < experiment.epochs:
        reached = [record for record in records if record.epochs >= epoch]
        stopped = [
            record
            for record in reached
            if record.epochs == epoch and record.outcome is TrialState.PRUNED
        ]
        found.append(Rung(epoch, len(reached), len(stopped)))
        epoch *= scheduler.reduction
    return found


def curve(record: TrialRecord) -> list[Point]:
    """Return the validation accuracy of a trial by epochs."""
    return [
        Point(
            epoch,
            each.validation_accuracy,
            f"trial {record.number}, epoch {epoch}: validation {each.validation_accuracy:.4f}, "
            f"training {each.train_accuracy:.4f}",
        )
        for epoch, each in sorted(record.history.items())
    ]


def curves_part(gathered: Gathered) -> Part | None:
    """Return the part on learning curves; None before a trial has ended."""
    board = gathered.summary.leaderboard
    best = gathered.best[:NAMED]
    if not best:
        return None
    chosen = {record.number for record in best}
    others = [record for record in board if record.number not in chosen]
    # An even sample from good to bad.
    others = others[:: -(-len(others) // OTHERS) or 1]
    rungs = rungs_of(gathered.experiment, gathered.scored)
    series = [
        Series("others" if not number else "", curve(record), None, line="line")
        for number, record in enumerate(others)
    ]
    series += [
        Series(f"trial {record.number}", curve(record), colour, line="line")
        for colour, record in reversed(list(enumerate(best)))
    ]
    plot = Plot(
        "Learning curves",
        Axis("epoch", whole=True),
        Axis("validation accuracy", fraction=True),
        series,
        verticals=[Mark(rung.epoch, f"rung {n}") for n, rung in enumerate(rungs, start=1)],
    )
    sentences: tuple[str, ...] = ()
    data = None
    if rungs:
        rows = [
            (
                str(rung.epoch),
                f"{rung.reached:,}",
                bar(f"{rung.stopped:,}", rung.stopped / rung.reached if rung.reached else 0.0, 1),
            )
            for rung in rungs
        ]
        data = table(("epochs", "trials that got there", "stopped there"), rows)
        sentences = (
            f"ASHA lets about the best 1/{gathered.experiment.scheduler.reduction} of the trials "
            "at each rung continue.",
        )
    kind = "finalist" if gathered.finalists else "best trial"
    trained = ", as trained in the search" if gathered.finalists else ""
    caption = (
        f"In colour {plural(len(best), kind)}{trained}; dim {plural(len(others), 'other trial')}."
    )
    content = [figure(plot, caption)]
    if data is not None:
        content.append(data)
    return Part("Learning curves", sentences, tuple(content))
