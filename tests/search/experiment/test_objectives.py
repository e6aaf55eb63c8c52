"""Objectives: which way each goes, where its value comes from, and who is retrained for it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial

from search.experiment.loading import parse_experiment
from search.experiment.objectives import Objective, cost_values, directions, latency_batches
from search.experiment.training_spec import describe_training
from search.study.finalists import choose_finalists
from search.study.summary import summarise
from spaces.architecture import Architecture
from spaces.costs import costs
from spaces.task import Task

Stored = Callable[..., FrozenTrial]


def test_accuracy_is_maximised_and_all_else_minimised() -> None:
    up, down = StudyDirection.MAXIMIZE, StudyDirection.MINIMIZE
    assert directions(["accuracy"]) == [up]
    assert directions(["accuracy", "latency", "params"]) == [up, down, down]


@pytest.mark.parametrize(
    ("objectives", "batches"),
    [
        (["accuracy", "params", "macs"], ()),
        (["accuracy", "latency"], (1,)),
        (["accuracy", "batch_latency"], (64,)),
        (["accuracy", "batch_latency", "latency"], (1, 64)),
    ],
)
def test_the_trials_measure_the_latencies_that_are_objectives(
    task: Task, objectives: list[Objective], batches: tuple[int, ...]
) -> None:
    assert latency_batches(objectives, 64) == batches
    experiment = parse_experiment({"objectives": objectives, "latency_batch": 64})
    assert describe_training(experiment, task).latency_batches == batches


def test_the_trials_are_told_after_how_many_epochs_to_give_up(task: Task) -> None:
    experiment = parse_experiment({"scheduler": {"hopeless_after": 3}})
    assert describe_training(experiment, task).hopeless_after == 3


def test_costs_come_from_architecture_and_latencies_from_trial(
    plain: Callable[..., Architecture],
) -> None:
    found = costs(plain("c c p c"))
    metrics = {"validation_accuracy": 0.5, "latency_ms": 0.25, "batch_latency_ms": 4.0}
    objectives: list[Objective] = ["accuracy", "latency", "params", "batch_latency", "macs"]
    assert cost_values(objectives, found, metrics) == [0.25, found.params, 4.0, found.macs]
    assert cost_values(["accuracy"], found, {}) == []
    with pytest.raises(KeyError, match="latency_ms"):
        cost_values(["accuracy", "latency"], found, {})


def test_finalists_come_from_pareto_front_then_leaderboard(
    stored_trial: Stored,
) -> None:
    summary = summarise(
        [
            stored_trial(0, "COMPLETE", (0.8, 50.0)),  # Beaten by the next.
            stored_trial(1, "COMPLETE", (0.85, 40.0)),
            stored_trial(2, "COMPLETE", (0.9, 90.0)),
            stored_trial(3, "COMPLETE", (0.3, 10.0), verdict="pruned"),
        ]
    )
    chosen = [trial.number for trial in choose_finalists(summary, 9)]
    assert chosen == [2, 1, 3, 0]
    assert [trial.number for trial in choose_finalists(summary, 2)] == [2, 1]
    assert choose_finalists(summary, 0) == []


def test_finalists_of_one_objective_are_best_of_leaderboard(stored_trial: Stored) -> None:
    trials = [stored_trial(number, "COMPLETE", number / 10) for number in range(5)]
    chosen = choose_finalists(summarise(trials), 2)
    assert [trial.number for trial in chosen] == [4, 3]
