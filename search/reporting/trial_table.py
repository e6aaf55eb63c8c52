"""The trials of a stored search as rows of a table, for CSV, JSON and data frames."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from optuna.trial import FrozenTrial, TrialState
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.experiment.schema import Experiment
from search.study.records import TrialRecord

Row = dict[str, Any]

_OUTCOMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "failed",
    TrialState.RUNNING: "running",
    TrialState.WAITING: "interrupted",
}


def outcome_of(record: TrialRecord) -> str:
    """Return what happened to a trial, in words."""
    if record.is_rejected:
        return "rejected"
    return "inherited" if record.is_inherited else _OUTCOMES[record.outcome]


def trial_rows(experiment: Experiment, trials: Sequence[FrozenTrial]) -> list[Row]:
    """Return one row for each trial, in order of their numbers.

    All rows have the same columns: facts of the trial, its objectives by name, and its drawn values
    as ``param.NAME``. A value that a trial lacks is None.

    Args:
        experiment: of the search.
        trials: of its study.
    """
    drawn = sorted({f"param.{name}" for trial in trials for name in trial.params})
    return [_row(experiment, trial, drawn) for trial in trials]


def _row(experiment: Experiment, trial: FrozenTrial, drawn: Sequence[str]) -> Row:
    record = TrialRecord.of(trial)
    values: Sequence[float | None] = record.values or [None] * len(experiment.objectives)
    ended = datetime.fromtimestamp(record.ended_at, UTC) if record.ended_at else None
    params = {f"param.{name}": value for name, value in trial.params.items()}
    row: Row = {
        "trial": record.number,
        "outcome": outcome_of(record),
        **dict(zip(experiment.objectives, values, strict=False)),
        "params": record.param_count,
        "macs": record.macs,
        "epochs": record.epochs,
        "seconds": record.seconds,
        "device_fraction": record.device_fraction,
        "convolutions_beyond": record.beyond,
        "reason": record.rejected_for or record.reason or None,
        "detail": trial.user_attrs.get("detail"),
        "ended": None if ended is None else ended.isoformat(timespec="seconds"),
        "digest": record.digest or None,
    }
    return row | {name: params.get(name) for name in drawn}


def as_csv(rows: Sequence[Row]) -> str:
    """Return rows as CSV with a header; empty cells for values that a trial lacks."""
    out = io.StringIO()
    writer = csv.DictWriter(out, list(rows[0]) if rows else ["trial"], lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return out.getvalue()


def print_trials(rows: Sequence[Row], console: Console) -> None:
    """Print rows as a table, without digests and drawn values."""
    table = Table(box=None, header_style="dim")
    hidden = ("digest", "device_fraction", "ended")
    names = list(rows[0]) if rows else []
    columns = [name for name in names if not name.startswith("param.") and name not in hidden]
    for column in columns:
        table.add_column(column, overflow="fold")
    for row in rows:
        table.add_row(*(escape(_cell(row[column])) for column in columns))
    console.print(table, highlight=False)


def _cell(value: object) -> str:
    if value is None:
        return ""
    return f"{value:,.4g}" if isinstance(value, float) else str(value)
