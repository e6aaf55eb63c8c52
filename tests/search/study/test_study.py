"""The study: memory and database hold the same trials."""

from __future__ import annotations

import itertools
import math
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import IntDistribution
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.experiment.objectives import Objective
from search.study.database import Database
from search.study.records import TrialRecord
from search.study.storages import open_storage, read_trials
from search.study.study import Study
from spaces.errors import BadInputError

ROOT = Path(__file__).resolve().parents[3]
OBJECTIVES: tuple[Objective, ...] = ("accuracy", "params", "latency")
names = (f"study {number}" for number in itertools.count())


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one database for many studies, because creating the file is slow."""
    return tmp_path_factory.mktemp("study") / "study.db"


@pytest.fixture
def durable(path: Path) -> Iterator[tuple[Study, Database, Callable[[], list[FrozenTrial]]]]:
    """Return a study, its database, and a function that reads what is stored."""
    name = next(names)
    database = Database(path, name)
    study = Study(name, RandomSampler(seed=0), database=database)
    yield study, database, lambda: read_trials(path, name)
    database.close()


def draw(study: Study) -> Any:
    trial = study.ask()
    trial.suggest_int("depth", 1, 5)
    trial.suggest_float("rate", 1e-3, 1.0, log=True)
    trial.suggest_categorical("kernel", (3, 5))
    return trial


def facts(trial: FrozenTrial) -> str:
    """Return the contents of a trial as text, in which NaN equals NaN."""
    return repr(
        (
            trial.number,
            trial.state,
            trial.values,
            sorted(trial.params.items()),
            sorted(trial.distributions.items()),
            sorted(trial.constraints.items()),
            sorted(trial.intermediate_values.items()),
            sorted(trial.user_attrs.items()),
            trial.datetime_start is not None,
            trial.datetime_complete is not None,
        )
    )


# SQLite has no negative zero.
scores = (
    st.floats(allow_nan=True, allow_infinity=True)
    .map(lambda score: score + 0.0)
    .map(lambda value: value + 0.0)
)
attributes = st.dictionaries(
    st.sampled_from(["params", "macs", "detail"]),
    st.one_of(st.integers(0, 10**15), st.floats(0, 1), st.text(max_size=5), st.none()),
    max_size=2,
)
operations = st.lists(
    st.one_of(
        st.tuples(st.just("reject"), st.floats(1e-6, 1e6), attributes),
        st.tuples(st.just("start"), attributes),
        st.tuples(st.just("report"), st.integers(0, 9), st.integers(1, 5), scores),
        st.tuples(
            st.just("finish"),
            st.integers(0, 9),
            st.sampled_from(TrialState),
            attributes,
            st.dictionaries(st.sampled_from(["memory", "hopeless"]), st.floats(1e-6, 1e6)),
        ),
        st.tuples(
            st.just("close"), st.sampled_from(["FAIL", "COMPLETE", "PRUNED"]), st.floats(0, 1)
        ),
    ),
    max_size=14,
)


@settings(max_examples=25, deadline=None)
@given(sequence=operations, tpe=st.booleans(), costs=st.sampled_from([(), (7.0,), (7.0, 0.5)]))
def test_memory_and_database_hold_the_same_trials(
    path: Path, sequence: list[tuple[Any, ...]], tpe: bool, costs: tuple[float, ...]
) -> None:
    name = next(names)
    objectives = OBJECTIVES[: 1 + len(costs)]
    database = Database(path, name, objectives=objectives)
    sampler: BaseSampler = TPESampler(seed=1, n_startup_trials=2) if tpe else RandomSampler(seed=1)
    study = Study(name, sampler, objectives=objectives, database=database)
    running: list[int] = []
    told: dict[int, TrialState] = {}
    reported: dict[int, dict[int, float]] = {}
    for operation, *arguments in sequence:
        match operation, arguments:
            case "reject", [violation, kept]:
                trial = draw(study)
                study.reject(trial, "border", violation, kept)
                told[trial.number] = TrialState.PRUNED
            case "start", [kept]:
                trial = draw(study)
                study.start(trial, kept)
                running.append(trial.number)
                told[trial.number] = TrialState.RUNNING
            case "report", [which, step, value] if running:
                number = running[which % len(running)]
                study.report(number, step, value)
                reported.setdefault(number, {})[step] = value
            case "finish", [which, state, kept, constraints] if running and state.is_finished():
                number = running.pop(which % len(running))
                study.finish(number, state, kept, costs=costs, constraints=constraints)
                steps = reported.get(number, {})
                usable = bool(steps) and math.isfinite(steps[max(steps)])
                happened = state if usable else TrialState.FAIL
                assert TrialRecord.of(study.trial(number)).outcome is happened
                assert study.trial(number).constraints == constraints
                told[number] = happened
                if happened is TrialState.FAIL and constraints:
                    told[number] = TrialState.PRUNED
                if happened is TrialState.PRUNED and costs:
                    told[number] = TrialState.COMPLETE
            case "close", [state, value]:
                trial = draw(study)
                # With several objectives, only infeasible trials are told as pruned.
                infeasible = bool(costs) and state == "PRUNED"
                study.close(
                    trial,
                    TrialState[state],
                    {"duplicate_of": 0},
                    values=[value, *costs],
                    intermediate={1: value},
                    constraints={"memory": 1.0} if infeasible else None,
                )
                told[trial.number] = TrialState[state]
    database.close()
    stored = read_trials(path, name)
    assert [trial.number for trial in stored] == list(range(len(told)))
    assert [facts(trial) for trial in stored] == [facts(trial) for trial in study.trials()]
    assert {trial.number: trial.state for trial in stored} == told


def test_a_rejected_trial_is_pruned_and_infeasible(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]],
) -> None:
    study, database, stored = durable
    study.reject(draw(study), "border", 2.0, {"params": 7})
    database.flush()
    for trial in (study.trial(0), stored()[0]):
        assert trial.state is TrialState.PRUNED
        assert trial.constraints == {"border": 2.0}
        assert trial.user_attrs == {"rejected": "border", "params": 7}


def test_the_sampler_avoids_rejected_candidates() -> None:
    """Optuna's TPE prefers smaller violations among infeasible trials."""
    study = Study("turn", TPESampler(seed=0, n_startup_trials=10))
    drawn = []
    for _ in range(60):
        trial = study.ask()
        depth = trial.suggest_int("depth", 1, 20)
        drawn.append(depth)
        if depth > 4:
            study.reject(trial, "border", float(depth - 4), {})
        else:
            study.start(trial, {})
            study.report(trial.number, 1, 0.5)
            study.finish(trial.number, TrialState.COMPLETE, {})
    # At random, a fifth of the draws is accepted.
    assert sum(depth <= 4 for depth in drawn[-30:]) >= 15


@pytest.mark.parametrize("last", [math.nan, math.inf, -math.inf])
@pytest.mark.parametrize("state", [TrialState.COMPLETE, TrialState.PRUNED])
def test_a_trial_whose_last_value_is_not_finite_fails(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]],
    last: float,
    state: TrialState,
) -> None:
    study, database, stored = durable
    trial = draw(study)
    study.start(trial, {})
    study.report(0, 1, 0.5)
    study.report(0, 2, last)
    study.finish(0, state, {})
    database.flush()
    for found in (study.trial(0), stored()[0]):
        assert found.state is TrialState.FAIL
        assert found.value is None
        assert found.intermediate_values[1] == 0.5


@pytest.mark.parametrize("reported", [{}, {1: 0.5}])
def test_a_failed_infeasible_trial_is_told_as_pruned(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]], reported: dict[int, float]
) -> None:
    study, database, stored = durable
    study.start(draw(study), {"digest": "a"})
    for step, value in reported.items():
        study.report(0, step, value)
    study.finish(0, TrialState.FAIL, {"cause": "out of memory"}, constraints={"memory": 0.25})
    database.flush()
    for trial in (study.trial(0), stored()[0]):
        assert (trial.state, trial.constraints) == (TrialState.PRUNED, {"memory": 0.25})
        record = TrialRecord.of(trial)
        assert (record.outcome, record.accuracy) == (TrialState.FAIL, None)
        assert trial.user_attrs["cause"] == "out of memory"
        assert trial.intermediate_values == reported


def test_pruned_trials_of_several_objectives_are_told_complete(
    path: Path,
) -> None:
    name = next(names)
    database = Database(path, name, objectives=OBJECTIVES)
    study = Study(name, RandomSampler(seed=0), objectives=OBJECTIVES, database=database)
    for state in (TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL):
        trial = draw(study)
        study.start(trial, {})
        study.report(trial.number, 1, 0.5)
        study.finish(trial.number, state, {}, costs=(1000.0, 2.5))
    database.close()
    for trials in (study.trials(), read_trials(path, name)):
        assert [TrialRecord.of(trial).outcome.name for trial in trials] == [
            "COMPLETE",
            "PRUNED",
            "FAIL",
        ]
        assert [trial.state.name for trial in trials] == ["COMPLETE", "COMPLETE", "FAIL"]
        assert [trial.values for trial in trials] == [[0.5, 1000.0, 2.5]] * 2 + [None]
        assert [TrialRecord.of(trial).accuracy for trial in trials] == [0.5, 0.5, None]


def test_a_cost_that_is_not_finite_fails_the_trial() -> None:
    study = Study("broken", RandomSampler(seed=0), objectives=OBJECTIVES)
    study.start(draw(study), {})
    study.report(0, 1, 0.5)
    study.finish(0, TrialState.COMPLETE, {}, costs=(1000.0, math.nan))
    assert (study.trial(0).state, study.trial(0).values) == (TrialState.FAIL, None)


def test_a_trial_that_never_reported_fails() -> None:
    study = Study("silent", RandomSampler(seed=0))
    study.start(draw(study), {})
    study.finish(0, TrialState.COMPLETE, {"seconds": 0})
    assert study.trial(0).state is TrialState.FAIL


def test_the_value_of_a_trial_is_that_of_its_last_epoch(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]],
) -> None:
    study, database, stored = durable
    for state in (TrialState.COMPLETE, TrialState.PRUNED):
        trial = draw(study)
        study.start(trial, {})
        for epoch, reached in enumerate((0.5, 0.9, 0.7), start=1):
            study.report(trial.number, epoch, reached)
        study.finish(trial.number, state, {"epochs": 3})
    database.flush()
    for trial in (*study.trials(), *stored()):
        assert trial.value == 0.7
        assert trial.intermediate_values == {1: 0.5, 2: 0.9, 3: 0.7}


def test_a_taken_name_is_refused_and_its_trials_stay(path: Path) -> None:
    name = next(names)
    database = Database(path, name)
    study = Study(name, RandomSampler(seed=0), database=database)
    study.reject(draw(study), "border", 1.0, {})
    database.close()
    with pytest.raises(BadInputError) as caught:
        Database(path, name)
    assert (caught.value.field, caught.value.value) == ("name", name)
    assert len(read_trials(path, name)) == 1


@pytest.mark.parametrize("there", [False, True])
def test_reading_a_missing_study_creates_nothing(tmp_path: Path, there: bool) -> None:
    path = tmp_path / "study.db"
    if there:
        Database(path, "other").close()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(BadInputError, match="there is no study"):
        read_trials(path, "mine")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("folder", ["with space", "50%20", "a?b", "a#b", "[x]", "ä:1"])
def test_the_folder_of_a_database_may_have_any_name(tmp_path: Path, folder: str) -> None:
    path = tmp_path / folder / "study.db"
    path.parent.mkdir()
    database = Database(path, "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    study.reject(draw(study), "border", 1.0, {})
    database.close()
    assert path.is_file()
    assert [each.name for each in tmp_path.iterdir()] == [folder]
    assert len(read_trials(path, "mine")) == 1


def test_drawing_at_random_does_not_depend_on_the_sampler() -> None:
    draws = []
    for sampler in (RandomSampler(seed=1), RandomSampler(seed=2)):
        study = Study("explore", sampler, seed=5)
        study.ask().suggest_int("x", 0, 10**9)
        draws.append([study.ask(explore=True).suggest_int("x", 0, 10**9) for _ in range(3)])
    assert draws[0] == draws[1]
    assert len(set(draws[0])) == 3


# Resuming a study


def restored(path: Path, name: str) -> tuple[Study, Database]:
    """Return a stored study as a later driver restores it."""
    database = Database(path, name, resume=True)
    study = Study(name, RandomSampler(seed=9), database=database)
    study.restore(database.load())
    return study, database


def left_behind(path: Path, name: str) -> None:
    """Leave a study like a driver that was killed while one trial ran and another was paused."""
    database = Database(path, name)
    study = Study(name, RandomSampler(seed=0), database=database)
    study.reject(draw(study), "border", 2.0, {"params": 7})
    for _ in range(3):
        study.start(draw(study), {"digest": "a"})
    study.report(1, 1, 0.5)
    study.report(2, 1, 0.25)
    study.report(3, 1, 0.75)
    study.finish(1, TrialState.COMPLETE, {"epochs": 1})
    study.pause(2, {"seconds": 3.5})
    database.close()


def test_unfinished_trials_are_restored_as_running(
    path: Path,
) -> None:
    left_behind(path, name := next(names))
    before = read_trials(path, name)
    states = [TrialState.PRUNED, TrialState.COMPLETE, TrialState.WAITING, TrialState.RUNNING]
    assert [trial.state for trial in before] == states
    study, database = restored(path, name)
    running = [*states[:2], TrialState.RUNNING, TrialState.RUNNING]
    assert [trial.state for trial in study.trials()] == running
    for stored, known in zip(before, study.trials(), strict=True):
        stored.state = known.state
        assert facts(stored) == facts(known)
    assert study.trial(2).user_attrs == {"digest": "a", "seconds": 3.5}
    database.close()


def test_a_later_driver_continues_the_stored_trials(
    path: Path,
) -> None:
    left_behind(path, name := next(names))
    study, database = restored(path, name)
    new = draw(study)
    study.start(new, {"digest": "b"})
    assert new.number == 4
    for number in (2, 3):
        study.resume(number)
        study.report(number, 2, 0.875)
        study.finish(number, TrialState.COMPLETE, {"epochs": 2})
    database.close()
    stored = read_trials(path, name)
    assert [facts(trial) for trial in stored] == [facts(trial) for trial in study.trials()]
    assert [trial.state.name for trial in stored[1:]] == ["COMPLETE"] * 3 + ["RUNNING"]
    assert stored[3].intermediate_values == {1: 0.75, 2: 0.875}


def test_a_resumed_trial_can_be_paused_again(
    path: Path,
) -> None:
    left_behind(path, name := next(names))
    study, database = restored(path, name)
    study.resume(2)
    database.flush()
    assert read_trials(path, name)[2].state is TrialState.RUNNING
    study.pause(2, {"seconds": 5.0})
    database.close()
    waiting = read_trials(path, name)[2]
    assert (waiting.state, waiting.user_attrs["seconds"]) == (TrialState.WAITING, 5.0)
    assert waiting.intermediate_values == {1: 0.25}


def test_inherited_trials_get_numbers_of_their_own(path: Path) -> None:
    database = Database(path, name := next(names))
    study = Study(name, RandomSampler(seed=0), database=database)
    distributions = {"depth": IntDistribution(1, 5)}
    for depth in (2, 3):
        study.add(
            create_trial(
                values=[0.5],
                params={"depth": depth},
                distributions=distributions,
                user_attrs={"inherited": "other"},
            )
        )
    study.start(draw(study), {"digest": "a"})
    database.close()
    stored = read_trials(path, name)
    assert [facts(trial) for trial in stored] == [facts(trial) for trial in study.trials()]
    assert [trial.params["depth"] for trial in stored[:2]] == [2, 3]
    assert [trial.number for trial in stored] == [0, 1, 2]


def test_enqueued_params_are_no_trial_until_drawn(path: Path) -> None:
    database = Database(path, name := next(names))
    study = Study(name, RandomSampler(seed=0), database=database)
    study.enqueue({"depth": 4})
    study.enqueue({"depth": 5})
    assert study.trials() == []
    first = draw(study)
    study.start(first, {"digest": "a"})
    assert (first.number, first.params["depth"]) == (0, 4)
    assert [trial.number for trial in study.trials()] == [0]
    database.close()
    assert [facts(trial) for trial in read_trials(path, name)] == [facts(study.trial(0))]


def test_a_half_written_ending_is_overwritten(
    path: Path,
) -> None:
    """A driver was killed after writing the verdict, before writing the state."""
    database = Database(path, name := next(names))
    study = Study(name, RandomSampler(seed=0), database=database)
    study.start(draw(study), {"digest": "a"})
    study.report(0, 1, 0.5)
    database.close()
    storage = open_storage(path)
    trial_id = read_trials(path, name)[0]._trial_id
    storage.set_trial_user_attr(trial_id, "verdict", "fail")
    storage.engine.dispose()
    study, database = restored(path, name)
    assert TrialRecord.of(study.trial(0)).outcome is TrialState.RUNNING
    study.finish(0, TrialState.COMPLETE, {"epochs": 1})
    database.close()
    for trial in (study.trial(0), read_trials(path, name)[0]):
        assert (trial.state, TrialRecord.of(trial).outcome) == (
            TrialState.COMPLETE,
            TrialState.COMPLETE,
        )


def test_calls_follow_their_writes_in_order(path: Path) -> None:
    name = next(names)
    database = Database(path, name)
    study = Study(name, RandomSampler(seed=0), database=database)
    seen: list[tuple[int, int]] = []
    for number in range(5):
        study.reject(draw(study), "border", 1.0, {})
        study.then(lambda n=number: seen.append((n, len(read_trials(path, name)))))
    database.flush()
    assert [number for number, _ in seen] == [0, 1, 2, 3, 4]
    assert all(stored > number for number, stored in seen)
    database.close()


def test_nothing_is_written_after_a_failed_write(path: Path) -> None:
    name = next(names)
    database = Database(path, name)
    study = Study(name, RandomSampler(seed=0), database=database)
    study.reject(draw(study), "border", 1.0, {})

    def fail() -> None:
        raise OSError("the disk is full")

    later: list[int] = []
    released = threading.Event()

    def wait() -> None:
        released.wait(30)

    # All calls are queued before the failure.
    for call in (wait, fail, lambda: later.append(1)):
        database.then(call)
    released.set()
    with pytest.raises(OSError, match="the disk is full"):
        database.flush()
    with pytest.raises(OSError, match="the disk is full"):
        database.then(lambda: later.append(2))
    database.close()
    assert later == []
    assert len(read_trials(path, name)) == 1


WRITER = """
import sys
from pathlib import Path
from optuna.samplers import RandomSampler
from optuna.trial import TrialState
from search.study.database import Database
from search.study.study import Study

study = Study("mine", RandomSampler(seed=0), database=Database(Path(sys.argv[1]), "mine"))
while True:
    trial = study.ask()
    depth = trial.suggest_int("depth", 1, 1000)
    if trial.number % 2:
        study.reject(trial, "border", 1.0, {"depth": depth})
    else:
        study.start(trial, {"depth": depth})
        study.report(trial.number, 1, depth / 1000)
        study.finish(trial.number, TrialState.COMPLETE, {"epochs": 1})
    study.then(lambda n=trial.number, d=depth: print(n, d, flush=True))
"""


def test_a_killed_writer_leaves_everything_it_passed_on(tmp_path: Path) -> None:
    path = tmp_path / "study.db"
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        told = [writer.stdout.readline().split() for _ in range(25)]
        os.kill(writer.pid, signal.SIGKILL)
        # The pipe holds further lines; the last may be incomplete.
        told += [line.split() for line in writer.stdout.read().split("\n")[:-1]]
    trials = read_trials(path, "mine")
    assert len(told) >= 25
    assert len(trials) >= len(told)
    for (number, depth), trial in zip(told, trials, strict=False):
        assert (trial.number, trial.params) == (int(number), {"depth": int(depth)})
        assert trial.user_attrs["depth"] == int(depth)
        if trial.number % 2:
            assert (trial.state, trial.constraints) == (TrialState.PRUNED, {"border": 1.0})
        else:
            assert (trial.state, trial.value) == (TrialState.COMPLETE, int(depth) / 1000)
    with sqlite3.connect(path) as connection:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


def test_an_open_reader_does_not_block_the_writer(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]], path: Path
) -> None:
    study, database, stored = durable
    study.reject(draw(study), "border", 1.0, {})
    database.flush()
    reader = sqlite3.connect(path)
    reader.execute("BEGIN")
    reader.execute("SELECT count(*) FROM trials").fetchone()  # Starts a snapshot.
    study.reject(draw(study), "border", 1.0, {})
    database.flush()
    assert len(stored()) == 2
    reader.close()


def test_a_writer_in_a_transaction_does_not_block_readers(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]], path: Path
) -> None:
    study, database, stored = durable
    study.reject(draw(study), "border", 1.0, {})
    database.flush()
    writer = sqlite3.connect(path)
    writer.execute("BEGIN IMMEDIATE")
    assert len(stored()) == 1
    writer.rollback()
    writer.close()


def test_readers_see_complete_trials_in_order(
    durable: tuple[Study, Database, Callable[[], list[FrozenTrial]]],
) -> None:
    study, _, stored = durable
    half, released = threading.Event(), threading.Event()

    def wait() -> None:
        released.wait(30)

    for number in range(60):
        study.reject(draw(study), "border", 1.0, {"depth": number})
        if number == 20:
            study.then(half.set)
            study.then(wait)
    half.wait(30)
    seen = [stored()]
    released.set()
    while len(seen[-1]) < 60:
        seen.append(stored())
    assert 21 <= len(seen[0]) < 60
    lengths = [len(trials) for trials in seen]
    assert lengths == sorted(lengths)
    for trials in seen:
        assert [trial.user_attrs.get("depth") for trial in trials] == list(range(len(trials)))
        assert {trial.state for trial in trials} == {TrialState.PRUNED}
