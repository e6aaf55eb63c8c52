"""What the surrogate learns: scores, scalarised objectives and forecasts of stopped trials."""

from __future__ import annotations

import math

import numpy as np
import pytest

from search.loop.sampling.curves import Forecaster
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.proposals import Proposal
from search.loop.sampling.targets import draw_weights, normal_scores, scalarise, targets_of


def observed(
    number: int,
    value: float,
    standing: Standing = Standing.FINISHED,
    curve: dict[int, float] | None = None,
    source: str = "",
) -> Observation:
    proposal = Proposal({}, f"{source}{number}", (0.0, 0.0), 1)
    values = () if standing is Standing.RUNNING else (value,)
    return Observation(number, proposal, standing, values, curve or {}, source)


def test_normal_scores_ignore_the_scale() -> None:
    values = np.array([0.1, 0.9, 0.5])
    assert normal_scores(values) == pytest.approx(normal_scores(np.exp(9 * values)))
    assert normal_scores(values)[2] == pytest.approx(0)
    assert list(np.argsort(normal_scores(values))) == [0, 2, 1]


def test_scalarisation_prefers_trials_that_dominate() -> None:
    values = np.array([[0.9, -5.0], [0.8, -6.0], [0.7, -1.0]])
    for weights in ([0.1, 0.9], [0.5, 0.5], [1.0, 0.0]):
        found = scalarise(values, weights)
        assert found[0] > found[1]
    assert scalarise(values, [0.9, 0.1]).argmax() == 0
    assert scalarise(values, [0.1, 0.9]).argmax() == 2


def test_weights_have_the_sum_one() -> None:
    assert sum(draw_weights([0.2, 0.5, 1.0])) == pytest.approx(1)


def test_stopped_trial_is_predicted_from_finished_curves() -> None:
    curves = [({1: early, 2: early + 0.1}, 2 * early + 0.1) for early in (0.1, 0.2, 0.3, 0.4)]
    forecast = Forecaster(curves).predict({1: 0.25})
    assert forecast is not None
    assert forecast.value == pytest.approx(0.6)
    assert forecast.error == pytest.approx(0, abs=1e-9)


def test_trial_far_behind_is_not_predicted_to_end_like_the_finished_ones() -> None:
    finished = [({1: early}, 0.99) for early in (0.7, 0.75, 0.8, 0.85, 0.9)]
    forecaster = Forecaster(finished)
    within, behind = (forecaster.predict({1: value}) for value in (0.8, 0.3))
    assert within is not None
    assert behind is not None
    assert within.value == pytest.approx(0.99)
    assert behind.value == pytest.approx(0.99 - 0.4)


def test_few_finished_curves_predict_a_mean_gain() -> None:
    forecast = Forecaster([({1: 0.1}, 0.5), ({1: 0.3}, 0.5)]).predict({1: 0.2})
    assert forecast is not None
    assert forecast.value == pytest.approx(0.5)
    assert forecast.error > 0


def test_without_finished_curves_the_error_is_unknown() -> None:
    forecast = Forecaster([]).predict({3: 0.4})
    assert forecast is not None
    assert forecast.value == 0.4
    assert math.isnan(forecast.error)
    assert Forecaster([]).predict({}) is None


def test_stopped_trials_are_noisier_and_running_ones_have_no_target() -> None:
    trials = [
        observed(0, 0.5, curve={1: 0.2}),
        observed(1, 0.9, curve={1: 0.4}),
        observed(2, 0.3, Standing.STOPPED, {1: 0.3}),
        observed(3, 0.0, Standing.RUNNING),
    ]
    targets, extra = targets_of(trials, [1.0])
    # Predicted, the stopped trial lies between the two that finished.
    assert targets[0] < targets[2] < targets[1]
    assert math.isnan(targets[3])
    assert extra[2] > 0 == extra[0] == extra[3]


def test_infeasible_trial_scores_below_all_others() -> None:
    trials = [observed(0, 0.5), observed(1, 0.9), observed(2, -math.inf, Standing.INFEASIBLE)]
    targets, extra = targets_of(trials, [1.0])
    assert targets[2] < targets[0] < targets[1]
    assert list(extra) == [0.0] * 3
    assert list(targets_of(trials[2:], [1.0])[0]) == [0.0]


def test_trials_of_each_task_are_scored_among_themselves() -> None:
    own = [observed(10, 0.7), observed(11, 0.8)]
    lent = [observed(number, 0.1 * number, source="other") for number in range(3)]
    shifted = [observed(number, 0.1 * number - 5, source="other") for number in range(3)]
    targets, extra = targets_of([*lent, *own], [1.0])
    assert targets == pytest.approx(targets_of([*shifted, *own], [1.0])[0])
    assert list(extra) == [0.0] * 5
