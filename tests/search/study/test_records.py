"""How a stored trial is read, and what its sampler is told."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.study.records import TrialRecord, told_constraints, told_state
from trainables.epoch_metrics import EpochMetrics

Stored = Callable[..., FrozenTrial]

COMPLETE, PRUNED, FAIL = TrialState.COMPLETE, TrialState.PRUNED, TrialState.FAIL


def test_every_stored_attribute_is_read_by_its_key() -> None:
    first, second = (
        EpochMetrics(epoch, 1.0, 0.5, 1.0, accuracy, 2.0)
        for epoch, accuracy in ((1, 0.4), (2, 0.5))
    )
    history = {"1": first.values, "2": second.values}
    stored = create_trial(
        state=COMPLETE,
        values=[0.5],
        user_attrs={
            "digest": "abc",
            "params": 7,
            "macs": 9,
            "beyond": 2,
            "share": 0.25,
            "seconds": 8.0,
            "epochs": 2,
            "history": history,
            "train_accuracy": 0.9,
        },
    )
    record = TrialRecord.of(stored)
    assert (record.digest, record.param_count, record.macs, record.beyond) == ("abc", 7, 9, 2)
    assert (record.seconds, record.device_fraction, record.device_seconds) == (8.0, 0.25, 2.0)
    assert (record.epochs, record.accuracy) == (2, 0.5)
    assert record.history == {1: first, 2: second}
    assert record.is_trained


def test_a_trial_without_attributes_has_used_no_device(stored_trial: Stored) -> None:
    record = TrialRecord.of(stored_trial(3, "RUNNING"))
    assert (record.number, record.outcome, record.accuracy) == (3, TrialState.RUNNING, None)
    assert (record.param_count, record.macs, record.beyond) == (None, None, 0)
    assert (record.device_seconds, record.epochs, record.history) == (0.0, 0, {})
    assert (record.reason, record.duplicate_of) == ("", None)


def test_rejected_and_inherited_trials_were_not_trained(stored_trial: Stored) -> None:
    rejected = TrialRecord.of(stored_trial(0, "PRUNED", rejected="border"))
    assert (rejected.is_rejected, rejected.rejected_for) == (True, "border")
    inherited = TrialRecord.of(stored_trial(1, "COMPLETE", 0.5, inherited="other"))
    assert (inherited.is_inherited, inherited.inherited_from) == (True, "other")
    assert not rejected.is_trained
    assert not inherited.is_trained


def test_the_reason_is_why_a_trial_failed_or_stopped_itself(stored_trial: Stored) -> None:
    def reason(state: str, value: float | None = None, **attributes: str) -> str:
        return TrialRecord.of(stored_trial(0, state, value, **attributes)).reason

    assert reason("FAIL", cause="lost") == "lost"
    assert reason("FAIL") == "the loss is no longer a number"
    assert reason("PRUNED", 0.1, stopped="a guess") == "a guess"
    assert reason("PRUNED", 0.5) == reason("COMPLETE", 0.5) == ""


def test_a_verdict_counts_only_once_the_trial_has_ended(stored_trial: Stored) -> None:
    assert TrialRecord.of(stored_trial(0, "PRUNED", verdict="fail")).outcome is FAIL
    assert TrialRecord.of(stored_trial(0, "RUNNING", verdict="fail")).outcome is TrialState.RUNNING


@pytest.mark.parametrize(
    ("outcome", "objectives", "is_infeasible", "told"),
    [
        (COMPLETE, 1, False, COMPLETE),
        (PRUNED, 1, False, PRUNED),
        (FAIL, 1, False, FAIL),
        (FAIL, 1, True, PRUNED),
        (COMPLETE, 2, False, COMPLETE),
        (PRUNED, 2, False, COMPLETE),
        (FAIL, 2, False, FAIL),
        (FAIL, 2, True, PRUNED),
    ],
)
def test_the_sampler_is_told_a_state_that_it_learns_from(
    outcome: TrialState, objectives: int, is_infeasible: bool, told: TrialState
) -> None:
    assert told_state(outcome, objectives=objectives, is_infeasible=is_infeasible) is told


def test_lack_of_memory_and_hopeless_compromises_are_infeasible() -> None:
    assert told_constraints(FAIL, objectives=1, violation=0.5) == {"memory": 0.5}
    assert told_constraints(FAIL, objectives=1) == {}
    assert told_constraints(PRUNED, objectives=2, stopped="a guess") == {"hopeless": 1.0}
    assert told_constraints(PRUNED, objectives=1, stopped="a guess") == {}
    assert told_constraints(COMPLETE, objectives=2) == {}
