"""The predicted time left: trials, early stopping, budgets and finalists."""

from __future__ import annotations

from dataclasses import replace

import pytest

from search.loop.time_left.epoch_seconds import EpochSeconds
from search.loop.time_left.estimate import estimate, makespan
from search.loop.time_left.observed import FinalistsSeen, Observed, Training
from search.loop.time_left.plan import FinalistPlan, Plan
from search.study.records import Workload

NETWORK = Workload(macs=10**7, activation_bytes=10**6, layers=20, batch_size=64)
PLAN = Plan(trials=10, epochs=4, rungs=(), reduction=3, workers=2, finalists=FinalistPlan(0, 1, 1))


def ended(number: int, seconds: float = 8.0) -> Training:
    """Return a trial that trained 4 epochs."""
    return Training(number, NETWORK, epochs=4, seconds=seconds, accuracy=0.5, ended=True)


def seen(*trainings: Training, busy: float | None = 2.0, now: float = 100.0) -> Observed:
    """Return a search with these trials."""
    return Observed(now, trainings, busy, seconds=now)


def left(plan: Plan, observed: Observed) -> float:
    """Return the predicted seconds."""
    found = estimate(plan, observed, ())
    assert found is not None
    return found.seconds


def test_nothing_is_predicted_before_the_first_epoch() -> None:
    assert estimate(PLAN, seen(Training(0, NETWORK)), ()) is None


def test_trials_that_have_not_started_share_the_workers() -> None:
    assert left(PLAN, seen(ended(0), ended(1))) == pytest.approx(4 * 8)


def test_running_trials_count_with_their_remaining_epochs() -> None:
    running = Training(2, NETWORK, since=100.0, epochs=1, seconds=2.0)
    plan = replace(PLAN, trials=3)
    assert left(plan, seen(ended(0), ended(1), running)) == pytest.approx(6)


def test_time_in_the_running_epoch_is_over() -> None:
    running = Training(2, NETWORK, since=98.5, epochs=1, seconds=2.0)
    plan = replace(PLAN, trials=3)
    assert left(plan, seen(ended(0), ended(1), running)) == pytest.approx(4.5)


def test_idle_workers_of_a_small_cluster_do_not_count() -> None:
    plan = replace(PLAN, workers=4)
    assert left(plan, seen(ended(0), ended(1), busy=2.0)) == pytest.approx(4 * 8)


def test_early_stopping_shortens_the_rest() -> None:
    stopping = replace(PLAN, trials=400, rungs=(1,))
    whole = left(replace(PLAN, trials=400), seen(ended(0)))
    assert 0.4 * whole < left(stopping, seen(ended(0))) < 0.65 * whole


def test_budget_of_time_ends_the_search_earlier() -> None:
    plan = replace(PLAN, wall_clock=107.0)
    assert left(plan, seen(ended(0), ended(1))) == pytest.approx(7)


def test_budget_of_devices_ends_the_search_earlier() -> None:
    plan = replace(PLAN, device_seconds=20.0)
    assert left(plan, seen(ended(0), ended(1))) == pytest.approx(2)


def test_finalists_count_after_the_search() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=3, most_seeds=3))
    found = estimate(plan, seen(ended(0), ended(1)), ())
    assert found is not None
    assert (found.search, found.finalists) == (0.0, pytest.approx(2 * 8))


def test_results_of_finalists_count_down_to_nothing() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=3, most_seeds=3))
    times = []
    for done in range(4):
        results = FinalistsSeen({0: dict.fromkeys(range(done), 0.5)}, {0: [8.0] * done})
        times.append(left(plan, replace(seen(ended(0), ended(1)), finalists=results)))
    assert times == pytest.approx([16, 8, 8, 0])


def test_further_rounds_of_tied_finalists_are_expected() -> None:
    few = FinalistPlan(count=3, seeds=3, most_seeds=3)
    plan = replace(PLAN, trials=3, finalists=few)
    observed = seen(ended(0), ended(1), ended(2))
    more = replace(plan, finalists=replace(few, most_seeds=6))
    assert left(plan, observed) * 1.1 < left(more, observed) < left(plan, observed) * 2


def test_seconds_of_finalists_correct_those_of_their_trials() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=2, most_seeds=2))
    results = FinalistsSeen({0: {0: 0.5}}, {0: [80.0]})
    observed = replace(seen(ended(0), ended(1)), finalists=results)
    assert left(plan, observed) == pytest.approx(80)


def test_finalist_that_is_overdue_has_time_left() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=1, most_seeds=1))
    overdue = FinalistsSeen({0: {}}, {}, {(0, 0): 0.0})
    observed = replace(seen(ended(0), ended(1)), finalists=overdue)
    assert left(plan, observed) == pytest.approx(10)


def test_finalists_wait_for_their_processes_to_start() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=1, most_seeds=1))
    assert left(plan, replace(seen(ended(0), ended(1)), startup=20.0)) == pytest.approx(28)


def test_baselines_count_by_their_own_costs() -> None:
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=2, most_seeds=2))
    large = replace(NETWORK, macs=10**9)
    alone = left(plan, seen(ended(0), ended(1)))
    beside = left(plan, replace(seen(ended(0), ended(1)), baselines=(NETWORK,)))
    assert beside == pytest.approx(2 * alone)
    assert left(plan, replace(seen(ended(0), ended(1)), baselines=(large,))) > 5 * alone


def test_time_in_the_running_baseline_is_over() -> None:
    observed = replace(
        seen(ended(0), ended(1)),
        finalists=FinalistsSeen({0: {0: 0.5}}, {0: [8.0]}),
        baselines=(NETWORK,),
        baseline_began=95.0,
    )
    plan = replace(PLAN, trials=2, finalists=FinalistPlan(count=1, seeds=1, most_seeds=1))
    assert left(plan, observed) == pytest.approx(3)


def test_larger_networks_are_predicted_to_take_longer() -> None:
    large = replace(NETWORK, macs=10**8, activation_bytes=10**7)
    model = EpochSeconds([NETWORK, large], [1.0, 8.0], [1.0, 1.0])
    between = replace(NETWORK, macs=3 * 10**7, activation_bytes=3 * 10**6)
    assert 1 < model.predict(NETWORK) < model.predict(between) < model.predict(large) < 10


def test_costs_that_some_networks_lack_are_left_out() -> None:
    model = EpochSeconds([Workload(10**7), NETWORK], [1.0, 1.0], [1.0, 1.0])
    assert model.predict(NETWORK) == pytest.approx(1)


def test_each_training_takes_the_worker_that_is_free_first() -> None:
    assert makespan(3, [5.0, 1.0, 1.0, 1.0, 3.0]) == 5.0
