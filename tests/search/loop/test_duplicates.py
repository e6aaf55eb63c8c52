"""Which candidates count as trained already."""

from __future__ import annotations

from collections.abc import Callable

from optuna.samplers import RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.loop.duplicates import Duplicates
from search.study.records import TrialRecord
from search.study.study import Study

Stored = Callable[..., FrozenTrial]


def duplicates() -> Duplicates:
    return Duplicates(Study("test", RandomSampler(seed=0)))


def test_the_first_trial_of_a_candidate_is_the_original() -> None:
    found = duplicates()
    assert found.original("a") is None
    found.add("a", 1)
    found.add("a", 2)
    assert (found.original("a"), found.original("b")) == (1, None)


def test_a_failed_candidate_is_new_again(stored_trial: Stored) -> None:
    found = duplicates()
    found.add("a", 1)
    found.ended(TrialRecord.of(stored_trial(2, "FAIL", digest="a")))
    assert found.original("a") == 1
    found.ended(TrialRecord.of(stored_trial(1, "FAIL", digest="a")))
    assert found.original("a") is None


def test_trained_candidates_of_an_earlier_driver_are_known(stored_trial: Stored) -> None:
    found = duplicates()
    for trial in (
        stored_trial(0, "COMPLETE", 0.5),
        stored_trial(1, "PRUNED", 0.4),
        stored_trial(2, "FAIL"),
    ):
        found.ended(TrialRecord.of(trial))
    assert [found.original(f"digest {number}") for number in range(3)] == [0, 1, None]


def test_a_duplicate_gets_the_result_of_its_original(stored_trial: Stored) -> None:
    study = Study("test", RandomSampler(seed=0))
    study.restore([stored_trial(0, "PRUNED", 0.4), stored_trial(1, "RUNNING")])
    found = Duplicates(study)
    rejection = found.reject(study.ask(), 0)
    assert (rejection.reason, rejection.detail) == ("duplicate", "the same as trial 0")
    found.reject(study.ask(), 1)
    ended, running = (study.trial(number) for number in (2, 3))
    assert (ended.state, ended.intermediate_values) == (TrialState.PRUNED, {1: 0.4})
    assert (running.state, running.intermediate_values) == (TrialState.FAIL, {})
    assert [TrialRecord.of(each).duplicate_of for each in (ended, running)] == [0, 1]
