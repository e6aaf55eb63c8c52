"""Defines the objectives of a search: accuracy and, optionally, costs of the networks."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from optuna.study import StudyDirection

from spaces.costs import Costs

Objective: TypeAlias = Literal["accuracy", "params", "macs", "latency", "batch_latency"]
"""Accuracy comes first and is maximised; all other objectives are minimised."""

ACCURACY: tuple[Objective, ...] = ("accuracy",)
LATENCIES: dict[Objective, str] = {"latency": "latency_ms", "batch_latency": "batch_latency_ms"}
"""Measured objectives with the metric that a trial reports."""


def check_objectives(objectives: list[Objective]) -> list[Objective]:
    """Check a list of objectives.

    Raises:
        ValueError: accuracy is not first, or an objective is repeated.
    """
    if objectives[:1] != ["accuracy"]:
        raise ValueError("start with accuracy, which decides early stopping and the leaderboard")
    if len(set(objectives)) < len(objectives):
        raise ValueError("name each objective once")
    return objectives


def directions(objectives: Sequence[Objective]) -> list[StudyDirection]:
    """Return the direction of each objective."""
    return [
        StudyDirection.MAXIMIZE if objective == "accuracy" else StudyDirection.MINIMIZE
        for objective in objectives
    ]


def latency_batches(objectives: Sequence[Objective], batch: int) -> tuple[int, ...]:
    """Return the batch sizes for which latency must be measured.

    Args:
        objectives: objectives of the search.
        batch: batch size of ``batch_latency``.
    """
    sizes: dict[Objective, int] = {"latency": 1, "batch_latency": batch}
    return tuple(size for objective, size in sizes.items() if objective in objectives)


def cost_values(
    objectives: Sequence[Objective], costs: Costs, metrics: Mapping[str, float]
) -> list[float]:
    """Return the values of the objectives other than accuracy, in order.

    Args:
        objectives: objectives of the search.
        costs: costs of the architecture.
        metrics: metrics reported by the trial.

    Raises:
        KeyError: a metric is missing.
    """
    found: dict[Objective, float] = {"params": float(costs.params), "macs": float(costs.macs)}
    return [
        metrics[LATENCIES[objective]] if objective in LATENCIES else found[objective]
        for objective in objectives
        if objective != "accuracy"
    ]
