"""The summary of a search, against calculations by hand."""

from __future__ import annotations

from collections.abc import Callable

from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.trial import FrozenTrial

from search.study.records import TrialRecord
from search.study.summary import pareto_front, summarise, trained_though_rejected

Stored = Callable[..., FrozenTrial]


def test_the_summary_of_no_trials_is_empty() -> None:
    found = summarise([])
    assert (found.trained, found.rejected, found.running) == (0, 0, 0)
    assert found.best is None
    assert found.leaderboard == []
    assert found.savings.total.low == found.savings.total.high == 0


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


def test_the_latest_estimate_of_further_improvement_is_shown(stored_trial: Stored) -> None:
    trials = [stored_trial(0, "COMPLETE", 0.5), stored_trial(1, "COMPLETE", 0.6, prospect=0.04)]
    trials += [stored_trial(2, "RUNNING", prospect=0.0123), stored_trial(3, "RUNNING")]
    line = "the next 20 trials are expected to improve the best validation accuracy by"
    assert summarise(trials).prospect_line == f"{line} 0.012"
    trials.append(stored_trial(4, "RUNNING", prospect=1e-7))
    assert summarise(trials).prospect_line == f"{line} less than 0.0001"
    assert summarise(trials[:1]).prospect_line == ""


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
