"""When failures end a search."""

from __future__ import annotations

from collections.abc import Callable

from optuna.trial import FrozenTrial

from search.loop.failure_policy import HOPELESS_AFTER, FailurePolicy
from search.study.records import TrialRecord

Stored = Callable[..., FrozenTrial]


def failed(stored_trial: Stored, cause: str) -> TrialRecord:
    return TrialRecord.of(stored_trial(0, "FAIL", cause=cause))


def test_only_failures_from_the_start_end_a_search(stored_trial: Stored) -> None:
    policy = FailurePolicy()
    for number in range(HOPELESS_AFTER):
        assert policy.hopeless == ""
        policy.ended(failed(stored_trial, f"cause {number}"))
    assert policy.hopeless == f"cause {HOPELESS_AFTER - 1}"


def test_one_success_rules_out_a_common_cause(stored_trial: Stored) -> None:
    policy = FailurePolicy()
    policy.ended(TrialRecord.of(stored_trial(0, "PRUNED", 0.5)))
    for _ in range(HOPELESS_AFTER):
        policy.ended(failed(stored_trial, "lost"))
    assert policy.hopeless == ""


def test_failures_of_an_earlier_driver_do_not_count(stored_trial: Stored) -> None:
    policy = FailurePolicy()
    for _ in range(HOPELESS_AFTER):
        policy.restore(failed(stored_trial, "lost"))
    assert policy.hopeless == ""
    policy.restore(TrialRecord.of(stored_trial(0, "COMPLETE", 0.5)))
    for _ in range(HOPELESS_AFTER):
        policy.ended(failed(stored_trial, "lost"))
    assert policy.hopeless == ""


def test_a_diverged_loss_does_not_count(stored_trial: Stored) -> None:
    policy = FailurePolicy()
    for _ in range(HOPELESS_AFTER):
        policy.ended(failed(stored_trial, ""))
    assert policy.hopeless == ""
