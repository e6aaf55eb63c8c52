"""The trials of a search: drawing, rejecting, recording and ending them."""

from __future__ import annotations

import math
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.trial import TrialState

from search.experiment.objectives import Objective
from search.experiment.schema import BudgetSection, ScreensSection
from search.loop import budget as budget_module
from search.loop import candidates
from search.loop import trials as module
from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.failure_policy import HOPELESS_AFTER
from search.loop.screens import build_screens
from search.loop.trials import Decision, Trials
from search.study.database import Database
from search.study.events import Observer, StartedTrial
from search.study.storages import read_trials
from search.study.study import Study
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.task import Task
from trainables.metrics import EpochMetrics

MakeTrials = Callable[..., Trials]
Train = Callable[..., None]
Spaces = Callable[..., CandidateSpace]


def started_by(trials: Trials) -> StartedTrial:
    """Return the next trial, however many time slices it takes."""
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            return started
    raise AssertionError("the search has ended")


def all_started(trials: Trials, end: Callable[[int], None]) -> list[StartedTrial]:
    """Run a search to its end, one trial at a time, and return the started trials."""
    found = []
    while not trials.is_finished:
        started = trials.next()
        if started is not None:
            found.append(started)
            end(started.number)
    return found


def any_width(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
    """Draw one of 32 networks that no screen rejects."""
    builder = Builder(task.image_shape)
    x = builder.add(Convolution(trial.suggest_int("features", 1, 32)), builder.image)
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """Replace the clock: ``clock.now`` sets it, each reading advances it by ``clock.step``."""
    state = SimpleNamespace(now=100.0, step=0.0)

    def monotonic() -> float:
        state.now += state.step
        return float(state.now)

    for each in (module, budget_module):
        monkeypatch.setattr(each, "time", SimpleNamespace(monotonic=monotonic))
    return state


# Drawing


def test_the_same_seed_draws_the_same_candidates(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    runs = []
    for accuracy in (0.1, 0.9):
        trials = make_trials(vgg_space(), limit=15, seed=3)
        found = all_started(trials, lambda n, t=trials, a=accuracy: train(t, n, a, a, a))
        runs.append([(trial.number, trial.params, trial.seed) for trial in found])
    assert runs[0] == runs[1]
    other = all_started(
        trials := make_trials(vgg_space(), limit=15, seed=4), lambda n: train(trials, n, 0.5)
    )
    assert [trial.params for trial in other] != [params for _, params, _ in runs[0]]


def test_a_started_trial_can_be_rebuilt_from_its_params(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    space = vgg_space()
    trials = make_trials(space, limit=10)
    for trial in all_started(trials, lambda n: train(trials, n, 0.5)):
        assert space.rebuild(trial.params) == trial.candidate
        stored = trials.study.trial(trial.number)
        assert stored.params == trial.params
        assert stored.user_attrs["digest"] == trial.candidate.digest
        assert stored.user_attrs["params"] == trial.costs.params
        assert stored.user_attrs["macs"] == trial.costs.macs
        assert stored.user_attrs["beyond"] == trial.border.beyond == 0


def test_a_candidate_has_one_training_seed_per_search_seed(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    seeds: dict[str, set[int]] = {}
    for border in ("off", "previous-conv"):
        trials = make_trials(vgg_space(), screens={"border": border}, limit=30, seed=7)
        for trial in all_started(trials, lambda n, t=trials: train(t, n, 0.5)):
            seeds.setdefault(trial.candidate.digest, set()).add(trial.seed)
    assert all(len(each) == 1 for each in seeds.values())
    assert len(set.union(*seeds.values())) == len(seeds)


def test_the_training_seed_depends_on_the_search_seed(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    runs = []
    for seed in (7, 8):
        trials = make_trials(eight_candidates, limit=8, seed=seed)
        found = all_started(trials, lambda n, t=trials: train(t, n, 0.5))
        runs.append({trial.candidate.digest: trial.seed for trial in found})
    first, second = runs
    assert set(first) == set(second)
    assert all(first[digest] != second[digest] for digest in first)


def test_the_border_screen_changes_only_what_is_trained(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train, recorder: Any
) -> None:
    screened = make_trials(vgg_space(), limit=20, seed=1, observers=[recorder])
    all_started(screened, lambda n: train(screened, n, 0.5))
    rejected = {
        screened.study.trial(number).user_attrs["digest"]
        for number, rejection in recorder.of("rejected")
        if rejection.reason == "border"
    }
    draws = len(screened.study.trials())
    free = make_trials(vgg_space(), screens={"border": "off"}, limit=draws, seed=1)
    found = all_started(free, lambda n: train(free, n, 0.5))
    assert len(rejected) >= 3
    assert rejected <= {trial.candidate.digest for trial in found}
    assert all(trial.border.beyond > 0 for trial in found if trial.candidate.digest in rejected)


# Rejections


def test_rejected_candidates_cost_no_trial(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train, recorder: Any
) -> None:
    trials = make_trials(vgg_space(depth=[1, 10]), limit=12, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, 0.5))
    assert len(found) == 12
    rejections = dict(recorder.of("rejected"))
    assert len(rejections) >= 3
    for stored in trials.study.trials():
        if stored.number in rejections:
            rejection = rejections[stored.number]
            assert stored.state is TrialState.PRUNED
            assert stored.user_attrs["rejected"] == rejection.reason
            assert stored.user_attrs["detail"] == rejection.detail
            assert stored.constraints == {rejection.reason: rejection.violation}
            assert "beyond" not in stored.user_attrs
        else:
            assert not stored.constraints


def test_a_fully_rejected_space_is_exhausted_after_a_limit(
    make_trials: MakeTrials, vgg_space: Spaces, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(candidates, "GIVE_UP_AFTER", 60)
    trials = make_trials(vgg_space(), screens={"max_params": 1}, limit=5)
    while not trials.is_finished:
        assert trials.next() is None
    assert trials.exhausted
    assert len(trials.study.trials()) == 60
    assert trials.next() is None
    assert len(trials.study.trials()) == 60
    assert not trials.has_unfinished


def test_drawing_yields_at_the_end_of_a_time_slice(
    make_trials: MakeTrials, vgg_space: Spaces, clock: SimpleNamespace
) -> None:
    trials = make_trials(vgg_space(), screens={"max_params": 1}, limit=5)
    clock.step = module.TIME_SLICE / 10
    assert trials.next() is None
    first = len(trials.study.trials())
    assert 1 <= first <= 12
    assert not trials.is_finished
    assert trials.next() is None
    assert first < len(trials.study.trials()) <= first + 12


def test_random_draws_replace_a_sampler_that_is_always_rejected(
    make_trials: MakeTrials, vgg_space: Spaces
) -> None:
    class Stubborn(RandomSampler):
        def sample_independent(self, study: Any, trial: Any, name: str, dist: Any) -> Any:
            if isinstance(dist, optuna.distributions.CategoricalDistribution):
                return dist.choices[-1]
            return dist.high

    study = Study("stubborn", Stubborn(), seed=0)
    trials = make_trials(vgg_space(depth=[1, 10]), study=study, limit=1)
    started = started_by(trials)
    assert started.border.beyond == 0
    assert candidates.EXPLORE_AFTER <= started.number < candidates.EXPLORE_AFTER + 100


# Duplicates


def test_a_search_ends_when_every_candidate_is_trained_once(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(candidates, "GIVE_UP_AFTER", 200)
    trials = make_trials(eight_candidates, limit=20)
    found = all_started(trials, lambda n: train(trials, n, 0.5, 0.6, 0.7))
    assert len(found) == 8
    assert len({trial.candidate.digest for trial in found}) == 8
    assert trials.exhausted


@pytest.mark.parametrize(
    ("accuracies", "state", "value"),
    [((0.5, 0.6, 0.7), TrialState.COMPLETE, 0.7), ((0.2, 0.4), TrialState.PRUNED, None)],
)
def test_a_duplicate_is_told_the_result_of_its_original(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    accuracies: tuple[float, ...],
    state: TrialState,
    value: float | None,
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, *accuracies))
    numbers = {trial.candidate.digest: trial.number for trial in found}
    duplicates = recorder.of("rejected")
    assert duplicates
    for number, rejection in duplicates:
        assert rejection.reason == "duplicate"
        stored = trials.study.trial(number)
        original = numbers[stored.user_attrs["digest"]] if "digest" in stored.user_attrs else None
        original = stored.user_attrs["duplicate_of"] if original is None else original
        assert stored.user_attrs["duplicate_of"] == original < number
        assert stored.params == trials.study.trial(original).params
        assert stored.state is state
        assert stored.value == value
        assert stored.intermediate_values == dict(enumerate(accuracies, start=1))
        # An infeasible duplicate would drive the sampler away from a good candidate.
        assert not stored.constraints


def test_a_duplicate_of_a_running_trial_fails(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    while not trials.is_finished:
        trials.next()
    duplicates = recorder.of("rejected")
    assert duplicates
    for number, _ in duplicates:
        assert trials.study.trial(number).state is TrialState.FAIL
        assert trials.study.trial(number).value is None
    assert all(
        trials.study.trial(number).state is TrialState.RUNNING
        for number, _ in recorder.of("started")
    )


def test_a_failed_candidate_may_be_tried_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    trials = make_trials(eight_candidates, limit=40)
    failing = started_by(trials)
    train(trials, failing.number, 0.5, cause="the machine went away")
    seen = Counter[str]()
    while not seen[failing.candidate.digest]:
        again = started_by(trials)
        seen[again.candidate.digest] += 1
        train(trials, again.number, 0.5, 0.6, 0.7)
    assert set(seen.values()) == {1}
    assert again.seed == failing.seed


def test_duplicates_are_trained_when_their_screen_is_off(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    trials = make_trials(eight_candidates, screens={"duplicates": False}, limit=20)
    found = all_started(trials, lambda n: train(trials, n, 0.5))
    assert [trial.number for trial in found] == list(range(20))


# The end of a search


def test_a_spent_wall_clock_pauses_trials_after_their_epoch(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    clock: SimpleNamespace,
    recorder: Any,
) -> None:
    budget = Budget(BudgetSection(trials=8, wall_clock=100))
    trials = make_trials(eight_candidates, budget=budget, observers=[recorder])
    clock.now = 199.9
    first, second = started_by(trials), started_by(trials)
    trials.report(first.number, metrics(0.5))
    assert trials.decide(first.number) is Decision.CONTINUE
    clock.now = 200.0
    assert trials.next() is None
    assert trials.is_finished
    assert trials.stopping == "the budget of time is spent"
    trials.report(first.number, metrics(0.6, 2))
    assert trials.decide(first.number) is Decision.PAUSE
    trials.pause(first.number)
    for epoch in (1, 2, 3):
        trials.report(second.number, metrics(0.5, epoch))
    # A trial that reached its last epoch is complete, whatever is spent.
    assert trials.decide(second.number) is Decision.CONTINUE
    trials.finish(second.number)
    assert trials.study.trial(first.number).state is TrialState.WAITING
    assert trials.study.trial(second.number).state is TrialState.COMPLETE
    assert recorder.of("paused") == [(first.number,)]


@pytest.mark.parametrize(
    ("limits", "cause"),
    [
        ({"device_hours": 2.0}, "the budget of device-hours is spent"),
        ({"money": 5.0, "price": 2.5}, "the budget of money is spent"),
    ],
)
def test_device_hours_count_the_fraction_of_a_device(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    limits: dict[str, float],
    cause: str,
) -> None:
    budget = Budget(BudgetSection(trials=8, **limits))
    trials = make_trials(eight_candidates, budget=budget, device_fraction=lambda candidate: 0.25)
    ended, running = started_by(trials), started_by(trials)
    trials.report(ended.number, metrics(0.5, seconds=3600.0))
    trials.finish(ended.number)
    assert trials.device_seconds == 900
    trials.report(running.number, metrics(0.5, seconds=6 * 3600.0))
    assert trials.device_seconds == 7 * 900
    assert trials.decide(running.number) is Decision.CONTINUE
    trials.report(running.number, metrics(0.5, 2, seconds=3600.0))
    assert trials.device_seconds == 2 * 3600
    assert trials.decide(running.number) is Decision.PAUSE
    assert trials.stopping == cause
    trials.pause(running.number)
    assert trials.device_seconds == 2 * 3600
    assert trials.next() is None


def test_no_trial_starts_beyond_the_limit(
    make_trials: MakeTrials, eight_candidates: CandidateSpace
) -> None:
    trials = make_trials(eight_candidates, limit=3)
    for _ in range(3):
        assert not trials.is_finished
        started_by(trials)
    assert trials.is_finished
    assert trials.next() is None
    assert sum(t.state is TrialState.RUNNING for t in trials.study.trials()) == 3


def test_pausing_all_leaves_no_trial_running(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, limit=4, observers=[recorder])
    for _ in range(3):
        started_by(trials)
    done, *left = (number for number, _ in recorder.of("started"))
    train(trials, done, 0.5, 0.6, 0.7)
    trials.stop("interrupted")
    trials.pause_all()
    trials.pause_all()
    assert trials.has_unfinished
    assert recorder.of("paused") == [(number,) for number in left]
    assert recorder.of("finished") == [(done, TrialState.COMPLETE, "")]
    assert trials.study.trial(done).state is TrialState.COMPLETE
    assert {trials.study.trial(number).state for number in left} == {TrialState.WAITING}
    assert not [t for t in trials.study.trials() if t.state is TrialState.RUNNING]


@pytest.mark.parametrize("first", ["interrupted", "the budget of time is spent"])
def test_the_first_cause_of_stopping_is_reported(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, first: str
) -> None:
    trials = make_trials(eight_candidates)
    trials.stop(first)
    trials.stop("something else")
    assert trials.stopping == first
    assert trials.is_finished
    assert trials.next() is None


def test_a_search_ends_when_its_first_trials_all_fail(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    trials = make_trials(vgg_space(), limit=20)
    found = all_started(trials, lambda n: train(trials, n, cause="no such device"))
    assert len(found) == HOPELESS_AFTER
    assert trials.hopeless == "no such device"


def test_running_trials_pause_when_the_search_is_hopeless(
    make_trials: MakeTrials,
    vgg_space: Spaces,
    train: Train,
    metrics: Callable[..., EpochMetrics],
) -> None:
    trials = make_trials(vgg_space(), limit=20)
    running = started_by(trials).number
    all_started(trials, lambda n: train(trials, n, cause="no such device"))
    assert trials.hopeless
    trials.report(running, metrics(0.5))
    assert trials.decide(running) is Decision.PAUSE


@pytest.mark.parametrize("good", [(0.5, 0.6, 0.7), (0.5,)])
def test_failures_after_a_success_do_not_end_a_search(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train, good: tuple[float, ...]
) -> None:
    trials = make_trials(vgg_space(), limit=15)
    train(trials, started_by(trials).number, *good)
    all_started(trials, lambda n: train(trials, n, cause="out of memory"))
    assert not trials.hopeless
    assert sum(t.state is TrialState.FAIL for t in trials.study.trials()) == 14


def test_diverged_losses_do_not_end_a_search(
    make_trials: MakeTrials, vgg_space: Spaces, metrics: Callable[..., EpochMetrics]
) -> None:
    trials = make_trials(vgg_space(), limit=12)

    def diverge(number: int) -> None:
        trials.report(number, metrics(0.1, loss=math.nan))
        trials.finish(number)

    assert len(all_started(trials, diverge)) == 12
    assert not trials.hopeless


# Out of memory

MEMORY = "out of memory: 3.0 GB are needed, there are 2.0 GB"


def test_out_of_memory_trial_is_infeasible_for_sampler(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    tmp_path: Path,
) -> None:
    database = Database(tmp_path / "study.db", "mine")
    study = Study("mine", RandomSampler(seed=0), database=database)
    trials = make_trials(eight_candidates, study=study, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, cause=MEMORY, violation=0.5)
    database.close()
    assert recorder.of("finished") == [(number, TrialState.FAIL, MEMORY)]
    for stored in (study.trial(number), read_trials(tmp_path / "study.db", "mine")[number]):
        assert (stored.state, stored.constraints) == (TrialState.PRUNED, {"memory": 0.5})
        assert stored.user_attrs["cause"] == MEMORY


def test_out_of_memory_trials_do_not_end_a_search(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    trials = make_trials(vgg_space(), limit=12)
    all_started(trials, lambda n: train(trials, n, cause=MEMORY, violation=0.5))
    assert len(trials.study.trials()) >= 12
    assert not trials.hopeless


def test_out_of_memory_trials_do_not_hide_other_failures(
    make_trials: MakeTrials, vgg_space: Spaces, train: Train
) -> None:
    trials = make_trials(vgg_space(), limit=20)
    endings = iter([0.5, 0.0] * 10)
    found = all_started(
        trials, lambda n: train(trials, n, cause="no such device", violation=next(endings))
    )
    assert trials.hopeless == "no such device"
    assert len(found) == 2 * HOPELESS_AFTER


def test_an_out_of_memory_candidate_is_not_tried_again(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, limit=8, observers=[recorder])
    found = all_started(trials, lambda n: train(trials, n, cause=MEMORY, violation=0.5))
    assert len({trial.candidate.digest for trial in found}) == 8
    duplicates = [trials.study.trial(number) for number, _ in recorder.of("rejected")]
    assert duplicates
    for stored in duplicates:
        assert (stored.state, stored.constraints) == (TrialState.PRUNED, {"memory": 0.5})


def test_the_sampler_avoids_candidates_without_enough_memory(
    make_trials: MakeTrials, train: Train, function_space: Spaces
) -> None:
    """Wider networks are better, but only a quarter of the widths fits.

    Told as failures, which samplers ignore, the others would be drawn ever more often.
    """
    fitting = {}
    for told in (False, True):
        study = Study("memory", TPESampler(seed=0))
        trials = make_trials(
            function_space(any_width),
            study=study,
            limit=60,
            epochs=1,
            screens={"duplicates": False},
        )
        train(trials, started_by(trials).number, 0.1)
        fits = []
        for _ in range(59):
            started = started_by(trials)
            excess = started.params["features"] / 8 - 1
            fits.append(excess <= 0)
            if excess <= 0:
                train(trials, started.number, started.params["features"] / 10)
            else:
                violation = excess if told else 0.0
                train(trials, started.number, cause=MEMORY, violation=violation)
        fitting[told] = sum(fits[-30:]) / 30
    assert fitting[False] <= 0.25
    assert fitting[True] >= 0.4


# Trials that stop themselves


def test_a_trial_that_stops_itself_is_pruned_with_its_reason(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, 0.1, 0.12, stopped="no better than a guess")
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (TrialState.PRUNED, 0.12)
    assert stored.user_attrs["stopped"] == "no better than a guess"
    assert not stored.constraints
    assert recorder.of("finished") == [(number, TrialState.PRUNED, "no better than a guess")]


# Several objectives


def several(*objectives: Objective, sampler: BaseSampler | None = None, **options: Any) -> Study:
    return Study(
        "several", sampler or RandomSampler(seed=0), objectives=("accuracy", *objectives), **options
    )


def test_pruned_trials_are_told_with_all_objectives(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    study = several("macs", "batch_latency", "params", "latency")
    trials = make_trials(eight_candidates, study=study, epochs=2, observers=[recorder])
    for accuracies in ((0.3, 0.6), (0.2,)):
        started = started_by(trials)
        for epoch, accuracy in enumerate(accuracies, start=1):
            latencies = {"latency_ms": 0.5, "batch_latency_ms": 8.0}
            trials.report(started.number, metrics(accuracy, epoch).with_latencies(latencies))
        trials.finish(started.number)
        costs = started.costs
        assert study.trial(started.number).values == [
            accuracies[-1],
            costs.macs,
            8.0,
            costs.params,
            0.5,
        ]
    assert [state.name for _, state, _ in recorder.of("finished")] == ["COMPLETE", "PRUNED"]


def test_a_network_that_learns_nothing_is_infeasible(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    study = several("params")
    trials = make_trials(eight_candidates, study=study, epochs=3)
    started = started_by(trials)
    train(trials, started.number, 0.1, stopped="no better than a guess")
    stored = study.trial(started.number)
    assert stored.values == [0.1, started.costs.params]
    assert stored.constraints == {"hopeless": 1.0}


def test_a_trial_without_its_latency_fails_with_the_cause(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, study=several("latency"), observers=[recorder])
    number = started_by(trials).number
    train(trials, number, 0.5, 0.6, 0.7)
    cause = "the trial did not report latency_ms"
    assert recorder.of("finished") == [(number, TrialState.FAIL, cause)]


def test_a_duplicate_is_told_all_values_of_its_original(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    study = several("params")
    trials = make_trials(eight_candidates, study=study, limit=8, observers=[recorder])
    all_started(trials, lambda n: train(trials, n, 0.5))
    duplicates = [study.trial(number) for number, _ in recorder.of("rejected")]
    assert duplicates
    for stored in duplicates:
        assert stored.values == study.trial(stored.user_attrs["duplicate_of"]).values


def test_the_sampler_learns_from_several_objectives(
    make_trials: MakeTrials, train: Train, function_space: Spaces
) -> None:
    """More than eight features, a quarter of the widths, cost more and do not help."""
    study = several("params", sampler=TPESampler(seed=0))
    trials = make_trials(
        function_space(any_width), study=study, limit=80, epochs=3, screens={"duplicates": False}
    )
    drawn = []
    while not trials.is_finished:
        started = started_by(trials)
        features = started.params["features"]
        drawn.append(features)
        accuracy = min(features, 8) / 10
        match started.number % 4:
            case 0:
                train(trials, started.number, accuracy, cause="lost")
            case 1:
                train(trials, started.number, accuracy, accuracy, accuracy)
            case _:
                train(trials, started.number, accuracy)
    assert sum(features <= 8 for features in drawn[-40:]) >= 24


# What the study stores of a trial


@pytest.mark.parametrize(
    ("accuracies", "cause", "state", "value"),
    [
        ((0.5, 0.6, 0.7), "", TrialState.COMPLETE, 0.7),
        ((0.5, 0.6), "", TrialState.PRUNED, 0.6),
        ((0.5,), "", TrialState.PRUNED, 0.5),
        ((), "", TrialState.FAIL, None),
        ((), "out of memory", TrialState.FAIL, None),
        ((0.5, 0.6), "out of memory", TrialState.FAIL, None),
        ((0.5, 0.6, 0.7), "out of memory", TrialState.FAIL, None),
        ((0.5, math.nan), "", TrialState.FAIL, None),
    ],
)
def test_a_trial_is_complete_only_after_its_last_epoch(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    train: Train,
    recorder: Any,
    accuracies: tuple[float, ...],
    cause: str,
    state: TrialState,
    value: float | None,
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    train(trials, number, *accuracies, cause=cause)
    stored = trials.study.trial(number)
    assert (stored.state, stored.value) == (state, value)
    assert stored.user_attrs["epochs"] == len(accuracies)
    assert stored.user_attrs["seconds"] == len(accuracies)
    assert stored.user_attrs.get("cause", "") == cause
    ((told, told_state, told_cause),) = recorder.of("finished")
    assert (told, told_state) == (number, state)
    assert bool(told_cause) == (state is TrialState.FAIL)
    if cause:
        assert told_cause == cause


@pytest.mark.parametrize("loss", ["train_loss", "validation_loss"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_loss_that_is_not_finite_fails_the_trial(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
    loss: str,
    value: float,
) -> None:
    trials = make_trials(eight_candidates, epochs=2, observers=[recorder])
    number = started_by(trials).number
    trials.report(number, metrics(0.5))
    trials.report(number, replace(metrics(0.5, 2), **{loss: value}))
    trials.finish(number)
    assert trials.study.trial(number).state is TrialState.FAIL
    assert recorder.of("finished") == [(number, TrialState.FAIL, "the loss is no longer a number")]


def test_repeated_or_late_epochs_are_ignored(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    trials = make_trials(eight_candidates, epochs=3, observers=[recorder])
    number = started_by(trials).number
    for epoch, accuracy in ((1, 0.5), (1, 0.9), (2, 0.6), (1, 0.9), (2, 0.1), (3, 0.7), (3, 0.2)):
        trials.report(number, metrics(accuracy, epoch, seconds=2.0))
    trials.finish(number)
    stored = trials.study.trial(number)
    assert stored.intermediate_values == {1: 0.5, 2: 0.6, 3: 0.7}
    assert (stored.state, stored.value) == (TrialState.COMPLETE, 0.7)
    assert (stored.user_attrs["seconds"], stored.user_attrs["epochs"]) == (6.0, 3)
    assert stored.user_attrs["train_accuracy"] == 0.7
    assert [(n, metrics.epoch) for n, metrics in recorder.of("reported")] == [
        (number, 1),
        (number, 2),
        (number, 3),
    ]


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


# Observers


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


# Resuming a search


def resumed(
    make_trials: MakeTrials, before: Trials, space: CandidateSpace, **options: Any
) -> Trials:
    """Return the trials of a later driver, which knows only the study."""
    known = before.study.trials()
    study = Study("test", RandomSampler(seed=1 + len(known)), objectives=before.study.objectives)
    study.restore(known)
    return make_trials(space, study=study, **options)


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
    train(first, large.number, cause=MEMORY, violation=0.5)
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


# Spaces that fail in the middle of a search


def test_a_space_that_fails_during_the_search_is_refused(
    make_trials: MakeTrials, function_space: Spaces
) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        features = trial.suggest_int("features", 1, 100)
        if features > 70:
            raise RuntimeError("too many")
        builder = Builder(task.image_shape)
        x = builder.add(GlobalPooling(), builder.add(Convolution(features), builder.image))
        builder.add(Linear(task.classes if features > 30 else 3), x)
        return builder.build()

    problems = set()
    for seed in range(12):
        trials = make_trials(function_space(space), limit=100, seed=seed)
        with pytest.raises(BadInputError) as caught:
            all_started(trials, trials.finish)
        assert caught.value.field == "space"
        problems.add(caught.value.problem.split(":")[0].split(" in ")[0])
    assert problems == {"the space function raised RuntimeError", "its networks end"}


def test_the_sampler_is_told_of_every_trial_that_ends() -> None:
    told: list[tuple[int, TrialState]] = []

    class Listening(RandomSampler):
        def after_trial(self, study: Any, trial: Any, state: TrialState, values: Any) -> None:
            told.append((trial.number, state))

    sampler: BaseSampler = Listening(seed=0)
    study = Study("listening", sampler)
    study.reject(study.ask(), "border", 1.0, {})
    study.start(study.ask(), {})
    study.report(1, 1, 0.5)
    study.finish(1, TrialState.COMPLETE, {})
    assert told == [(0, TrialState.PRUNED), (1, TrialState.COMPLETE)]


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
