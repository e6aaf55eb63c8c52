"""When a search ends: spent budgets, common failures, interruption."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from optuna.trial import TrialState

from search.experiment.sections import BudgetSection
from search.loop.budget import Budget
from search.loop.failure_policy import HOPELESS_AFTER
from search.loop.trials import Decision
from spaces.candidate import CandidateSpace
from tests.search.loop.trial_runs import MakeTrials, Spaces, Train, all_started, resumed, started_by
from trainables.epoch_metrics import EpochMetrics


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


def test_no_trial_starts_once_further_ones_improve_too_little(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    expected = iter([0.004, 0.0009, 0.002, 0.0009, 0.0008, 0.0007])
    budget = Budget(BudgetSection(trials=8, until="improvement < 0.001"))
    trials = make_trials(eight_candidates, budget=budget, prospect=lambda: next(expected))
    started = all_started(trials, lambda n: train(trials, n, 0.5, 0.6, 0.7))
    assert len(started) == 6
    assert trials.prospect == 0.0007
    assert trials.converged
    assert trials.is_finished
    # The trials in training reach their end.
    assert not trials.stopping


def test_estimates_from_the_same_results_count_once(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    budget = Budget(BudgetSection(trials=8, until="improvement < 0.001"))
    trials = make_trials(eight_candidates, budget=budget, prospect=lambda: 0.0005)
    running = [started_by(trials).number for _ in range(5)]
    for number in running[:2]:
        assert not trials.converged
        train(trials, number, 0.5, 0.6, 0.7)
        started_by(trials)
    assert trials.converged


def test_a_resumed_search_remembers_the_expected_improvement(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    budget = Budget(BudgetSection(trials=8, until="improvement < 0.001"))
    trials = make_trials(eight_candidates, budget=budget, prospect=lambda: 0.0005)
    assert len(all_started(trials, lambda n: train(trials, n, 0.5, 0.6, 0.7))) == 3
    later = resumed(make_trials, trials, eight_candidates, budget=budget)
    assert later.prospect == 0.0005
    assert later.converged
    more = resumed(make_trials, trials, eight_candidates, budget=Budget(BudgetSection(trials=8)))
    assert not more.converged
