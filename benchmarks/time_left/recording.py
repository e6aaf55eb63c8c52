"""A recorded search: when its trainings began, and how long their epochs took.

    PYTHONPATH=benchmarks python -m time_left.recording runs/NAME ..

writes ``benchmarks/time_left/recordings/NAME.json`` for each folder of a finished search.
"""

from __future__ import annotations

import json
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Self

from search.experiment.folder import SearchFolder
from search.loop.candidates import attributes_of
from search.loop.screens import build_screens
from search.loop.time_left.drawn import draw_workloads
from search.loop.time_left.plan import Plan
from search.reporting.stored_search import StoredSearch
from search.study.finalists import FinalistStore
from search.study.records import TrialRecord, Workload
from search.tracking.journal_events import Finish, Metrics, Open, Retrain, Start
from search.tracking.journal_reader import read_all

FOLDER = Path(__file__).parent / "recordings"


@dataclass(frozen=True)
class RecordedTraining:
    """A trial as its search trained it.

    Attributes:
        number: of the trial.
        workload: what decides the time of an epoch.
        started: seconds after the start of the search, as all times here.
        epochs: when each epoch was reported.
        seconds: of each epoch.
        accuracy: after each epoch, on validation.
        ended: when the training ended.
    """

    number: int
    workload: Workload
    started: float
    epochs: tuple[float, ...]
    seconds: tuple[float, ...]
    accuracy: tuple[float, ...]
    ended: float


@dataclass(frozen=True)
class RecordedFinalist:
    """A training of a finalist.

    Attributes:
        number: of the trial.
        index: of the seed, from 0.
        validation: accuracy.
        seconds: of the training.
        ended: when its result was stored.
    """

    number: int
    index: int
    validation: float
    seconds: float
    ended: float


@dataclass(frozen=True)
class Recording:
    """A finished search.

    Attributes:
        name: of the search.
        plan: what the search trains.
        drawn: workloads of random candidates of its space.
        trials: in the order of their start.
        retrained: when the search phase ended.
        finalists: in the order of their end.
        ended: when the search ended.
    """

    name: str
    plan: Plan
    drawn: tuple[Workload, ...]
    trials: tuple[RecordedTraining, ...]
    retrained: float
    finalists: tuple[RecordedFinalist, ...]
    ended: float

    def to_json(self) -> str:
        """Return the recording as JSON, one line for each training."""
        record = asdict(self)
        lines = [f" {json.dumps(key)}: " + _rows(value) for key, value in record.items()]
        return "{\n" + ",\n".join(lines) + "\n}\n"

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a recording."""
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            stored["name"],
            Plan.of_json(stored["plan"]),
            tuple(Workload(**each) for each in stored["drawn"]),
            tuple(
                RecordedTraining(
                    **{
                        **each,
                        "workload": Workload(**each["workload"]),
                        "epochs": tuple(each["epochs"]),
                        "seconds": tuple(each["seconds"]),
                        "accuracy": tuple(each["accuracy"]),
                    }
                )
                for each in stored["trials"]
            ),
            stored["retrained"],
            tuple(RecordedFinalist(**each) for each in stored["finalists"]),
            stored["ended"],
        )


def _rows(value: Any) -> str:
    if isinstance(value, list | tuple):
        return "[\n  " + ",\n  ".join(json.dumps(each) for each in value) + "\n ]"
    return json.dumps(value)


def recordings() -> list[Recording]:
    """Return all recordings of this repository."""
    return [Recording.read(path) for path in sorted(FOLDER.glob("*.json"))]


def record(folder: SearchFolder) -> Recording:
    """Return the recording of a finished search that one driver has run."""
    events = list(read_all(folder.journal))
    opened = [event.time for event in events if isinstance(event, Open)]
    if len(opened) != 1:
        raise ValueError(f"{folder.path}: {len(opened)} drivers have run it")
    began = opened[0]

    def at(milliseconds: float) -> float:
        return round((milliseconds - began) / 1000, 2)

    stored = StoredSearch(folder)
    # Older versions stored fewer costs.
    workloads = {
        record.number: Workload.of(attributes_of(stored.space.rebuild(record.params)))
        for record in map(TrialRecord.of, stored.trials)
        if record.is_trained
    }
    starts: dict[str, float] = {}
    ends: dict[str, float] = {}
    epochs: dict[str, list[tuple[float, float, float]]] = {}
    for event in events:
        if isinstance(event, Start):
            starts[event.run] = at(event.time)
        elif isinstance(event, Finish):
            ends[event.run] = at(event.time)
        elif isinstance(event, Metrics) and "epoch_seconds" in event.metrics:
            seconds = round(event.metrics["epoch_seconds"], 2)
            epochs.setdefault(event.run, []).append(
                (at(event.time), seconds, round(event.metrics["validation_accuracy"], 4))
            )
    trials = [
        RecordedTraining(
            int(run),
            known,
            starts[run],
            tuple(time for time, _, _ in reports),
            tuple(seconds for _, seconds, _ in reports),
            tuple(accuracy for _, _, accuracy in reports),
            ends[run],
        )
        for run, reports in epochs.items()
        if (known := workloads[int(run)]) is not None
    ]
    store = FinalistStore(folder.finalists)
    finalists = []
    for result in store.results():
        path = store.record(result.number, result.seed)
        index = result.seed - stored.experiment.seed - 1
        finalists.append(
            RecordedFinalist(
                result.number,
                index,
                round(result.validation_accuracy, 5),
                round(result.seconds, 2),
                at(1000 * path.stat().st_mtime),
            )
        )
    retrained = [event.time for event in events if isinstance(event, Retrain)]
    return Recording(
        folder.name,
        _plan(folder, stored, trials),
        tuple(draw_workloads(stored.space, build_screens(stored.experiment.screens), 0)),
        tuple(sorted(trials, key=lambda each: each.started)),
        at(retrained[0]),
        tuple(sorted(finalists, key=lambda each: each.ended)),
        ends[""],
    )


def _plan(folder: SearchFolder, stored: StoredSearch, trials: list[RecordedTraining]) -> Plan:
    plan = Plan.of(stored.experiment, _most_at_a_time(trials))
    if "max_seeds" in folder.experiment.read_text(encoding="utf-8"):
        return plan
    # Older versions trained no further seeds.
    return replace(plan, finalists=replace(plan.finalists, most_seeds=plan.finalists.seeds))


def _most_at_a_time(trials: list[RecordedTraining]) -> int:
    return max(
        sum(other.started <= each.started < other.ended for other in trials) for each in trials
    )


def main() -> None:
    """Record the searches in the given folders."""
    FOLDER.mkdir(exist_ok=True)
    for path in map(Path, sys.argv[1:]):
        found = record(SearchFolder(path))
        target = FOLDER / f"{path.name}.json"
        target.write_text(found.to_json(), encoding="utf-8")
        sys.stdout.write(f"{target}: {len(found.trials)} trials, {found.ended:.0f} s\n")


if __name__ == "__main__":
    main()
