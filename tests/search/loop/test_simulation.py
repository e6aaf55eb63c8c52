"""The simulated search: its clock, its cluster, and its failures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from optuna.distributions import IntDistribution
from optuna.samplers import RandomSampler, TPESampler
from optuna.trial import BaseTrial, TrialState, create_trial

from cluster.sizing import Gpu
from search.loop.packing import Packing
from search.loop.simulated_cluster import Cluster, Occupancy, Place
from search.loop.simulation import (
    LostProcessError,
    SimulatedFailureError,
    SimulatedTrial,
    simulate,
)
from spaces.architecture import Architecture
from spaces.candidate import Candidate
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.task import Task
from tests.search.conftest import DIGITS, Recorder, one_convolution
from tests.search.loop.trial_runs import any_width

GB = 10**9
NO_STOPS = {"name": "none"}


def width(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
    """Return a value that grows with the number of features."""
    return float(params["features"]) / 100


def run(space: Any = any_width, evaluate: Any = width, **options: Any) -> list[SimulatedTrial]:
    """Simulate a search of 10 trials that draws at random."""
    return simulate(space, DIGITS, evaluate, **{"trials": 10, "sampler": "random"} | options)


# The search


def test_simulation_trains_its_budget_of_new_candidates(recorder: Recorder) -> None:
    found = run(trials=20, observers=[recorder])
    assert len({result.params["features"] for result in found}) == len(found) == 20
    rejected = Counter(rejection.reason for _, rejection in recorder.of("rejected"))
    assert rejected["duplicate"] > 0
    assert max(result.number for result in found) == 19 + rejected.total()


def test_results_have_the_values_of_the_function() -> None:
    for result in run():
        assert result.value == result.params["features"] / 100
        assert (result.epochs, result.outcome) == (1, TrialState.COMPLETE)


def test_simulation_draws_nothing_of_the_recipe_unless_asked() -> None:
    assert all(set(result.params) == {"features"} for result in run())
    searched = run(recipe={"learning_rate": [0.01, 0.3], "weight_decay": 0.0})
    assert all(set(result.params) == {"features", "learning_rate"} for result in searched)


def test_simulation_ends_when_the_space_is_exhausted() -> None:
    found = run(one_convolution, trials=30)
    assert sorted(result.params["features"] for result in found) == list(range(1, 9))


def test_budget_until_ends_a_search_that_cannot_improve() -> None:
    options: dict[str, Any] = {"sampler": "auto", "trials": 25}
    until = {"until": "improvement < 0.001"}
    flat = run(evaluate=lambda candidate, params, epoch: 0.5, budget=until, **options)
    # Ten finished trials, and three estimates in a row.
    assert len(flat) == 13
    rough = run(
        evaluate=lambda candidate, params, epoch: math.sin(13 * params["features"]),
        budget=until,
        **options | {"trials": 16},
    )
    assert len(rough) == 16


def test_simulation_learns_from_a_warm_start() -> None:
    features = {"features": IntDistribution(1, 32)}
    lent = [
        create_trial(
            params={"features": width},
            distributions=features,
            value=-abs(width - 7.0),
            user_attrs={"inherited": "lender"},
        )
        for width in range(1, 20)
    ]
    first = run(sampler="auto", trials=1, warm_start=lent)[0]
    assert abs(first.params["features"] - 7) <= 2
    assert first.number == len(lent)


@pytest.mark.parametrize("sampler", ["random", "tpe", "auto"])
def test_simulation_repeats_with_its_seed(sampler: str) -> None:
    options: dict[str, Any] = {"sampler": sampler, "workers": 3, "epochs": 3}
    assert run(seed=5, **options) == run(seed=5, **options)
    assert run(seed=5, **options) != run(seed=6, **options)


def test_simulation_takes_families_with_options_and_samplers() -> None:
    def depth(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        return float(params["depth"])

    options = {"depth": [1, 3], "features": [2, 6], "kernel": 3}
    found = run("vgg", depth, sampler=TPESampler(seed=1), space_options=options)
    assert {result.value for result in found} <= {1, 2, 3}
    assert found == run("vgg", depth, sampler=TPESampler(seed=1), space_options=options)


def test_screens_of_a_search_reject_simulated_candidates(recorder: Recorder) -> None:
    found = run(screens={"max_params": 200}, trials=6, observers=[recorder])
    assert {rejection.reason for _, rejection in recorder.of("rejected")} >= {"params"}
    assert all(result.params["features"] * (9 + 10) + 10 <= 200 for result in found)


def test_invalid_candidates_are_not_counted() -> None:
    def odd(trial: BaseTrial, task: Task) -> Architecture:
        if trial.suggest_int("features", 1, 32) % 2 == 0:
            raise InvalidCandidateError("is even", 1.0)
        return any_width(trial, task)

    found = run(odd, trials=8)
    assert [result.params["features"] % 2 for result in found] == [1] * 8


def test_enqueued_parameters_come_first() -> None:
    found = run(enqueue=[{"features": 7}, {"features": 9}])
    assert [result.params["features"] for result in found][:2] == [7, 9]


# Time


def test_workers_train_at_the_same_time() -> None:
    found = run(workers=4, epochs=2, scheduler=NO_STOPS, seconds=lambda candidate: 3.0)
    starts = [(result.started, result.ended) for result in found]
    assert starts == [(0.0, 6.0)] * 4 + [(6.0, 12.0)] * 4 + [(12.0, 18.0)] * 2


def test_results_come_in_order_of_completion() -> None:
    def slower_if_larger(candidate: Candidate) -> float:
        return candidate.costs.params / 100

    found = run(workers=3, seconds=slower_if_larger)
    assert [result.ended for result in found] == sorted(result.ended for result in found)
    assert [result.number for result in found] != sorted(result.number for result in found)
    for result in found:
        params = result.params["features"] * 19 + 10
        assert result.ended - result.started == pytest.approx(params / 100)


def test_wall_clock_is_simulated_time() -> None:
    found = run(workers=2, seconds=lambda candidate: 600.0, budget={"wall_clock": "1h"})
    assert len(found) == 10
    found = run(workers=2, seconds=lambda candidate: 600.0, budget={"wall_clock": "25m"})
    assert [result.ended for result in found] == [600.0] * 2 + [1200.0] * 2 + [1800.0] * 2


def test_device_hours_count_every_worker() -> None:
    found = run(workers=2, seconds=lambda candidate: 1800.0, budget={"device_hours": 1.5})
    assert [result.ended for result in found] == [1800.0] * 2 + [3600.0] * 2


def test_spent_time_interrupts_trials_after_their_epoch(recorder: Recorder) -> None:
    found = run(epochs=10, budget={"wall_clock": 15}, scheduler=NO_STOPS, observers=[recorder])
    assert [result.ended for result in found] == [10.0]
    assert [epochs.epoch for _, epochs in recorder.of("reported")][-1] == 5
    assert len(recorder.of("paused")) == 1


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_impossible_durations_are_refused(seconds: float) -> None:
    with pytest.raises(BadInputError, match="is no duration of an epoch"):
        run(seconds=lambda candidate: seconds)


# Early stopping and failures


def test_asha_stops_trials_at_its_rungs() -> None:
    found = run(trials=25, epochs=9, scheduler={"grace_epochs": 1, "reduction": 3})
    assert {result.epochs for result in found} == {1, 3, 9}
    for result in found:
        assert (result.outcome is TrialState.PRUNED) == (result.epochs < 9)
        assert result.ended - result.started == result.epochs
    assert {result.epochs for result in run(epochs=9, scheduler=NO_STOPS)} == {9}


def test_default_grace_is_a_ninth_of_the_epochs() -> None:
    assert min(result.epochs for result in run(trials=25, epochs=27)) == 3


def test_failed_and_diverged_trainings_have_no_value() -> None:
    def fails(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        if params["features"] < 10:
            raise SimulatedFailureError("out of memory", violation=0.5)
        return math.nan if params["features"] < 20 and epoch == 2 else 0.5

    found = run(evaluate=fails, trials=20, epochs=3, scheduler=NO_STOPS)
    for result in found:
        features = result.params["features"]
        reason = "out of memory" if features < 10 else "the loss is no longer a number"
        failed = features < 20
        assert (result.outcome is TrialState.FAIL) == math.isnan(result.value) == failed
        assert result.reason == (reason if failed else "")
        assert result.epochs == (0 if features < 10 else 2 if failed else 3)


def test_simulation_ends_if_its_first_trials_all_fail() -> None:
    def fails(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        raise SimulatedFailureError("no images")

    assert [result.reason for result in run(evaluate=fails)] == ["no images"] * 5


def test_lost_process_repeats_its_epoch_until_retries_end() -> None:
    calls: Counter[int] = Counter()

    def dies(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        calls[epoch] += 1
        if epoch == 2 and calls[2] <= 2:
            raise LostProcessError("node gone")
        return 0.5

    (result,) = run(evaluate=dies, trials=1, epochs=3, retries=2)
    assert (result.outcome, result.ended) == (TrialState.COMPLETE, 5.0)
    calls.clear()
    (result,) = run(evaluate=dies, trials=1, epochs=3, retries=1)
    assert result.reason == "its process failed repeatedly: node gone"


def test_error_of_the_function_ends_the_simulation() -> None:
    def broken(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        raise KeyError("no such network")

    with pytest.raises(KeyError, match="no such network"):
        run(evaluate=broken)


# Clusters


def test_trials_share_gpus_by_their_fraction() -> None:
    nodes = [{"CPU": 8, "GPU": 2}]
    found = run(cluster=Cluster(nodes, Packing(cpus=1, fixed=0.5)), trials=9)
    assert Counter(result.started for result in found) == {0.0: 4, 1.0: 4, 2.0: 1}
    scarce = run(cluster=Cluster([{"CPU": 3, "GPU": 2}], Packing(cpus=1, fixed=0.5)), trials=9)
    assert Counter(result.started for result in scarce) == {0.0: 3, 1.0: 3, 2.0: 3}


def test_trial_lies_on_a_node_with_free_cpus_and_gpu(
    plain: Callable[..., Architecture], candidate: Callable[[Architecture], Candidate]
) -> None:
    nodes = [{"CPU": 1, "GPU": 1}, {"CPU": 2, "GPU": 1}]
    occupancy = Occupancy(Cluster(nodes, Packing(cpus=1, fixed=0.5)))
    network = candidate(plain("c3"))
    places = [occupancy.take(network) for _ in range(4)]
    assert places == [Place(0, 0, 0.5), Place(1, 0, 0.5), Place(1, 0, 0.5), None]
    occupancy.give_back(Place(0, 0, 0.5))
    assert occupancy.take(network) == Place(0, 0, 0.5)


def test_predicted_memory_determines_shared_gpus() -> None:
    gpu = Gpu(24 * GB, True)
    packing = Packing(cpus=1, fixed=None, smallest=gpu, largest=gpu)
    options: dict[str, Any] = {"cluster": Cluster([{"CPU": 64, "GPU": 1}], packing), "trials": 32}
    small, large = (
        run(recipe={"learning_rate": 0.1, "batch_size": size}, **options) for size in (16, 1 << 20)
    )
    assert max(result.ended for result in small) < max(result.ended for result in large)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"cluster": Cluster([{"CPU": 1}], Packing(2, 0.0))}, "no node fits a trial"),
        ({"cluster": Cluster([{"CPU": 4, "GPU": 2}], Packing(1, 2.0))}, "uses one GPU"),
        ({"cluster": Cluster.of_workers(2), "workers": 3}, "give workers or cluster"),
        ({"workers": 0}, "no node fits a trial"),
        ({"sampler": "best"}, "sampler = best"),
        ({"scheduler": {"reduction": 1}}, "scheduler.reduction = 1"),
        ({"scheduler": {"hopeless_after": 1}, "epochs": 3}, "no training accuracy to compare"),
        ({"objectives": ["accuracy", "latency"]}, "measures no latency"),
        ({"screens": {"max_param": 5}}, "max_param"),
        ({"space": "vg"}, "did you mean vgg"),
    ],
)
def test_invalid_arguments_are_refused_in_one_line(options: dict[str, Any], line: str) -> None:
    with pytest.raises(BadInputError, match=line):
        run(**options)


def test_several_objectives_are_told_to_the_sampler() -> None:
    sampler = RandomSampler(seed=0)
    assert len(run(objectives=["accuracy", "params"], sampler=sampler, trials=3)) == 3
