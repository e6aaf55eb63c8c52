"""What a search optimises: the accuracy and, if wanted, what the networks cost beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from optuna.study import StudyDirection

from spaces.costs import Costs

Objective: TypeAlias = Literal["accuracy", "params", "macs", "latency", "batch_latency"]
"""Accuracy comes first and is maximised; every other objective is minimised."""

ACCURACY: tuple[Objective, ...] = ("accuracy",)
LATENCIES: dict[Objective, str] = {"latency": "latency_ms", "batch_latency": "batch_latency_ms"}
"""Objectives that are measured, with the metric by which a trial reports them."""


def check_objectives(objectives: list[Objective]) -> list[Objective]:
    """Return objectives that can be optimised together.

    Raises:
        ValueError: saying what they must be.
    """
    if objectives[:1] != ["accuracy"]:
        raise ValueError("begin with accuracy: early stopping and the leaderboard go by it")
    if len(set(objectives)) < len(objectives):
        raise ValueError("name each objective once")
    return objectives


def directions(objectives: Sequence[Objective]) -> list[StudyDirection]:
    """Return which way each objective is optimised."""
    return [
        StudyDirection.MAXIMIZE if objective == "accuracy" else StudyDirection.MINIMIZE
        for objective in objectives
    ]


def latency_batches(objectives: Sequence[Objective], batch: int) -> tuple[int, ...]:
    """Return the sizes of the batches whose latency has to be measured.

    Args:
        objectives: of the search.
        batch: images of ``batch_latency``.
    """
    sizes: dict[Objective, int] = {"latency": 1, "batch_latency": batch}
    return tuple(size for objective, size in sizes.items() if objective in objectives)


def cost_values(
    objectives: Sequence[Objective], costs: Costs, metrics: Mapping[str, float]
) -> list[float]:
    """Return the values of the objectives beyond accuracy, in their order.

    Args:
        objectives: of the search.
        costs: of the architecture.
        metrics: what its trial reported.

    Raises:
        KeyError: naming the metric that was not reported.
    """
    found: dict[Objective, float] = {"params": float(costs.params), "macs": float(costs.macs)}
    return [
        metrics[LATENCIES[objective]] if objective in LATENCIES else found[objective]
        for objective in objectives
        if objective != "accuracy"
    ]
