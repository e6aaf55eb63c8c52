"""Observers receive each event once, in order, and only what is stored."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.experiment.sections import BudgetSection, ScreensSection
from search.loop.budget import Budget
from search.loop.screens import build_screens
from search.loop.trials import Trials
from search.study.database import Database
from search.study.events import Observer, StartedTrial
from search.study.storages import read_trials
from search.study.study import Study
from spaces.candidate import CandidateSpace
from tests.search.loop.trial_runs import MakeTrials, Train, started_by
from trainables.epoch_metrics import EpochMetrics


class Life(Observer):
    """Checks that the events of each trial come once and in order."""

    def __init__(self) -> None:
        self.state: dict[int, str] = {}
        self.epoch: dict[int, int] = {}

    def rejected(self, number: int, rejection: Any) -> None:
        assert number not in self.state
        self.state[number] = f"rejected {rejection.reason}"

    def started(self, trial: StartedTrial) -> None:
        assert trial.number not in self.state
        self.state[trial.number] = "started"

    def paused(self, number: int) -> None:
        assert self.state[number] == "started"
        self.state[number] = "WAITING"

    def reported(self, number: int, metrics: Any) -> None:
        assert self.state[number] == "started"
        assert metrics.epoch > self.epoch.get(number, 0)
        self.epoch[number] = metrics.epoch

    def finished(self, number: int, state: TrialState, cause: str) -> None:
        assert self.state[number] == "started"
        self.state[number] = state.name


steps = st.lists(
    st.one_of(
        st.just(("next",)),
        st.tuples(
            st.just("report"),
            st.integers(0, 9),
            st.integers(1, 3),
            st.floats(0, 1) | st.just(math.nan),
        ),
        st.tuples(st.just("finish"), st.integers(0, 9), st.sampled_from(["", "lost"])),
    ),
    max_size=40,
)


@settings(max_examples=80, deadline=None)
@given(sequence=steps, seed=st.integers(0, 50), limit=st.integers(1, 12))
def test_each_trial_ends_once_and_each_candidate_has_one_result(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    sequence: list[tuple[Any, ...]],
    seed: int,
    limit: int,
) -> None:
    life = Life()
    trials = make_trials(eight_candidates, limit=limit, seed=seed, epochs=3, observers=[life])
    running: list[StartedTrial] = []
    ended: dict[str, int] = {}
    starts = 0
    for operation, *arguments in sequence:
        match operation, arguments:
            case "next", [] if starts - len(ended) < 8:
                started = trials.next()
                if started is not None:
                    starts += 1
                    digest = started.candidate.digest
                    assert digest not in {trial.candidate.digest for trial in running}
                    assert digest not in ended
                    running.append(started)
            case "report", [which, epoch, accuracy] if running:
                trials.report(running[which % len(running)].number, metrics(accuracy, epoch))
            case "finish", [which, cause] if running:
                trial = running.pop(which % len(running))
                trials.finish(trial.number, cause)
                if trials.study.trial(trial.number).state is not TrialState.FAIL:
                    ended[trial.candidate.digest] = trial.number
    assert starts <= limit
    assert trials.has_unfinished == bool(running)
    trials.pause_all()
    stored = trials.study.trials()
    assert len(life.state) == len(stored)
    assert {t.number for t in stored if t.state is TrialState.WAITING} == {
        trial.number for trial in running
    }
    for trial in stored:
        assert trial.state is not TrialState.RUNNING
        rejected = trial.user_attrs.get("rejected")
        assert life.state[trial.number] == (
            f"rejected {rejected}" if rejected else trial.state.name
        )


def test_observers_receive_events_in_the_given_order(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    told: list[str] = []

    class Named(Observer):
        def __init__(self, name: str) -> None:
            self.name = name

        def started(self, trial: StartedTrial) -> None:
            told.append(f"{self.name} started")

        def finished(self, number: int, state: TrialState, cause: str) -> None:
            told.append(f"{self.name} finished")

    trials = make_trials(eight_candidates, limit=1, observers=[Named("a"), Named("b")])
    train(trials, started_by(trials).number, 0.5)
    assert told == ["a started", "b started", "a finished", "b finished"]


def test_observers_receive_only_what_the_database_holds(
    tmp_path: Path, eight_candidates: CandidateSpace, train: Train
) -> None:
    path = tmp_path / "study.db"
    database = Database(path, "mine")
    states: list[tuple[str, list[TrialState]]] = []

    class Looking(Observer):
        def started(self, trial: StartedTrial) -> None:
            states.append(("started", [t.state for t in read_trials(path, "mine")]))

        def finished(self, number: int, state: TrialState, cause: str) -> None:
            states.append(("finished", [t.state for t in read_trials(path, "mine")]))

    trials = Trials(
        Study("mine", RandomSampler(seed=0), database=database),
        eight_candidates,
        build_screens(ScreensSection()),
        budget=Budget(BudgetSection(trials=1)),
        epochs=2,
        observers=[Looking()],
    )
    number = started_by(trials).number
    database.flush()
    train(trials, number, 0.5, 0.6)
    database.close()
    assert states == [("started", [TrialState.RUNNING]), ("finished", [TrialState.COMPLETE])]


def test_observers_receive_metrics_that_never_change(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    trials = make_trials(eight_candidates, observers=[recorder])
    number = started_by(trials).number
    trials.report(number, metrics(0.5))
    trials.report(number, metrics(0.9, 2))
    assert recorder.of("reported")[0] == (number, metrics(0.5))


def test_a_failing_observer_is_dropped(
    vgg_space: Callable[..., CandidateSpace], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Even for SystemExit, which a closed pipe raises where the progress is printed."""

    class Broken(Observer):
        def started(self, trial: StartedTrial) -> None:
            raise SystemExit(1)

    class Counting(Observer):
        finished_trials = 0

        def finished(self, number: int, state: TrialState, cause: str) -> None:
            self.finished_trials += 1

    database = Database(tmp_path / "study.db", "watched")
    study = Study("watched", RandomSampler(seed=0), database=database)
    counting = Counting()
    trials = Trials(
        study,
        vgg_space(depth=[2, 3]),
        [],
        budget=Budget(BudgetSection(trials=3)),
        epochs=1,
        observers=(Broken(), counting),
    )
    while (trial := trials.next()) is not None:
        trials.report(trial.number, EpochMetrics(1, 1.0, 0.5, 1.0, 0.5, 0.1))
        trials.finish(trial.number)
    database.flush()
    database.close()
    assert counting.finished_trials == 3
    stored = read_trials(tmp_path / "study.db", "watched")
    assert [trial.state for trial in stored] == [TrialState.COMPLETE] * 3
    assert capsys.readouterr().err.count("Broken has stopped") == 1
