"""A later driver resumes the trials of a search from its study."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.trial import TrialState

from search.experiment.sections import BudgetSection
from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.trials import Decision, Trials
from search.study.database import Database
from search.study.storages import read_trials
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.vgg import vgg
from tests.search.loop.trial_runs import (
    OUT_OF_MEMORY,
    MakeTrials,
    Spaces,
    Train,
    all_started,
    resumed,
    several,
    started_by,
)
from trainables.epoch_metrics import EpochMetrics


@pytest.mark.parametrize("gently", [False, True])
def test_interrupted_trials_resume_first_under_their_numbers(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    train: Train,
    recorder: Any,
    gently: bool,
) -> None:
    first = make_trials(eight_candidates, limit=5)
    begun = [started_by(first) for _ in range(3)]
    train(first, begun[1].number, 0.5, 0.6, 0.7)
    first.report(begun[0].number, metrics(0.25))
    if gently:
        first.stop("interrupted")
        first.pause_all()
    later = resumed(make_trials, first, eight_candidates, limit=5, observers=[recorder])
    assert later.has_unfinished
    again = [started_by(later) for _ in range(2)]
    for old, new in zip((begun[0], begun[2]), again, strict=True):
        assert (new.number, new.params, new.seed) == (old.number, old.params, old.seed)
        assert new.candidate == old.candidate
        assert new.border == old.border
    assert later.study.trial(again[0].number).intermediate_values == {1: 0.25}
    new = started_by(later)
    assert new.number > max(trial.number for trial in begun)
    assert [number for number, _ in recorder.of("started")] == [
        *(trial.number for trial in again),
        new.number,
    ]


@pytest.mark.parametrize("ended", [True, False])
def test_edited_space_is_refused_on_resume_if_it_has_results(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    function_space: Callable[..., Any],
    train: Train,
    ended: bool,
) -> None:
    first = make_trials(eight_candidates, limit=5)
    begun = [started_by(first) for _ in range(2)]
    train(first, begun[0].number, *([0.5] * 3 if ended else []), cause="" if ended else "lost")
    edited = function_space(
        lambda trial, task: vgg(
            trial, task, depth=2, features=trial.suggest_int("features", 1, 8), kernel=3, pools=0
        )
    )
    if ended:
        with pytest.raises(BadInputError, match="the search did; restore functions_of_tests"):
            resumed(make_trials, first, edited, limit=5)
    else:
        # The worker refuses the interrupted trial; new candidates are of the edited space.
        again = started_by(resumed(make_trials, first, edited, limit=5))
        assert (again.number, again.seed) == (begun[1].number, begun[1].seed)
        assert again.digest == begun[1].digest != again.candidate.digest


def test_ended_trials_count_and_are_not_trained_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    first = make_trials(eight_candidates, limit=5)
    before = all_started(first, lambda n: train(first, n, 0.5, 0.6, 0.7))
    same = resumed(make_trials, first, eight_candidates, limit=5)
    assert same.is_finished
    assert not same.has_unfinished
    assert same.next() is None
    more = resumed(make_trials, first, eight_candidates, limit=8)
    after = all_started(more, lambda n: train(more, n, 0.5, 0.6, 0.7))
    assert (len(before), len(after)) == (5, 3)
    assert len({trial.candidate.digest for trial in (*before, *after)}) == 8
    numbers = [trial.number for trial in more.study.trials()]
    assert numbers == list(range(len(numbers)))


def test_a_stored_epoch_is_passed_on_but_not_stored_again(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    """The first report from a checkpoint repeats all epochs before it."""
    first = make_trials(eight_candidates)
    number = started_by(first).number
    first.report(number, metrics(0.25))
    later = resumed(make_trials, first, eight_candidates, observers=[recorder])
    assert started_by(later).number == number
    for epoch, accuracy in ((1, 0.25), (2, 0.5), (3, 0.75)):
        later.report(number, metrics(accuracy, epoch))
    later.finish(number)
    stored = later.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.COMPLETE, 0.75)
    assert stored.intermediate_values == {1: 0.25, 2: 0.5, 3: 0.75}
    assert (stored.user_attrs["epochs"], stored.user_attrs["seconds"]) == (3, 3.0)
    assert stored.user_attrs["history"] == {
        "1": metrics(0.25).values,
        "2": metrics(0.5).values,
        "3": metrics(0.75).values,
    }
    assert [metrics.epoch for _, metrics in recorder.of("reported")] == [1, 2, 3]


def test_device_hours_count_once_across_drivers(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
) -> None:
    fraction = {"device_fraction": lambda candidate: 0.5}
    first = make_trials(eight_candidates, **fraction)
    ended, aside = started_by(first).number, started_by(first).number
    first.report(ended, metrics(0.5, seconds=100.0))
    first.finish(ended)
    first.report(aside, metrics(0.5, seconds=60.0))
    first.stop("interrupted")
    first.pause_all()
    later = resumed(make_trials, first, eight_candidates, **fraction)
    assert first.device_seconds == later.device_seconds == 80
    assert started_by(later).number == aside
    assert later.device_seconds == 80
    later.report(aside, metrics(0.5, seconds=60.0))
    assert later.device_seconds == 80
    later.report(aside, metrics(0.5, 2, seconds=40.0))
    assert later.device_seconds == 100
    later.pause(aside)
    last = resumed(make_trials, later, eight_candidates, **fraction)
    assert last.device_seconds == 100


def test_spent_time_counts_before_a_trial_is_resumed(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    tmp_path: Path,
) -> None:
    """A cluster that has shrunk resumes the last trial long after the first."""
    path = tmp_path / "study.db"
    database = Database(path, "test")
    first = make_trials(
        eight_candidates, study=Study("test", RandomSampler(seed=0), database=database)
    )
    numbers = [started_by(first).number for _ in range(3)]
    for number in numbers:
        for epoch in (1, 2):
            first.report(number, metrics(0.5, epoch, seconds=1800.0))
    database.close()
    study = Study("test", RandomSampler(seed=1))
    study.restore(read_trials(path, "test"))
    later = make_trials(eight_candidates, study=study)
    assert later.device_seconds == 3 * 3600
    assert started_by(later).number == numbers[0]
    later.report(numbers[0], metrics(0.5, seconds=1800.0))
    assert later.device_seconds == 3 * 3600


def test_spent_time_counts_if_a_resumed_trial_is_lost(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
) -> None:
    first = make_trials(eight_candidates)
    number = started_by(first).number
    first.report(number, metrics(0.5, seconds=40.0))
    first.pause(number)
    later = resumed(make_trials, first, eight_candidates)
    assert started_by(later).number == number
    later.requeue(number)
    assert started_by(later).number == number
    later.finish(number, "its process failed again and again")
    assert later.device_seconds == 40
    assert resumed(make_trials, later, eight_candidates).device_seconds == 40


def test_another_thread_may_read_the_device_time(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
) -> None:
    trials = make_trials(eight_candidates, screens={"duplicates": False}, limit=150, epochs=10)
    ended = threading.Event()
    errors: list[RuntimeError] = []

    def ask() -> None:
        while not ended.is_set():
            try:
                _ = trials.device_seconds
            except RuntimeError as error:
                errors.append(error)

    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    asking = threading.Thread(target=ask)
    asking.start()
    try:
        while not trials.is_finished:
            started = trials.next()
            for epoch in range(1, 10) if started is not None else ():
                trials.report(started.number, metrics(0.5, epoch))
    finally:
        ended.set()
        asking.join()
        sys.setswitchinterval(interval)
    assert not errors


def test_a_resumed_search_without_money_trains_nothing(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
) -> None:
    limits = BudgetSection(money=1.0, price=1.0)
    first = make_trials(eight_candidates, budget=Budget(limits))
    number = started_by(first).number
    first.report(number, metrics(0.5, seconds=3600.0))
    assert first.decide(number) is Decision.PAUSE
    first.pause(number)
    later = resumed(make_trials, first, eight_candidates, budget=Budget(limits))
    assert later.next() is None
    assert later.stopping == "the budget of money is spent"
    more = limits.model_copy(update={"money": 2.0})
    richer = resumed(make_trials, first, eight_candidates, budget=Budget(more))
    assert started_by(richer).number == number


def test_trials_of_a_killed_driver_are_paused(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, recorder: Any
) -> None:
    first = make_trials(eight_candidates)
    left = [started_by(first).number for _ in range(2)]
    later = resumed(make_trials, first, eight_candidates, observers=[recorder])
    continued = started_by(later).number
    later.stop("interrupted")
    later.pause_all()
    later.pause_all()
    assert sorted(recorder.of("paused")) == [(number,) for number in left]
    assert [t.state for t in later.study.trials()] == [TrialState.WAITING] * 2
    again = resumed(make_trials, later, eight_candidates)
    assert sorted(started_by(again).number for _ in left) == left
    assert continued in left


def test_an_interrupted_candidate_is_not_drawn_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    first = make_trials(eight_candidates, limit=8)
    old = started_by(first)
    later = resumed(make_trials, first, eight_candidates, limit=8)
    found = all_started(later, lambda n: train(later, n, 0.5))
    assert found[0].number == old.number
    assert len({trial.candidate.digest for trial in found}) == len(found) == 8


def test_a_success_of_an_earlier_driver_counts(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    first = make_trials(vgg_space(), limit=12)
    train(first, started_by(first).number, 0.5)
    later = resumed(make_trials, first, vgg_space(), limit=12)
    assert len(all_started(later, lambda n: train(later, n, cause="out of memory"))) == 11
    assert not later.hopeless


def test_out_of_memory_candidates_stay_infeasible_on_resume(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    first = make_trials(eight_candidates, limit=9)
    large = started_by(first)
    train(first, large.number, cause=OUT_OF_MEMORY, violation=0.5)
    lost = started_by(first)
    train(first, lost.number, cause="the node died")
    later = resumed(make_trials, first, eight_candidates, limit=9)
    found = all_started(later, lambda n: train(later, n, 0.5))
    digests = [trial.candidate.digest for trial in found]
    assert large.candidate.digest not in digests
    assert digests.count(lost.candidate.digest) == 1


def test_early_stopping_resumes_from_the_study(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    train: Train,
) -> None:
    first = make_trials(eight_candidates, epochs=8, asha=Asha(8, 2, 2))
    train(first, started_by(first).number, 0.5, 0.5)
    aside = started_by(first).number
    for epoch in (1, 2):
        first.report(aside, metrics(0.6, epoch))
    assert first.decide(aside) is Decision.CONTINUE
    later = resumed(make_trials, first, eight_candidates, epochs=8, asha=Asha(8, 2, 2))
    assert started_by(later).number == aside
    worse, best = started_by(later).number, started_by(later).number
    for number, accuracy in ((best, 0.9), (worse, 0.3)):
        for epoch in (1, 2):
            later.report(number, metrics(accuracy, epoch))
    assert later.decide(best) is Decision.CONTINUE
    assert later.decide(worse) is Decision.STOP
    # It has passed that rung, whichever trials reached it since.
    for epoch, accuracy in ((1, 0.6), (2, 0.6), (3, 0.6)):
        later.report(aside, metrics(accuracy, epoch))
    assert later.decide(aside) is Decision.CONTINUE


def test_a_rung_passed_in_a_checkpoint_is_decided_when_reported(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    train: Train,
) -> None:
    trials = make_trials(eight_candidates, epochs=8, asha=Asha(8, 2, 2))
    train(trials, started_by(trials).number, 0.5, 0.5)
    number = started_by(trials).number
    for epoch in (1, 2, 3):  # In one report.
        trials.report(number, metrics(0.4, epoch))
    assert trials.decide(number) is Decision.STOP


def test_a_search_with_several_objectives_resumes(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    first = make_trials(eight_candidates, study=several("params"), limit=4)
    for accuracies in ((0.5,), (0.5, 0.6, 0.7)):
        train(first, started_by(first).number, *accuracies)
    later = resumed(make_trials, first, eight_candidates, limit=4)
    all_started(later, lambda n: train(later, n, 0.5))
    trained = [t for t in later.study.trials() if "rejected" not in t.user_attrs]
    assert len(trained) == 4
    assert all(trial.values is not None and len(trial.values) == 2 for trial in trained)


rounds = st.lists(
    st.tuples(
        st.lists(
            st.one_of(
                st.just(("next",)),
                st.tuples(st.just("epoch"), st.integers(0, 5), st.floats(0, 1)),
                st.tuples(st.just("lost"), st.integers(0, 5)),
            ),
            max_size=14,
        ),
        st.booleans(),
    ),
    max_size=4,
)


@settings(max_examples=60, deadline=None)
@given(sequence=rounds, limit=st.integers(1, 6), asha=st.booleans())
def test_every_trial_ends_once_however_often_drivers_are_killed(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    sequence: list[tuple[list[tuple[Any, ...]], bool]],
    limit: int,
    asha: bool,
) -> None:
    checkpoints: dict[int, list[float]] = {}
    ended: dict[int, TrialState] = {}
    digests: dict[int, str] = {}
    trials: Trials | None = None

    def driver() -> Trials:
        options = {"limit": limit, "asha": Asha(3, 1, 2) if asha else None}
        if trials is None:
            return make_trials(eight_candidates, **options)
        return resumed(make_trials, trials, eight_candidates, **options)

    def start(trials: Trials, running: dict[int, bool]) -> None:
        started = trials.next()
        if started is not None:
            assert started.number not in ended
            assert digests.setdefault(started.number, started.candidate.digest) == (
                started.candidate.digest
            )
            running[started.number] = True

    def train_epoch(trials: Trials, running: dict[int, bool], number: int, accuracy: float) -> None:
        checkpoints.setdefault(number, []).append(accuracy)
        for epoch, each in enumerate(checkpoints[number], start=1):
            trials.report(number, metrics(each, epoch))
        stops = trials.decide(number) is Decision.STOP
        if stops or len(checkpoints[number]) == 3:
            trials.finish(number)
            del running[number]
            ended[number] = trials.study.trial(number).state

    for steps, gently in sequence:
        trials = driver()
        running: dict[int, bool] = {}
        for operation, *arguments in steps:
            match operation, arguments:
                case "next", []:
                    start(trials, running)
                case "epoch", [which, accuracy] if running:
                    number = sorted(running)[which % len(running)]
                    train_epoch(trials, running, number, accuracy)
                case "lost", [which] if running:
                    checkpoints.pop(sorted(running)[which % len(running)], None)
        if gently:
            trials.stop("interrupted")
            trials.pause_all()
            assert not [t for t in trials.study.trials() if t.state is TrialState.RUNNING]
    trials = driver()
    running = {}
    while trials.has_unfinished or not trials.is_finished:
        start(trials, running)
        for number in list(running):
            if number in running:
                train_epoch(trials, running, number, 0.5)
    stored = trials.study.trials()
    assert [trial.number for trial in stored] == list(range(len(stored)))
    trained = {t.number: t.state for t in stored if "rejected" not in t.user_attrs}
    assert trained == ended
    assert len(trained) == limit
    assert set(trained.values()) <= {TrialState.COMPLETE, TrialState.PRUNED}
    assert len({digests[number] for number in trained}) == limit
    assert trials.device_seconds == sum(stored[number].user_attrs["seconds"] for number in trained)
