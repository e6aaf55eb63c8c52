"""The summary of a search, against calculations by hand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial

from search.study.records import TrialRecord
from search.study.summary import (
    Savings,
    estimate_savings,
    pareto_front,
    summarise,
    trained_though_rejected,
)

Stored = Callable[..., FrozenTrial]


def timed(seconds: float, epochs: int, macs: int) -> dict[str, Any]:
    return {"seconds": seconds, "epochs": epochs, "macs": macs, "beyond": 0}


def savings(trials: list[FrozenTrial]) -> Savings:
    return estimate_savings([TrialRecord.of(trial) for trial in trials])


def test_the_summary_of_no_trials_is_empty() -> None:
    found = summarise([])
    assert (found.trained, found.rejected, found.running) == (0, 0, 0)
    assert found.best is None
    assert found.leaderboard == []
    assert found.savings.total == 0


def test_trials_count_by_outcome_and_rejections_by_reason(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.8),
        stored_trial(1, "PRUNED", rejected="border"),
        stored_trial(2, "PRUNED", 0.4),
        stored_trial(3, "FAIL"),
        stored_trial(4, "RUNNING"),
        stored_trial(5, "PRUNED", rejected="params"),
        stored_trial(6, "PRUNED", rejected="border"),
        # Duplicates have a result, but were not trained.
        stored_trial(7, "COMPLETE", 0.8, rejected="duplicate", duplicate_of=0),
        stored_trial(8, "FAIL", rejected="duplicate", duplicate_of=4),
        stored_trial(9, "COMPLETE", 0.6),
    ]
    found = summarise(trials)
    assert (found.complete, found.pruned, found.failed, found.running) == (2, 1, 1, 1)
    assert found.trained == 4
    assert found.rejections == {"border": 2, "duplicate": 2, "params": 1}
    assert found.rejected == 5
    assert [trial.number for trial in found.leaderboard] == [0, 9, 2]


def test_the_leaderboard_ranks_complete_trials_first(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "PRUNED", 0.99),
        stored_trial(1, "COMPLETE", 0.5),
        stored_trial(2, "COMPLETE", 0.9),
        stored_trial(3, "PRUNED", 0.2),
        stored_trial(4, "COMPLETE", 0.9),
        stored_trial(5, "COMPLETE", 0.0),
    ]
    found = summarise(trials)
    assert [trial.number for trial in found.leaderboard] == [2, 4, 1, 5, 0, 3]
    assert found.best == TrialRecord.of(trials[2])


def test_a_pruned_trial_is_never_the_best(stored_trial: Stored) -> None:
    assert summarise([stored_trial(0, "PRUNED", 0.9)]).best is None


def test_the_summary_counts_what_happened(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "PRUNED", verdict="fail", cause="out of memory"),
        stored_trial(1, "COMPLETE", (0.9, 10.0), verdict="pruned"),
        stored_trial(2, "COMPLETE", (0.5, 20.0)),
    ]
    found = summarise(trials)
    assert (found.complete, found.pruned, found.failed) == (1, 1, 1)
    assert [trial.number for trial in found.leaderboard] == [2, 1]
    assert found.best == TrialRecord.of(trials[2])


def test_one_objective_has_no_pareto_front(stored_trial: Stored) -> None:
    assert summarise([stored_trial(0, "COMPLETE", 0.5)]).front == []


def test_no_other_trial_dominates_one_of_the_pareto_front(stored_trial: Stored) -> None:
    trials = [
        stored_trial(0, "COMPLETE", (0.8, 100.0, 5.0)),
        stored_trial(1, "COMPLETE", (0.9, 200.0, 5.0)),
        stored_trial(2, "COMPLETE", (0.8, 100.0, 6.0)),  # Slower than trial 0, otherwise equal.
        stored_trial(3, "COMPLETE", (0.7, 150.0, 4.0)),
        stored_trial(4, "COMPLETE", (0.7, 150.0, 4.0)),  # Equal trials do not dominate each other.
        stored_trial(5, "COMPLETE", (0.3, 10.0, 9.0), verdict="pruned"),
        stored_trial(6, "COMPLETE", (0.1, 1.0, 1.0), verdict="pruned", stopped="hopeless"),
        stored_trial(7, "PRUNED", verdict="fail"),
        stored_trial(8, "COMPLETE", (0.9, 1.0, 1.0), rejected="duplicate", duplicate_of=1),
    ]
    assert [trial.number for trial in summarise(trials).front] == [1, 0, 3, 4, 5]


@settings(max_examples=100, deadline=None)
@given(values=st.lists(st.tuples(*[st.integers(0, 3).map(float)] * 3), max_size=8))
def test_the_pareto_front_agrees_with_pairwise_comparison(
    stored_trial: Stored, values: list[tuple[float, ...]]
) -> None:
    trials = [stored_trial(number, "COMPLETE", each) for number, each in enumerate(values)]

    def dominates(one: tuple[float, ...], other: tuple[float, ...]) -> bool:
        no_worse = one[0] >= other[0] and one[1] <= other[1] and one[2] <= other[2]
        return no_worse and one != other

    expected = {n for n, each in enumerate(values) if not any(dominates(o, each) for o in values)}
    found = pareto_front([TrialRecord.of(trial) for trial in trials])
    assert {trial.number for trial in found} == expected
    assert [-trial.values[0] for trial in found] == sorted(-trial.values[0] for trial in found)


def test_without_trained_trials_nothing_is_predicted(stored_trial: Stored) -> None:
    found = savings([stored_trial(0, "PRUNED", rejected="border", macs=100)])
    assert (found.seconds, found.total, found.trained_seconds) == ({}, 0, 0)


def test_savings_follow_a_line_through_the_measured_epochs(stored_trial: Stored) -> None:
    # An epoch took 2 + macs / 100 seconds; trials had 1 and 3 epochs: 2 on average.
    trials = [
        stored_trial(0, "PRUNED", 0.1, **timed(3.0, 1, 100)),
        stored_trial(1, "COMPLETE", 0.5, **timed(12.0, 3, 200)),
        stored_trial(2, "PRUNED", rejected="border", macs=300),
        stored_trial(3, "PRUNED", rejected="border", macs=0),
        stored_trial(4, "PRUNED", rejected="params", macs=1000),
    ]
    found = savings(trials)
    assert found.trained_seconds == 15.0
    assert found.seconds == pytest.approx({"border": (5 + 2) * 2, "params": 12 * 2})
    assert found.total == pytest.approx(38)


def test_the_time_of_interrupted_trials_counts_as_trained(stored_trial: Stored) -> None:
    paused = stored_trial(1, "WAITING", seconds=5.0, share=0.5)
    assert savings([paused]).trained_seconds == 2.5
    ended = stored_trial(0, "COMPLETE", 0.5, **timed(12.0, 3, 200))
    assert savings([ended, paused]).trained_seconds == 14.5


def test_the_fitted_line_is_never_negative(stored_trial: Stored) -> None:
    rejected = stored_trial(9, "PRUNED", rejected="border", macs=10)
    # Instead of a negative intercept, the line passes through the origin.
    steep = [
        stored_trial(0, "COMPLETE", 0.5, **timed(1.0, 1, 100)),
        stored_trial(1, "COMPLETE", 0.5, **timed(9.0, 1, 300)),
    ]
    slope = (100 * 1 + 300 * 9) / (100**2 + 300**2)
    assert savings([*steep, rejected]).total == pytest.approx(10 * slope)
    # Instead of a negative slope, the line is flat at the mean.
    falling = [
        stored_trial(0, "COMPLETE", 0.5, **timed(8.0, 1, 100)),
        stored_trial(1, "COMPLETE", 0.5, **timed(2.0, 1, 300)),
    ]
    assert savings([*falling, rejected]).total == pytest.approx(5)
    assert savings([falling[0], rejected]).total == pytest.approx(8)


@settings(max_examples=100, deadline=None)
@given(
    measured=st.lists(
        st.tuples(st.integers(0, 10**4), st.integers(1, 10**9)),
        min_size=2,
        max_size=8,
        unique_by=lambda each: each[1],
    )
)
def test_savings_agree_with_the_closed_form_of_the_fit(
    stored_trial: Stored, measured: list[tuple[int, int]]
) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(float(seconds), 1, macs))
        for number, (seconds, macs) in enumerate(measured)
    ]
    y, x = np.array(measured, dtype=float).T
    slope, base = np.polyfit(x / x.max(), y, 1)
    if base < 0:
        slope, base = x @ y / (x @ x) * x.max(), 0.0
    if slope < 0:
        slope, base = 0.0, y.mean()
    largest = stored_trial(100, "PRUNED", rejected="border", macs=int(x.max()))
    expected = pytest.approx(slope + base, rel=1e-6, abs=1e-6)
    assert savings([*trained, largest]).total == expected


def test_duplicates_save_nothing(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.5, **timed(12.0, 3, 100)),
        stored_trial(1, "PRUNED", 0.5, **timed(2.0, 1, 100)),
        stored_trial(2, "COMPLETE", 0.5, rejected="duplicate", duplicate_of=0, macs=100),
        stored_trial(3, "PRUNED", 0.5, rejected="duplicate", duplicate_of=1, macs=100),
        stored_trial(4, "RUNNING", macs=100),
        stored_trial(5, "FAIL", rejected="duplicate", duplicate_of=4, macs=100),
    ]
    found = savings(trials)
    assert found.seconds == {}
    assert found.trained_seconds == 14.0


def test_a_trial_on_a_quarter_of_a_device_counts_a_quarter(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.5, share=0.25, **timed(12.0, 3, 100)),
        stored_trial(1, "PRUNED", rejected="border", macs=100),
    ]
    found = savings(trials)
    assert found.trained_seconds == 3.0
    assert found.seconds == {"border": pytest.approx(3.0)}


def test_collapsed_networks_save_nothing(
    stored_trial: Stored,
) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.5, **timed(12.0, 3, 100)),
        stored_trial(1, "PRUNED", rejected="collapsed"),
    ]
    assert savings(trials).seconds == {}
    assert summarise(trials).rejections == {"collapsed": 1}


def test_trials_without_an_epoch_do_not_change_the_line(stored_trial: Stored) -> None:
    trials = [
        stored_trial(0, "COMPLETE", 0.5, **timed(12.0, 3, 100)),
        stored_trial(1, "FAIL", seconds=0, epochs=0, macs=10**9),
        stored_trial(2, "PRUNED", rejected="border", macs=100),
    ]
    assert savings(trials).seconds == pytest.approx({"border": 12.0})


@settings(max_examples=100, deadline=None)
@given(
    measured=st.lists(
        st.tuples(st.floats(0, 1e4), st.integers(1, 50), st.integers(0, 10**10)), max_size=6
    ),
    rejected=st.lists(st.integers(0, 10**10), max_size=6),
)
def test_savings_grow_with_the_rejections(
    stored_trial: Stored, measured: list[tuple[float, int, int]], rejected: list[int]
) -> None:
    trained = [
        stored_trial(number, "COMPLETE", 0.5, **timed(*each))
        for number, each in enumerate(measured)
    ]
    totals = []
    for count in range(len(rejected) + 1):
        screened = [
            stored_trial(100 + number, "PRUNED", rejected="border", macs=macs)
            for number, macs in enumerate(rejected[:count])
        ]
        totals.append(savings([*trained, *screened]).total)
    assert totals[0] == 0
    assert totals == sorted(totals)


def test_overlap_is_what_one_search_rejected_and_one_trained(
    stored_trial: Stored,
) -> None:
    rejecting = [
        stored_trial(0, "PRUNED", rejected="border", digest="a"),
        stored_trial(1, "PRUNED", rejected="params", digest="b"),
        stored_trial(2, "COMPLETE", 0.9, digest="c"),
        stored_trial(3, "COMPLETE", 0.9, rejected="duplicate", digest="c"),
        stored_trial(4, "PRUNED", rejected="border", digest="elsewhere"),
    ]
    training = [
        stored_trial(0, "COMPLETE", 0.6, digest="a"),
        stored_trial(1, "PRUNED", 0.7, digest="b"),
        stored_trial(2, "COMPLETE", 0.8, digest="c"),
        stored_trial(3, "COMPLETE", 0.5, digest="d"),
        stored_trial(4, "FAIL", digest="a"),
        stored_trial(5, "COMPLETE", 0.6, digest="a", rejected="duplicate"),
    ]
    found = trained_though_rejected(rejecting, training)
    assert [trial.number for trial in found.trials] == [0, 1]
    assert found.others_best == 0.8
    assert trained_though_rejected(training, rejecting).trials == []
    nothing = trained_though_rejected([], [])
    assert (nothing.trials, nothing.others_best) == ([], None)
