"""Feature amounts by a skew-normal density, against the published code's own results."""

from itertools import pairwise, product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from spaces import BadInputError, InvalidCandidateError
from spaces.feature_amounts import (
    draw_skew_normal,
    layer_fractions,
    skew_normal,
    skew_normal_amounts,
    violation,
)
from tests.spaces.drawing import random_trial
from tests.spaces.graphs import examples

PUBLISHED = [
    (
        (0, 4, 8),
        [823, 961, 852, 708, 552, 405, 279, 181, 110, 63, 34, 17, 9, 4, 2],
        27_206_551,
    ),
    (
        (7, 3.5, 0),
        [107, 173, 260, 359, 458, 539, 585, 585, 540, 459, 360, 261, 174, 107, 61],
        18_874_905,
    ),
    (
        (15, 5.5, -12),
        [24, 38, 58, 85, 123, 170, 229, 298, 375, 457, 539, 615, 679, 724, 617],
        13_771_031,
    ),
]
"""Location, scale, skew; features of VGG-D's 13 convolutions and 2 hidden layers; parameters."""


@pytest.mark.parametrize(("distribution", "features", "params"), PUBLISHED)
def test_published_amounts_and_parameters_of_vgg_d(distribution, features, params):
    amounts = skew_normal_amounts(*distribution, 5248, 15)

    assert list(amounts) == features
    joints = [a * b for a, b in pairwise(amounts)]
    assert 27 * amounts[0] + 9 * sum(joints[:12]) + sum(joints[12:]) + 10 * amounts[-1] == params


@pytest.mark.parametrize(
    ("layers", "total", "valid"), [(15, 5248, 193), (12, 3968, 194), (18, 6528, 139)]
)
def test_published_grid_has_the_published_number_of_valid_candidates(layers, total, valid):
    scales = [n / 2 for n in range(12)]
    grid = list(product(range(layers + 1), scales, range(-40, 41, 4)))

    assert sum(skew_normal_amounts(*point, total, layers) is not None for point in grid) == valid


def test_without_skew_the_density_is_normal():
    assert skew_normal(3, location=3, scale=2, skew=0) == pytest.approx(0.19947114)
    assert skew_normal(1, 3, 2, 0) == pytest.approx(skew_normal(5, 3, 2, 0))


def test_skew_moves_the_density_to_one_side():
    assert skew_normal(5, 3, 2, 4) > 100 * skew_normal(1, 3, 2, 4)
    assert skew_normal(5, 3, 2, 4) == pytest.approx(skew_normal(1, 3, 2, -4))


def test_the_last_hundredth_of_each_layer_is_left_out_as_published():
    assert sum(layer_fractions(50.0, 5.0, 0.0, 100)) == pytest.approx(0.99, abs=1e-3)


distributions = st.tuples(
    st.floats(-5, 20) | st.floats(allow_nan=False, allow_infinity=False),
    st.floats(0, 8),
    st.floats(-40, 40) | st.floats(allow_nan=False, allow_infinity=False),
    st.integers(1, 6000),
    st.integers(1, 16),
)


@examples(100)
@given(distributions)
def test_only_invalid_distribution_has_a_violation(distribution):
    amounts = skew_normal_amounts(*distribution)

    assert (violation(*distribution) > 0) == (amounts is None)
    if amounts is not None:
        assert len(amounts) == distribution[-1]
        assert min(amounts) >= 2
        assert sum(amounts) > 0.95 * distribution[3]


def test_violation_grows_with_distance_from_valid_distribution():
    assert violation(7, 3.5, 0, 5248, 15) == 0
    farther = [violation(location, 3.5, 0, 5248, 15) for location in (11, 13, 16, 20)]
    thinner = [violation(7, scale, 0, 5248, 15) for scale in (1.8, 1.2, 0.6, 0)]
    poorer = [violation(7, 3.5, 0, total, 15) for total in (80, 60, 20)]
    for violations in (farther, thinner, poorer):
        assert violations[0] > 0
        assert violations == sorted(set(violations))


OPTIONS = {"total": 5248, "location": [0, 15], "scale": [0.5, 5.5], "skew": [-40, 40]}


def test_a_drawn_distribution_is_replayed_from_its_parameters():
    params = {"location": 7, "scale": 3.5, "skew": 0}

    assert draw_skew_normal(FixedTrial(params), 15, **OPTIONS) == tuple(PUBLISHED[1][1])


def test_invalid_distribution_is_refused_with_its_values():
    with pytest.raises(InvalidCandidateError, match=r"5248 features over 15 .* scale 1,") as caught:
        draw_skew_normal(FixedTrial({"location": 7, "scale": 1, "skew": 0}), 15, **OPTIONS)

    assert caught.value.violation == violation(7, 1, 0, 5248, 15)


def test_all_parameters_are_drawn_before_a_distribution_is_refused():
    """The sampler learns from a rejected candidate only what it has drawn."""
    for seed in range(30):
        trial = random_trial(seed)
        try:
            draw_skew_normal(trial, 15, **(OPTIONS | {"total": [64, 4096]}))
        except InvalidCandidateError:
            assert set(trial.params) == {"total_features", "location", "scale", "skew"}
            return
    pytest.fail("every draw was valid")


def test_default_ranges_follow_the_depth_and_are_often_valid():
    valid = 0
    for seed in range(300):
        trial = random_trial(seed)
        try:
            draw_skew_normal(trial, 8, total=1000, location=None, scale=None, skew=(-10.0, 10.0))
            valid += 1
        except InvalidCandidateError:
            pass
        assert 0 <= trial.params["location"] <= 8
        assert 1.6 <= trial.params["scale"] <= 3.2
    assert valid > 30


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("total", 0, "0 is under 1"),
        ("scale", -1, "-1 is not 0 or more"),
        ("scale", [3, 1], "low <= high must hold"),
        ("skew", "much", "is not a range"),
        ("skew", [-float("inf"), 0], "is not finite"),
        ("location", [None, 3], "is not a range"),
    ],
)
def test_a_bad_option_is_refused(option, value, problem):
    with pytest.raises(BadInputError) as caught:
        draw_skew_normal(random_trial(), 15, **(OPTIONS | {option: value}))
    assert problem in caught.value.problem
