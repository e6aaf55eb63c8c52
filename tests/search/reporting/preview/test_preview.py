"""What is known of a search before it starts: candidates, costs, time and money."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from unittest.mock import Mock

import optuna
import pytest
import torch

from search.experiment.loading import parse_experiment
from search.loop.time_left.epoch_seconds import EpochSeconds
from search.loop.time_left.estimate import TimeLeft, forecast
from search.loop.time_left.plan import FinalistPlan, Plan
from search.reporting.preview.candidates import Range, SpaceSize
from search.reporting.preview.forecast import Capacity, Forecast, local_capacity, measure
from search.study.records import Workload
from spaces.candidate import CandidateSpace

NETWORK = Workload(10**7, 10**6, 20, 64)
LARGE = Workload(10**9, 10**8, 20, 64)
PLAN = Plan(trials=20, epochs=5, rungs=(), reduction=3, workers=2, finalists=FinalistPlan(1, 2, 2))


@pytest.mark.parametrize("networks", [50, 1000, 20_000])
def test_size_of_a_space_is_inside_the_interval(networks: int) -> None:
    chance = Random(0)
    size = SpaceSize.of([str(chance.randrange(networks)) for _ in range(1000)])
    assert size.most is not None
    assert size.least < networks < size.most


def test_space_without_equal_draws_has_only_a_lower_bound() -> None:
    size = SpaceSize.of([str(number) for number in range(1000)])
    assert size.shown == "at least about 170,000 networks"


def test_range_of_one_candidate_is_its_value() -> None:
    assert Range.of([3.0]) == Range(3.0, 3.0, 3.0, 3.0, 3.0)
    assert Range.of([float(n) for n in range(11)]) == Range(0.0, 1.0, 5.0, 9.0, 10.0)


def test_forecast_counts_trials_and_finalists() -> None:
    found = forecast(PLAN, [NETWORK], EpochSeconds([NETWORK], [2.0], [1.0]))
    assert (found.search, found.finalists) == (pytest.approx(100), pytest.approx(10))


def test_forecast_counts_named_baselines() -> None:
    model = EpochSeconds([NETWORK], [2.0], [1.0])
    found = forecast(PLAN, [NETWORK], model, baselines=[NETWORK])
    assert found.finalists > forecast(PLAN, [NETWORK], model).finalists


def test_search_that_starts_with_large_networks_takes_longer() -> None:
    drawn = [NETWORK] * 40 + [LARGE]
    model = EpochSeconds([NETWORK, LARGE], [1.0, 30.0], [1.0, 1.0])
    usual = forecast(PLAN, drawn, model)
    large = forecast(Plan(**{**vars(PLAN), "unlike_others": 8}), drawn, model)
    assert large.search > 2 * usual.search


def test_money_needs_a_price_and_the_basis_is_told() -> None:
    left = TimeLeft(3600.0, 1800.0, 3600.0, 7200.0)
    lines = Forecast(left, Capacity(4, 0.5), 3, "H200", 2.0).sentences()
    assert lines[0] == (
        "predicted time: 40m00s to 3h00m, finalists included (33%); 1.3 to 6 device-hours"
    )
    assert lines[1] == "predicted money: 2.67 to 12.00 at budget.price"
    assert lines[2].startswith("basis: 3 networks trained for one or two epochs on this machine")
    assert len(Forecast(left, Capacity(4), 3, "H200", 0.0).sentences()) == 2


def test_experiment_may_limit_the_trainings_at_a_time() -> None:
    assert local_capacity(parse_experiment({"resources": {"concurrent": 3}})).workers == 3


def test_gpus_train_one_each_unless_told_otherwise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)

    def capacity(**resources: float) -> Capacity:
        return local_capacity(parse_experiment({"resources": resources}), "H200")

    assert capacity() == Capacity(2)
    assert capacity(gpus=0.25) == Capacity(8, 0.25)
    assert capacity(gpus=0.25, concurrent=3) == Capacity(3, 0.25)


def test_search_of_one_epoch_is_measured_by_it(
    monkeypatch: pytest.MonkeyPatch, vgg_space: Callable[..., CandidateSpace]
) -> None:
    training = Mock()
    training.run_epoch.side_effect = [Mock(epoch_seconds=0.5), RuntimeError("all epochs are done")]
    monkeypatch.setattr("trainables.trial.start_training", lambda *_, **__: training)
    monkeypatch.setattr(torch, "set_num_threads", Mock())
    candidate = vgg_space().draw(optuna.create_study().ask())
    found, device = measure(Mock(epochs=1, threads=1, device="cpu"), [candidate])
    assert [each.seconds for each in found] == [0.5]
    assert device == "CPU"
