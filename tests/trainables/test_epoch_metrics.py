"""The metrics of an epoch: stored names and round trips."""

from __future__ import annotations

import math

import pytest

from trainables.epoch_metrics import EpochMetrics

MEASURED = {
    "train_loss": 1.5,
    "train_accuracy": 0.25,
    "validation_loss": 1.25,
    "validation_accuracy": 0.5,
    "epoch_seconds": 2.0,
}


def test_names_of_metrics_are_those_of_the_fields() -> None:
    metrics = EpochMetrics(3, 1.5, 0.25, 1.25, 0.5, 2.0)
    assert metrics.values == MEASURED
    assert metrics.as_dict() == {"epoch": 3, **MEASURED}


def test_metrics_survive_a_dictionary_with_other_keys() -> None:
    metrics = EpochMetrics(3, 1.5, 0.25, 1.25, 0.5, 2.0, batch_latency_ms=8.0)
    assert EpochMetrics.from_dict(metrics.as_dict() | {"done": True}) == metrics


def test_latencies_are_metrics_only_if_measured() -> None:
    metrics = EpochMetrics(3, 1.5, 0.25, 1.25, 0.5, 2.0)
    assert metrics.with_latencies({"latency_ms": 0.5}).values == MEASURED | {"latency_ms": 0.5}
    assert metrics.with_latencies({}) == metrics


def test_missing_metric_is_refused_by_name() -> None:
    with pytest.raises(TypeError, match="train_loss"):
        EpochMetrics.from_dict({"epoch": 1, "validation_accuracy": math.nan})


@pytest.mark.parametrize("bad", [math.nan, math.inf])
def test_objective_is_nan_after_divergence(bad: float) -> None:
    assert EpochMetrics(1, 1.5, 0.25, 1.25, 0.5, 2.0).objective == 0.5
    assert math.isnan(EpochMetrics(1, bad, 0.25, 1.25, 0.5, 2.0).objective)
    assert math.isnan(EpochMetrics(1, 1.5, 0.25, bad, 0.5, 2.0).objective)


def test_metrics_in_a_checkpoint_of_version_0_1_are_read():
    metrics = EpochMetrics(3, 1.5, 0.25, 1.25, 0.5, 2.0)
    old = metrics.as_dict()
    old["seconds"] = old.pop("epoch_seconds")
    assert EpochMetrics.from_dict(old) == metrics
