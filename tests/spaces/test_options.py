"""Drawing one value from what an experiment file says about it, and the one error."""

import math
import pickle

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from spaces import BadInputError
from spaces.options import choices, draw_choice, draw_float, draw_int
from tests.spaces.drawing import OPTIONS, assert_one_helpful_line, random_trial
from tests.spaces.graphs import examples


@examples(60)
@given(st.integers(1, 10**6), st.integers(0, 10**6), st.booleans(), st.integers(0, 99))
def test_a_whole_number_is_drawn_from_its_range(low, span, log, seed):
    trial = random_trial(seed)
    value = draw_int(trial, "n", [low, low + span], field="space.n", log=log)

    assert type(value) is int
    assert low <= value <= low + span
    assert trial.params == ({"n": value} if span else {})


@examples(60)
@given(st.floats(0, 1e6), st.floats(0, 1e6), st.integers(0, 99))
@example(0.0, 5e-324, 0)  # The sampler draws the upper end: a numpy number.
def test_a_number_is_drawn_from_its_range(low, span, seed):
    trial = random_trial(seed)
    value = draw_float(trial, "x", (low, low + span), field="space.x")

    assert type(value) is float
    assert low <= value <= low + span
    assert trial.params == {"x": value}


def test_a_choice_is_drawn_from_its_list():
    drawn = {draw_choice(random_trial(s), "c", ["a", "b", "c"], field="f") for s in range(40)}

    assert drawn == {"a", "b", "c"}


@pytest.mark.parametrize("kind", ["list", "tuple"])
def test_ranges_and_choices_come_as_lists_or_tuples(kind):
    option = {"list": list, "tuple": tuple}[kind]((1, 3))

    assert draw_int(random_trial(), "n", option, field="f") in (1, 2, 3)
    assert 1 <= draw_float(random_trial(), "x", option, field="f") <= 3
    assert draw_choice(random_trial(), "c", option, field="f") in (1, 3)


def test_a_single_value_is_fixed_and_no_parameter():
    trial = random_trial()

    assert draw_int(trial, "n", 7, field="f") == 7
    assert draw_int(trial, "n", [7, 7], field="f") == 7
    assert draw_float(trial, "x", 0.5, field="f") == 0.5
    assert draw_choice(trial, "c", "a", field="f") == "a"
    assert trial.params == {}


def test_a_fixed_number_is_a_float_however_it_is_written():
    assert type(draw_float(random_trial(), "x", 1, field="f")) is float


def test_only_fixed_number_may_be_zero_on_logarithmic_scale():
    assert draw_float(random_trial(), "x", 0, field="f", log=True) == 0
    with pytest.raises(BadInputError, match="0 is not positive"):
        draw_float(random_trial(), "x", [0, 1], field="f", log=True)


def test_logarithmic_draws_favour_no_order_of_magnitude():
    ints = [draw_int(random_trial(s), "n", [1, 10_000], field="f", log=True) for s in range(200)]
    floats = [
        draw_float(random_trial(s), "x", [1e-4, 1.0], field="f", log=True) for s in range(200)
    ]

    assert 60 < sum(value <= 100 for value in ints) < 140
    assert 60 < sum(value <= 1e-2 for value in floats) < 140


def test_values_that_would_mean_the_same_are_not_told_apart():
    drawn = {draw_int(random_trial(s), "n", [2, 9], field="f", matters_to=4) for s in range(60)}

    assert drawn == {2, 3, 4}
    assert draw_int(random_trial(), "n", [5, 9], field="f", matters_to=4) == 5
    assert draw_int(random_trial(), "n", 9, field="f", matters_to=4) == 9


def test_an_own_minimum_and_limit_are_kept():
    assert draw_int(random_trial(), "n", 0, field="f", minimum=0) == 0
    with pytest.raises(BadInputError, match="3 is under 5; use 5 or more"):
        draw_int(random_trial(), "n", [3, 9], field="f", minimum=5)
    with pytest.raises(BadInputError, match="1 is 1 or more; use less"):
        draw_float(random_trial(), "x", [0.5, 1.0], field="f", below=1)


@pytest.mark.parametrize(
    ("option", "problem"),
    [
        (-0.1, "-0.1 is not 0 or more"),
        ([-1.0, 1.0], "-1 is not 0 or more"),
        ([1.0, 0.5], "low <= high must hold, but got low=1.0, high=0.5"),
        (math.nan, "is not finite"),
        (math.inf, "is not finite"),
        ([0.1, math.inf], "is not finite"),
        ([math.nan, 1.0], "low <= high must hold"),
        (10**400, "is not finite"),
        ([0, 10**400], "is not finite"),
        ("0.1", "is text"),
        ("01", "is text"),
        (True, "is not a range of numbers"),
        ([0.1, True], "is not a range of numbers"),
        ([[0.1], [0.2]], "is not a range of numbers"),
        ({0.1: 0, 0.2: 0}, "is not a range of numbers"),
        (None, "is not a range of numbers"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_a_bad_number_is_refused_with_field_value_and_remedy(option, problem):
    with pytest.raises(BadInputError) as caught:
        draw_float(random_trial(), "x", option, field="recipe.x")

    assert problem in caught.value.problem
    assert_one_helpful_line(caught.value, "recipe.x", option)


@pytest.mark.parametrize("draw", [draw_int, draw_float, draw_choice])
@examples(150)
@given(option=OPTIONS)
def test_option_value_is_drawn_from_or_refused(draw, option):
    try:
        value = draw(random_trial(), "x", option, field="space.x")
    except BadInputError as error:
        assert_one_helpful_line(error, "space.x", option)
    else:
        possible = option if isinstance(option, list | tuple) else [option]
        if draw is draw_choice:
            assert any(value is one for one in possible)
        else:
            assert min(possible) <= value <= max(possible)


def test_the_choices_are_all_values_that_can_be_drawn():
    assert choices(3) == (3,)
    assert choices("abc") == ("abc",)
    assert choices([3, 5]) == [3, 5]


def test_the_error_reads_as_one_line():
    error = BadInputError("space.depth", [8, 2], "low <= high\n must hold", "swap\tthe two")

    assert str(error) == "space.depth = [8, 2]: low <= high must hold; swap the two"
    assert isinstance(error, ValueError)


def test_a_long_value_is_cut_in_the_error_and_kept_in_it():
    value = "x" * 500
    error = BadInputError("data", value, "is no folder", "give a folder")

    assert len(str(error)) < 200
    assert "xxx...: is no folder; give a folder" in str(error)
    assert error.value == value


def test_error_survives_pickling_between_processes():
    error = BadInputError("space.depth", [8, 2], "low <= high must hold", "swap the two")
    copy = pickle.loads(pickle.dumps(error))  # noqa: S301 - our own bytes

    assert str(copy) == str(error)
    assert (copy.field, copy.value) == (error.field, error.value)


def test_a_replayed_value_is_the_stored_one():
    trial = FixedTrial({"n": 5, "x": 0.25, "c": "b"})

    assert draw_int(trial, "n", [1, 9], field="f") == 5
    assert draw_float(trial, "x", [0, 1], field="f") == 0.25
    assert draw_choice(trial, "c", ["a", "b"], field="f") == "b"
