"""Trials of a search with several objectives."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from optuna.samplers import TPESampler
from optuna.trial import TrialState

from spaces.candidate import CandidateSpace
from tests.search.loop.trial_runs import (
    MakeTrials,
    Spaces,
    Train,
    all_started,
    any_width,
    several,
    started_by,
)
from trainables.epoch_metrics import EpochMetrics


def test_pruned_trials_are_told_with_all_objectives(
    make_trials: MakeTrials,
    eight_candidates: CandidateSpace,
    metrics: Callable[..., EpochMetrics],
    recorder: Any,
) -> None:
    study = several("macs", "batch_latency", "params", "latency")
    trials = make_trials(eight_candidates, study=study, epochs=2, observers=[recorder])
    for accuracies in ((0.3, 0.6), (0.2,)):
        started = started_by(trials)
        for epoch, accuracy in enumerate(accuracies, start=1):
            latencies = {"latency_ms": 0.5, "batch_latency_ms": 8.0}
            trials.report(started.number, metrics(accuracy, epoch).with_latencies(latencies))
        trials.finish(started.number)
        costs = started.costs
        assert study.trial(started.number).values == [
            accuracies[-1],
            costs.macs,
            8.0,
            costs.params,
            0.5,
        ]
    assert [state.name for _, state, _ in recorder.of("finished")] == ["COMPLETE", "PRUNED"]


def test_a_network_that_learns_nothing_is_infeasible(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train
) -> None:
    study = several("params")
    trials = make_trials(eight_candidates, study=study, epochs=3)
    started = started_by(trials)
    train(trials, started.number, 0.1, stopped="no better than a guess")
    stored = study.trial(started.number)
    assert stored.values == [0.1, started.costs.params]
    assert stored.constraints == {"hopeless": 1.0}


def test_a_trial_without_its_latency_fails_with_the_cause(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    trials = make_trials(eight_candidates, study=several("latency"), observers=[recorder])
    number = started_by(trials).number
    train(trials, number, 0.5, 0.6, 0.7)
    cause = "the trial did not report latency_ms"
    assert recorder.of("finished") == [(number, TrialState.FAIL, cause)]


def test_a_duplicate_is_told_all_values_of_its_original(
    make_trials: MakeTrials, eight_candidates: CandidateSpace, train: Train, recorder: Any
) -> None:
    study = several("params")
    trials = make_trials(eight_candidates, study=study, limit=8, observers=[recorder])
    all_started(trials, lambda n: train(trials, n, 0.5))
    duplicates = [study.trial(number) for number, _ in recorder.of("rejected")]
    assert duplicates
    for stored in duplicates:
        assert stored.values == study.trial(stored.user_attrs["duplicate_of"]).values


def test_the_sampler_learns_from_several_objectives(
    make_trials: MakeTrials, train: Train, function_space: Spaces
) -> None:
    """More than eight features, a quarter of the widths, cost more and do not help."""
    study = several("params", sampler=TPESampler(seed=0))
    trials = make_trials(
        function_space(any_width), study=study, limit=80, epochs=3, screens={"duplicates": False}
    )
    drawn = []
    while not trials.is_finished:
        started = started_by(trials)
        features = started.params["features"]
        drawn.append(features)
        accuracy = min(features, 8) / 10
        match started.number % 4:
            case 0:
                train(trials, started.number, accuracy, cause="lost")
            case 1:
                train(trials, started.number, accuracy, accuracy, accuracy)
            case _:
                train(trials, started.number, accuracy)
    assert sum(features <= 8 for features in drawn[-40:]) >= 24
