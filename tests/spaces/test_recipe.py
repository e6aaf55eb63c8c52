"""Recipes: the training hyperparameters that are drawn with an architecture."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from spaces import BadInputError, Recipe, Task
from spaces.recipe import recipe
from tests.spaces.drawing import OPTIONS, assert_one_helpful_line, random_trial
from tests.spaces.graphs import examples

TASK = Task(channels=3, height=32, width=32, classes=10)
OPTION_NAMES = ["learning_rate", "weight_decay", "batch_size", "label_smoothing", "momentum"]


@examples(50)
@given(st.integers(0, 2**31 - 1))
def test_draws_respect_their_ranges(seed):
    trial = random_trial(seed)
    drawn = recipe(
        trial,
        TASK,
        learning_rate=[0.01, 0.1],
        weight_decay=[1e-5, 1e-3],
        batch_size=[64, 128],
        label_smoothing=[0.0, 0.2],
        momentum=[0.8, 0.95],
    )

    assert 0.01 <= drawn.learning_rate <= 0.1
    assert 1e-5 <= drawn.weight_decay <= 1e-3
    assert drawn.batch_size in (64, 128)
    assert 0.0 <= drawn.label_smoothing <= 0.2
    assert 0.8 <= drawn.momentum <= 0.95
    assert set(trial.params) == set(OPTION_NAMES)


def test_a_draw_is_rebuilt_from_its_parameters_alone():
    for seed in range(10):
        trial = random_trial(seed)
        drawn = recipe(trial, TASK, batch_size=[64, 128], momentum=[0.8, 0.9])
        assert recipe(
            FixedTrial(trial.params), TASK, batch_size=[64, 128], momentum=[0.8, 0.9]
        ) == (drawn)


def test_what_is_fixed_is_no_parameter_of_the_study():
    trial = random_trial()
    drawn = recipe(trial, TASK, learning_rate=0.1, weight_decay=0)

    assert trial.params == {}
    assert drawn == Recipe(
        learning_rate=0.1, weight_decay=0.0, batch_size=128, label_smoothing=0.0, momentum=0.9
    )


def test_equal_recipes_read_the_same_however_their_numbers_are_written():
    """Digests are taken of the text."""
    whole = recipe(random_trial(), TASK, learning_rate=1, weight_decay=0, momentum=0)
    real = recipe(random_trial(), TASK, learning_rate=1.0, weight_decay=0.0, momentum=0.0)

    assert repr(whole) == repr(real)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("learning_rate", -0.1, "-0.1 is not positive"),
        ("learning_rate", [0.0, 0.1], "0 is not positive"),
        ("learning_rate", [0.3, 0.1], "low <= high must hold"),
        ("learning_rate", "0.1", "is not a range"),
        ("learning_rate", math.nan, "is not finite"),
        ("weight_decay", [1e-5, math.inf], "is not finite"),
        ("batch_size", 0, "0 is no batch size"),
        ("batch_size", -64, "-64 is no batch size"),
        ("batch_size", 64.0, "64.0 is no batch size"),
        ("batch_size", True, "True is no batch size"),
        ("batch_size", [64, 0], "0 is no batch size"),
        ("batch_size", [64, "128"], "128 is no batch size"),
        ("batch_size", [[64], [128]], "[64] is no single value"),
        ("batch_size", [], "is no choice"),
        ("label_smoothing", 1.0, "1 is 1 or more"),
        ("label_smoothing", [0.0, 1.5], "1.5 is 1 or more"),
        ("label_smoothing", -0.1, "-0.1 is not 0 or more"),
        ("momentum", 1, "1 is 1 or more"),
        ("momentum", [0.5, 1.0], "1 is 1 or more"),
    ],
    ids=str,
)
def test_a_bad_option_is_refused_at_every_draw_with_field_value_and_remedy(option, value, problem):
    for seed in range(6):
        with pytest.raises(BadInputError) as caught:
            recipe(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"recipe.{option}", value)


@examples(300)
@given(st.sampled_from(OPTION_NAMES), OPTIONS)
def test_whatever_an_option_holds_all_draws_are_recipes_or_all_are_refused(option, value):
    verdicts = set()
    for seed in (1, 2, 3):
        try:
            drawn = recipe(random_trial(seed), TASK, **{option: value})
        except BadInputError as error:
            assert_one_helpful_line(error, f"recipe.{option}", value)
            verdicts.add("refused")
        else:
            assert drawn.learning_rate >= 0
            assert drawn.weight_decay >= 0
            assert drawn.batch_size >= 1
            assert 0 <= drawn.label_smoothing < 1
            assert 0 <= drawn.momentum < 1
            verdicts.add("drawn")
    assert len(verdicts) == 1
