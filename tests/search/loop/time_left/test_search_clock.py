"""What the observer of a search passes to the prediction."""

from __future__ import annotations

import pytest
from optuna.trial import TrialState

from search.loop.simulated_clock import SimulatedClock
from search.loop.time_left.observer import SearchClock
from search.loop.time_left.plan import FinalistPlan, Plan
from search.study.records import Workload
from trainables.epoch_metrics import EpochMetrics

NETWORK = Workload(10**7, 10**6, 20, 64)
PLAN = Plan(trials=4, epochs=2, rungs=(), reduction=3, workers=2, finalists=FinalistPlan(1, 2, 2))


def epoch(number: int, seconds: float = 10.0) -> EpochMetrics:
    """Return the metrics of an epoch."""
    return EpochMetrics(number, 0.0, 0.5, 0.0, 0.5, seconds)


@pytest.fixture
def clock() -> SimulatedClock:
    """Return a clock that only tests move."""
    return SimulatedClock()


def test_start_of_processes_does_not_count_as_idle(clock: SimulatedClock) -> None:
    search = SearchClock(PLAN, clock=clock.read)
    search.begin(0, NETWORK)
    clock.now = 60.0
    search.reported(0, epoch(1))
    clock.now = 70.0
    search.reported(0, epoch(2))
    assert search.observed().busy == pytest.approx(1.0)


def test_workers_that_wait_for_the_last_trials_do_not_count_as_idle(clock: SimulatedClock) -> None:
    search = SearchClock(PLAN, clock=clock.read)
    for number in range(4):
        search.begin(number, NETWORK)
        clock.now += 10
        search.reported(number, epoch(1))
    before = search.observed().busy
    clock.now = 500.0
    assert search.observed().busy == before


def test_repeated_epoch_of_a_resumed_trial_counts_once(clock: SimulatedClock) -> None:
    search = SearchClock(PLAN, clock=clock.read)
    search.begin(0, NETWORK)
    search.reported(0, epoch(1))
    search.begin(0, NETWORK)
    search.reported(0, epoch(1))
    assert [each.seconds for each in search.observed().trainings] == [10.0]


def test_only_as_many_finalists_run_as_there_are_workers(clock: SimulatedClock) -> None:
    search = SearchClock(PLAN, clock=clock.read)
    search.plan_finalists([(0, 0), (0, 1), (0, 2)])
    clock.now = 5.0
    search.finalist(0, 1, 0.5, 4.0)
    seen = search.observed().finalists
    assert seen is not None
    assert seen.running == {(0, 0): 0.0, (0, 2): 5.0}
    assert seen.results == {0: {1: 0.5}}


def test_time_left_falls_to_nothing_at_the_end(clock: SimulatedClock) -> None:
    search = SearchClock(PLAN, clock=clock.read)
    times = []
    for number in range(4):
        search.begin(number, NETWORK)
        for each in (1, 2):
            clock.now += 5
            search.reported(number, epoch(each))
        search.finished(number, TrialState.COMPLETE, "")
        times.append(search.left())
    search.plan_finalists([(0, 0), (0, 1)])
    clock.now += 20
    for index in range(2):
        search.finalist(0, index, 0.5, 20.0)
    times.append(search.left())
    seconds = [each.seconds for each in times if each is not None]
    assert seconds == sorted(seconds, reverse=True)
    assert seconds[-1] == 0.0
