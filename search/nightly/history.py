"""What is kept of each night, and what the next one compares with."""

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
from search.nightly.significance import Comparison
from search.study.records import TrialRecord
from search.study.summary import summarise

SAME_NIGHT = timedelta(hours=18)
"""For so long after its beginning a night that has not come to its end is gone on with."""


@dataclass(frozen=True)
class Best:
    """A trial with its validation accuracy, 0..1."""

    trial: int
    accuracy: float


@dataclass(frozen=True)
class Snapshot:
    """What a search has come to at the end of a night.

    Attributes:
        complete: trials trained for all epochs.
        pruned: trials stopped early.
        failed: trials that failed.
        interrupted: trials that go on the next night.
        rejections: candidates rejected, by reason.
        best: of the complete trials; None where there is none.
        front: values of the objectives of each trial of the Pareto front; empty where accuracy is
            the only objective.
        failures: what each failed trial failed with.
        saved_seconds: predicted device time of the rejected candidates.
        spent: by all drivers together.
    """

    complete: int
    pruned: int
    failed: int
    interrupted: int
    rejections: dict[str, int]
    best: Best | None
    front: dict[int, tuple[float, ...]]
    failures: dict[int, str]
    saved_seconds: float
    spent: Spent

    @property
    def trained(self) -> int:
        """Trials that have ended training, whichever way."""
        return self.complete + self.pruned + self.failed

    @property
    def rejected(self) -> int:
        """Candidates rejected."""
        return sum(self.rejections.values())


NOTHING = Snapshot(0, 0, 0, 0, {}, None, {}, {}, 0.0, Spent())
"""What a search has come to before it began."""


def take_snapshot(trials: Sequence[FrozenTrial], seconds: float) -> Snapshot:
    """Return what a search has come to.

    Args:
        trials: all of its study.
        seconds: that its drivers have worked.
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
        saved_seconds=summary.savings.total,
        spent=Spent.of(trials, seconds),
    )


class Ruling(StrEnum):
    """What became of the champion."""

    FIRST = "first"
    """There was none: the night's best has become it."""
    PROMOTED = "promoted"
    """The night's best has taken its place."""
    KEPT = "kept"
    """The night's best is not better by more than chance explains."""
    SAME = "same"
    """The night's best is the champion."""


@dataclass(frozen=True)
class Decision:
    """What became of the champion, and why.

    Attributes:
        ruling: what.
        trial: the night's best finalist.
        version: of the model that bears the alias now.
        rival: the champion that was compared with, in words; empty where there was none.
        comparison: with it, None where there was none.
    """

    ruling: Ruling
    trial: int
    version: str
    rival: str = ""
    comparison: Comparison | None = None


@dataclass(frozen=True)
class Score:
    """A finalist as it is shown.

    Attributes:
        trial: its number.
        validation: mean accuracy over its seeds.
        test: likewise, on the test split.
        spread: sample standard deviation of the latter.
        seeds: that it was retrained with.
    """

    trial: int
    validation: float
    test: float
    spread: float
    seeds: int


class State(StrEnum):
    """How far a night has come."""

    RUNNING = "running"
    """Or killed."""
    FINISHED = "finished"
    UNDECIDED = "undecided"
    """All was trained, but nobody knows yet whether the champion stays."""
    INTERRUPTED = "interrupted"
    FAILED = "failed"


@dataclass(frozen=True)
class Night:
    """One night.

    Attributes:
        name: the date on which it began, and a number where there are several.
        began: when, as ISO 8601.
        before: what had been spent when it began; its budget comes on top.
        state: how far it has come.
        note: what it failed with, or what is still to be done.
        ended: when, as ISO 8601; empty as long as it runs.
        after: what the search had come to at its end.
        decision: what became of the champion.
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
        """Return it as it ends now."""
        return replace(self, state=state, note=note, ended=_now().isoformat(timespec="seconds"))


class History:
    """All nights of a search, each in a folder of its own.

    Args:
        folder: of the nights.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def nights(self) -> list[Night]:
        """Return the nights in their order; one whose file is damaged is left out."""
        found = []
        for path in self.folder.glob("*/night.json"):
            try:
                found.append(TypeAdapter(Night).validate_json(path.read_bytes()))
            except (OSError, ValidationError):
                continue
        return sorted(found, key=lambda night: datetime.fromisoformat(night.began))

    def begin(self, spent: Spent) -> Night:
        """Begin a night, or go on with the last one if it has not come to its end.

        Args:
            spent: by all drivers so far.
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
        """Return the last night before this one of which it is known what it came to."""
        others = [each for each in self.nights() if each.name != night.name and each.after]
        return others[-1] if others else None

    def place(self, night: Night) -> Path:
        """Return the folder of a night."""
        return self.folder / night.name

    def write(self, night: Night) -> None:
        """Keep a night, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        place = self.place(night)
        place.mkdir(parents=True, exist_ok=True)
        write_atomically(place / "night.json", json.dumps(asdict(night), indent=1))

    def forget(self, night: Night) -> None:
        """Remove what was kept of a night that has not come to begin."""
        shutil.rmtree(self.place(night), ignore_errors=True)


def _now() -> datetime:
    return datetime.now().astimezone()
