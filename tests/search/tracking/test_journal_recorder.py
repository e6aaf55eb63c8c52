"""Recording a search over several drivers: nothing twice, nothing missing."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from optuna.samplers import RandomSampler

from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.loop.trials import Trials
from search.study.events import StartedTrial
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.study import Study
from search.study.summary import summarise
from search.tracking.journal import Journal
from search.tracking.journal_events import (
    PARENT,
    Finish,
    Metrics,
    Start,
    Update,
)
from search.tracking.journal_reader import read_all
from search.tracking.journal_recorder import JournalRecorder
from search.tracking.saved_views import FIRST_COLUMNS
from spaces.border import Rule
from spaces.candidate import CandidateSpace
from spaces.remedies import Truncation
from trainables.epoch_metrics import EpochMetrics
from trainables.specs import FinalistResult

MakeTrials = Callable[..., Trials]
MakeMetrics = Callable[..., EpochMetrics]


class Driver:
    """One driver of a search: its journal, its recorder, its trials."""

    def __init__(
        self,
        path: Path,
        make_trials: MakeTrials,
        space: CandidateSpace,
        before: Driver | None = None,
        experiment: Experiment | None = None,
    ) -> None:
        self.study = Study("mine", RandomSampler(seed=0 if before is None else 1))
        if before is not None:
            self.study.restore(before.study.trials())
        self.path = path
        self.journal = Journal(path)
        self.recorder = JournalRecorder(
            self.journal,
            experiment or parse_experiment({"name": "mine"}),
            lambda: summarise(self.study.trials()),
        )
        self.trials = make_trials(space, study=self.study, observers=[self.recorder])
        self.recorder.begin()
        for trial in self.study.trials():
            if trial.state.is_finished() and "rejected" not in trial.user_attrs:
                self.recorder.complete(TrialRecord.of(trial), partial(self.trials.rebuild, trial))

    def start(self) -> StartedTrial:
        while (started := self.trials.next()) is None:
            pass
        return started

    def events(self, run: object, kind: type) -> list[Any]:
        return [
            event
            for event in read_all(self.path)
            if isinstance(event, kind) and getattr(event, "run", None) == str(run)
        ]

    def steps(self, run: object) -> list[int]:
        return [event.step for event in self.events(run, Metrics)]

    def statuses(self, run: object) -> list[str]:
        return [event.status for event in self.events(run, Finish)]


@pytest.fixture
def drive(
    tmp_path: Path, make_trials: MakeTrials, eight_candidates: CandidateSpace
) -> Callable[..., Driver]:
    """Return a function that makes a driver, after another one."""
    return partial(Driver, tmp_path / "journal.jsonl", make_trials, eight_candidates)


@pytest.mark.parametrize(
    ("validation", "shown", "folds"), [("folds=5x2", "folds=5x2", 10), (0.25, "0.25", None)]
)
def test_params_of_the_search_name_its_validation(
    tmp_path: Path,
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    validation: object,
    shown: str,
    folds: int | None,
) -> None:
    experiment = parse_experiment({"name": "mine", "validation": validation})
    path = tmp_path / "journal.jsonl"
    driver = Driver(path, make_trials, eight_candidates, experiment=experiment)
    (start,) = driver.events(PARENT, Start)
    assert (start.params["validation"], start.params.get("folds")) == (shown, folds)


def test_events_of_killed_driver_are_not_written_again(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    first = drive()
    number = first.start().number
    for epoch in (1, 2):
        first.trials.report(number, metrics(0.5, epoch))
    later = drive(first)
    assert later.start().number == number
    for epoch in (1, 2, 3):
        later.trials.report(number, metrics(0.5, epoch))
    later.trials.finish(number)
    assert later.steps(number) == [1, 2, 3]
    assert ["params" in event.metrics for event in later.events(number, Metrics)] == [
        *(True, False, False)
    ]
    # It was open all the time.
    (start,) = later.events(number, Start)
    assert start.params["trial"] == number
    assert later.statuses(number) == ["FINISHED"]


def test_run_of_paused_trial_ends_and_resumes(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    first = drive()
    number = first.start().number
    first.trials.report(number, metrics(0.5))
    first.trials.stop("interrupted")
    first.trials.pause_all()
    first.trials.pause_all()
    first.recorder.end("KILLED")
    assert first.statuses(number) == ["KILLED"]
    assert [event.tags for event in first.events(number, Update)] == [{"verdict": "interrupted"}]
    later = drive(first)
    assert later.start().number == number
    for epoch in (1, 2, 3):
        later.trials.report(number, metrics(0.5, epoch))
    later.trials.finish(number)
    assert later.steps(number) == [1, 2, 3]
    begun, again = later.events(number, Start)
    assert begun.params
    assert begun.artifacts
    # MLflow's parameters are for ever, and its artifacts are there.
    assert (again.params, again.artifacts) == ({}, {})
    assert later.statuses(number) == ["KILLED", "FINISHED"]
    assert later.events(number, Update)[-1].tags == {"verdict": "complete"}


def test_run_of_trial_without_driver_ends(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    first = drive()
    number = first.start().number
    first.trials.report(number, metrics(0.5))
    for _ in range(2):  # The second finds it closed.
        later = drive(first)
        later.trials.stop("the budget of time is spent")
        later.trials.pause_all()
        later.recorder.end("FINISHED")
    assert later.statuses(number) == ["KILLED"]
    assert len(later.events(number, Start)) == 1


def cut(path: Path, keep: Callable[[Any, int], bool]) -> None:
    """Leave the journal of a driver that was killed before it wrote the other events."""
    lines = path.read_bytes().splitlines(keepends=True)
    events = list(read_all(path))
    kept = []
    for place, (line, event) in enumerate(zip(lines, events, strict=True)):
        if not keep(event, place):
            break
        kept.append(line)
    path.write_bytes(b"".join(kept))


def test_missing_events_are_completed_from_the_study(
    drive: Callable[..., Driver], metrics: MakeMetrics, tmp_path: Path
) -> None:
    """The journal may end anywhere, because the study is written first."""
    first = drive()
    ends: dict[int, dict[str, Any]] = {
        first.start().number: {},
        first.start().number: {"cause": "out of memory"},
        first.start().number: {"stopped": "no better than a guess"},
    }
    for number, ending in ends.items():
        for epoch in (1, 2) if ending else (1, 2, 3):
            first.trials.report(number, metrics(epoch / 10, epoch))
        first.trials.finish(number, **ending)
    first.journal.close()
    whole = first.path.read_bytes()
    uncut = {number: content(first, number) for number in ends}
    for length in range(len(list(read_all(first.path)))):
        first.path.write_bytes(whole)
        cut(first.path, lambda _, place, length=length: place < length)
        later = drive(first)
        later.journal.close()
        for number in ends:
            assert content(later, number) == uncut[number], length
        again = drive(later)
        again.journal.close()
        for number in ends:
            assert content(again, number) == uncut[number], length


def content(driver: Driver, run: object) -> tuple[Any, ...]:
    """Return what there is of a run, without the times."""
    starts = driver.events(run, Start)
    return (
        [(start.name, start.params, start.tags, start.artifacts) for start in starts],
        [(event.step, event.metrics) for event in driver.events(run, Metrics)],
        driver.events(run, Update)[-1].tags,
        driver.statuses(run),
    )


def test_resumed_search_keeps_its_run_and_params(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    first = drive()
    first.recorder.end("KILLED")
    more = parse_experiment({"name": "mine", "budget": {"trials": 99}})
    later = drive(first, more)
    later.recorder.end("FINISHED", "<html>")
    begun, again = later.events(PARENT, Start)
    assert begun.params["trials"] == 30
    assert again.params == {}
    # What has changed is in the experiment that it is run by now.
    assert "trials: 99" in again.artifacts["experiment.yaml"]
    assert later.statuses(PARENT) == ["KILLED", "FINISHED"]


def test_unchanged_totals_are_not_recorded_again(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    first = drive()
    number = first.start().number
    first.trials.report(number, metrics(0.5))
    first.trials.finish(number)
    first.recorder.end("FINISHED", "<html>", (0.9, 0.01))
    before = [event.metrics for event in first.events(PARENT, Metrics)]
    assert {"test_accuracy_mean": 0.9, "test_accuracy_std": 0.01} in before
    for _ in range(2):
        first = drive(first)
        first.recorder.end("FINISHED", "<html>", (0.9, 0.01))
    assert [event.metrics for event in first.events(PARENT, Metrics)] == before
    last = drive(first)
    last.trials.finish(last.start().number, "lost")
    last.recorder.end("FINISHED", "<html>", (0.8, 0.02))
    after = [event.metrics for event in last.events(PARENT, Metrics)][len(before) :]
    totals: dict[str, float] = {}
    for each in after:
        totals |= each
    assert (totals["trials_failed"], totals["test_accuracy_mean"]) == (1, 0.8)


def finalist(number: int, *seeds: int) -> Finalist:
    results = [FinalistResult(number, seed, 0.5 + seed / 10, 0.5, 1.0) for seed in seeds]
    return Finalist(number, tuple(results))


def test_finalist_is_recorded_once_and_gains_later_seeds(
    drive: Callable[..., Driver],
) -> None:
    first = drive()
    started = first.start()
    candidate = started.candidate
    first.recorder.finalist(finalist(started.number, 1, 2), candidate)
    key = f"finalist-{started.number}"
    later = drive(first)
    later.recorder.finalist(finalist(started.number, 1, 2), candidate)
    assert len(later.events(key, Start)) == 1
    last = drive(later)
    last.recorder.finalist(finalist(started.number, 1, 2, 3), candidate)
    begun, again = last.events(key, Start)
    assert begun.params["seeds"] == 2
    assert again.params == {}
    points = [(event.step, name) for event in last.events(key, Metrics) for name in event.metrics]
    assert max(Counter(points).values()) == 1
    assert {step for step, name in points if name == "test_accuracy"} == {1, 2, 3}
    assert {step for step, name in points if name == "test_accuracy_mean"} == {2, 3}
    seeds = [m.metrics["seeds"] for m in last.events(key, Metrics) if "seeds" in m.metrics]
    assert seeds == [2, 3]
    assert last.statuses(key) == ["FINISHED", "FINISHED"]


def test_late_seed_gets_its_own_step(
    drive: Callable[..., Driver],
) -> None:
    first = drive()
    started = first.start()
    candidate = started.candidate
    first.recorder.finalist(finalist(started.number, 1, 3), candidate)
    later = drive(first)
    later.recorder.finalist(finalist(started.number, 1, 2, 3), candidate)
    points = {
        event.step: event.metrics["validation_accuracy"]
        for event in later.events(f"finalist-{started.number}", Metrics)
        if "validation_accuracy" in event.metrics
    }
    assert points == {1: 0.6, 2: 0.7, 3: 0.8}


def test_truncated_trials_and_finalists_say_from_how_many_convolutions(
    tmp_path: Path, make_trials: MakeTrials, vgg_space: Callable[..., CandidateSpace]
) -> None:
    space = vgg_space(truncation=Truncation(Rule.PREVIOUS_CONV))
    driver = Driver(tmp_path / "journal.jsonl", make_trials, space)
    started = [driver.start() for _ in range(10)]
    cut = [each.candidate.truncated for each in started if each.candidate.truncated]
    assert cut
    for each in started:
        truncated = each.candidate.truncated
        (start,) = driver.events(each.number, Start)
        assert start.params["truncated_from"] == (truncated.drawn if truncated else None)
        assert truncated is None or start.params["convolutions"] == truncated.kept
    winner = next(each for each in started if each.candidate.truncated)
    driver.recorder.finalist(finalist(winner.number, 1), winner.candidate)
    (start,) = driver.events(f"finalist-{winner.number}", Start)
    assert start.params["truncated_from"] == winner.candidate.truncated.drawn
    driver.recorder.totals()
    assert driver.events(PARENT, Metrics)[-1].metrics["truncated"] == len(cut)


def test_searches_trials_and_finalists_have_the_first_columns(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    driver = drive()
    started = driver.start()
    for epoch in (1, 2, 3):
        driver.trials.report(started.number, metrics(epoch / 10, epoch))
    driver.trials.finish(started.number)
    driver.recorder.finalist(finalist(started.number, 1, 2), started.candidate)
    driver.recorder.end("FINISHED", "<html>", (0.9, 0.01), picture="<svg/>")
    shown: dict[str, dict[str, float]] = {}
    for run in (PARENT, str(started.number), f"finalist-{started.number}"):
        shown[run] = {}
        for event in driver.events(run, Metrics):
            shown[run] |= {n: v for n, v in event.metrics.items() if n in FIRST_COLUMNS}
    costs = {"params": started.costs.params, "macs": started.costs.macs}
    trial = shown[str(started.number)]
    assert trial == {"objective": 0.3, "seconds": pytest.approx(trial["seconds"]), **costs}
    assert trial["seconds"] == pytest.approx(3 * metrics(0.1, 1).epoch_seconds)
    assert shown[PARENT].keys() == {*FIRST_COLUMNS}
    assert (shown[PARENT]["objective"], shown[PARENT]["params"]) == (0.3, started.costs.params)
    retrained = {"objective": 0.65, "test_accuracy_mean": 0.5, "seconds": 2.0, **costs}
    assert shown[f"finalist-{started.number}"] == pytest.approx(retrained)
    (update,) = driver.events(PARENT, Update)
    assert {*update.artifacts} == {"report.html", "receptive_field.svg"}
    assert "0.3000 (trial 0)" in update.tags["mlflow.note.content"]


def test_diverged_epoch_has_no_objective(
    drive: Callable[..., Driver], metrics: MakeMetrics
) -> None:
    driver = drive()
    number = driver.start().number
    driver.recorder.reported(number, replace(metrics(0.1, 1), train_loss=math.nan))
    assert "objective" not in driver.events(number, Metrics)[-1].metrics
