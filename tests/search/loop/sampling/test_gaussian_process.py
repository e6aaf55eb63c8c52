"""The Gaussian process: exact, incremental, and sensible without targets."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from search.loop.sampling.gaussian_process import (
    LENGTHS,
    LINEARS,
    NOISES,
    GaussianProcess,
    Hyperparameters,
    choose,
    covariance,
)

COSTS = slice(0, 2)
HYPER = Hyperparameters(length=1.0, noise=0.1, linear=0.5)


def data(number: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    random = np.random.default_rng(seed)
    inputs = random.normal(size=(number, 5))
    return inputs, inputs[:, 0] + np.abs(inputs[:, 3]) + 0.1 * random.normal(size=number)


def test_prediction_is_the_textbook_formula() -> None:
    (inputs, targets), (queries, _) = data(9), data(4, seed=1)
    extra = np.linspace(0, 1, 9)
    found = GaussianProcess(HYPER, inputs, extra, queries, COSTS).predict(targets)
    own = covariance(inputs, inputs, HYPER, COSTS)
    inverse = np.linalg.inv(own + np.diag(HYPER.noise + extra + 1e-8))
    across = covariance(queries, inputs, HYPER, COSTS)
    scale = targets @ inverse @ targets / 9
    variance = np.diag(covariance(queries, queries, HYPER, COSTS) - across @ inverse @ across.T)
    assert found.mean == pytest.approx(across @ inverse @ targets)
    assert found.deviation == pytest.approx(np.sqrt(scale * variance))
    assert found.fitted == pytest.approx(own @ inverse @ targets, abs=1e-6)


def test_appending_equals_starting_with_all_observations() -> None:
    (inputs, targets), (queries, _) = data(12), data(5, seed=1)
    extra = np.linspace(0, 1, 12)
    grown = GaussianProcess(HYPER, inputs[:7], extra[:7], queries, COSTS)
    for row, noise in zip(inputs[7:], extra[7:], strict=True):
        grown.append(row, float(noise))
    whole = GaussianProcess(HYPER, inputs, extra, queries, COSTS)
    for one, other in zip(grown.predict(targets), whole.predict(targets), strict=True):
        assert one == pytest.approx(other)


def test_truncating_equals_never_having_appended() -> None:
    (inputs, targets), (queries, _) = data(12), data(5, seed=1)
    extra = np.linspace(0, 1, 12)
    whole = GaussianProcess(HYPER, inputs, extra, queries, COSTS)
    whole.truncate(7)
    part = GaussianProcess(HYPER, inputs[:7], extra[:7], queries, COSTS)
    for one, other in zip(whole.predict(targets[:7]), part.predict(targets[:7]), strict=True):
        assert one == pytest.approx(other)


def test_added_queries_equal_those_given_at_first() -> None:
    (inputs, targets), (queries, _) = data(9), data(5, seed=1)
    grown = GaussianProcess(HYPER, inputs[:7], np.zeros(7), queries[:2], COSTS)
    grown.append(inputs[7])
    grown.extend(queries[2:])
    grown.append(inputs[8])
    whole = GaussianProcess(HYPER, inputs, np.zeros(9), queries, COSTS)
    for one, other in zip(grown.predict(targets), whole.predict(targets), strict=True):
        assert one == pytest.approx(other)


def test_running_trial_lowers_uncertainty_and_keeps_the_mean() -> None:
    (inputs, targets), (queries, _) = data(10), data(3, seed=1)
    process = GaussianProcess(HYPER, inputs, np.zeros(10), queries, COSTS)
    before = process.predict(targets)
    process.append(queries[0])
    after = process.predict(np.append(targets, np.nan))
    assert after.mean == pytest.approx(before.mean)
    assert after.deviation[0] < 0.7 * before.deviation[0]
    assert (after.deviation <= before.deviation).all()


def test_noisier_observations_count_less() -> None:
    inputs, queries = np.zeros((2, 5)), np.zeros((1, 5))
    targets = np.array([1.0, -1.0])
    process = GaussianProcess(HYPER, inputs, np.array([0.0, 5.0]), queries, COSTS)
    assert process.predict(targets).mean[0] > 0.5


def test_no_observations_predict_zero() -> None:
    process = GaussianProcess(HYPER, np.zeros((0, 5)), np.zeros(0), np.zeros((2, 5)), COSTS)
    found = process.predict(np.zeros(0))
    assert (found.mean == 0).all()
    assert (found.deviation > 0).all()


def test_chosen_noise_follows_the_data() -> None:
    inputs, _ = data(60)
    smooth = inputs[:, 0]
    noise = np.random.default_rng(2).normal(size=60)
    none = np.zeros(60)
    assert choose(inputs, smooth, none, COSTS).noise < choose(inputs, noise, none, COSTS).noise


@pytest.mark.parametrize("noise", [0.0, 0.3, 3.0])
def test_chosen_hyperparameters_are_the_most_likely_of_the_grid(noise: float) -> None:
    inputs, targets = data(30)
    targets = targets + noise * np.random.default_rng(2).normal(size=30)
    extra = np.linspace(0, 0.1, 30)

    def likelihood(hyper: Hyperparameters) -> float:
        matrix = covariance(inputs, inputs, hyper, COSTS) + np.diag(hyper.noise + extra)
        scale = targets @ np.linalg.solve(matrix, targets) / 30
        return float(-15 * np.log(scale) - 0.5 * np.linalg.slogdet(matrix)[1])

    # The marginal likelihood of a textbook, with the scale fitted.
    grid = itertools.starmap(Hyperparameters, itertools.product(LENGTHS, NOISES, LINEARS))
    chosen = choose(inputs, targets, extra, COSTS)
    assert likelihood(chosen) == pytest.approx(max(map(likelihood, grid)), abs=1e-4)
