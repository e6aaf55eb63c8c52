"""The stored nights of a search, and the snapshots that successive nights compare."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState
from pydantic import TypeAdapter, ValidationError

from cluster.files import write_atomically
from search.loop.budget import Spent
from search.study.records import TrialRecord
from search.study.significance import Comparison
from search.study.summary import TrialCounts, summarise

SAME_NIGHT = timedelta(hours=18)
"""Time after its start within which the next start continues an unfinished night."""


@dataclass(frozen=True)
class Best:
    """A trial with its validation accuracy, 0..1."""

    trial: int
    accuracy: float


@dataclass(frozen=True)
class Snapshot(TrialCounts):
    """The state of a search at the end of a night; running trials count as interrupted.

    Attributes:
        best: complete trial with the best validation accuracy; None if there is none.
        front: objective values of each trial of the Pareto front; empty if accuracy is the only
            objective.
        failures: cause of failure of each failed trial.
        saved_seconds: device time that the rejections saved, the lower end of the estimate.
        spent: by all drivers together.
        truncated: trials whose network was truncated at the border layer.
    """

    best: Best | None
    front: dict[int, tuple[float, ...]]
    failures: dict[int, str]
    saved_seconds: float
    spent: Spent
    truncated: int = 0


NOTHING = Snapshot(0, 0, 0, 0, {}, None, {}, {}, 0.0, Spent())
"""The state of a search before its start."""


def take_snapshot(trials: Sequence[FrozenTrial], seconds: float) -> Snapshot:
    """Return the state of a search.

    Args:
        trials: all trials of its study.
        seconds: driver time so far.
    """
    summary = summarise(trials)
    best = summary.best
    return Snapshot(
        complete=summary.complete,
        pruned=summary.pruned,
        failed=summary.failed,
        interrupted=summary.interrupted + summary.running,
        rejections=summary.rejections,
        best=None if best is None else Best(best.number, best.accuracy or 0.0),
        front={trial.number: trial.values for trial in summary.front},
        failures={
            record.number: record.reason
            for record in map(TrialRecord.of, trials)
            if record.is_trained and record.outcome is TrialState.FAIL
        },
        saved_seconds=summary.savings.total.low,
        spent=Spent.of(trials, seconds),
        truncated=summary.truncated,
    )


class Ruling(StrEnum):
    """What a comparison decided about the champion."""

    FIRST = "first"
    """There was no champion: the night's best becomes the first."""
    PROMOTED = "promoted"
    """The night's best replaces the champion."""
    KEPT = "kept"
    """The night's best is not significantly better: the champion stays."""
    SAME = "same"
    """The night's best is the champion itself."""


@dataclass(frozen=True)
class Decision:
    """The decision about the champion, and its reason.

    Attributes:
        ruling: the decision.
        trial: the night's best finalist.
        version: number of the champion's version now.
        rival: description of the previous champion; empty if there was none.
        comparison: with that champion; None if none was made.
    """

    ruling: Ruling
    trial: int
    version: str
    rival: str = ""
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Score:
    """The scores of a finalist.

    Attributes:
        trial: its number.
        validation: mean accuracy over its seeds.
        test: likewise, on the test split.
        spread: sample standard deviation of the test accuracy.
        seeds: number of seeds.
        tied: whether chance explains its distance from the first, or the first has such a rival.
        truncated: how far its network was truncated, in words; empty if it was not.
    """

    trial: int
    validation: float
    test: float
    spread: float
    seeds: int
    tied: bool = False
    truncated: str = ""


class State(StrEnum):
    """The state of a night."""

    RUNNING = "running"
    """Running, or killed."""
    FINISHED = "finished"
    UNDECIDED = "undecided"
    """Training is complete, but the comparison with the champion is pending."""
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class Night:
    """One night.

    Attributes:
        name: date of its start, with a number if a date has several nights.
        began: time of its start, ISO 8601.
        before: spent before its start; the budget of the night is added to it.
        state: of the night.
        note: cause of failure, or what the next start does.
        ended: time of its end, ISO 8601; empty while it runs.
        after: state of the search at its end.
        decision: about the champion.
        finalists: best validation accuracy first.
    """

    name: str
    began: str
    before: Spent
    state: State = State.RUNNING
    note: str = ""
    ended: str = ""
    after: Snapshot | None = None
    decision: Decision | None = None
    finalists: tuple[Score, ...] = field(default=())

    def end(self, state: State, note: str = "") -> Night:
        """Return the night with this state, ended now."""
        return replace(self, state=state, note=note, ended=_now().isoformat(timespec="seconds"))


class History:
    """All nights of a search, each in its own folder.

    Args:
        folder: of the nights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def nights(self) -> list[Night]:
        """Return the nights by time of start, without those whose file is damaged."""
        found = []
        for path in self.folder.glob("*/night.json"):
            try:
                found.append(TypeAdapter(Night).validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                continue
        return sorted(found, key=lambda night: datetime.fromisoformat(night.began))

    def begin(self, spent: Spent) -> Night:
        """Start a night, or continue the last one if it is unfinished and recent.

        Args:
            spent: by all drivers of the search so far.
        """
        nights, now = self.nights(), _now()
        if nights:
            last = nights[-1]
            is_open = last.state is not State.FINISHED
            if is_open and now - datetime.fromisoformat(last.began) < SAME_NIGHT:
                return replace(last, state=State.RUNNING, note="", ended="")
        taken = {path.name for path in self.folder.glob("*")}
        name, number = now.date().isoformat(), 1
        while name in taken:
            number += 1
            name = f"{now.date().isoformat()}-{number}"
        return Night(name, now.isoformat(timespec="seconds"), spent)

    def before(self, night: Night) -> Night | None:
        """Return the most recent other night with a known outcome."""
        others = [each for each in self.nights() if each.name != night.name and each.after]
        return others[-1] if others else None

    def place(self, night: Night) -> Path:
        """Return the folder of a night."""
        return self.folder / night.name

    def write(self, night: Night) -> None:
        """Store a night atomically.

        Raises:
            OSError: the file cannot be written.
        """
        place = self.place(night)
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "night.json", json.dumps(asdict(night), indent=1))

    def forget(self, night: Night) -> None:
        """Remove the folder of a night whose search never started."""
        shutil.rmtree(self.place(night), ignore_errors=True)


def _now() -> datetime:
    return datetime.now().astimezone()
