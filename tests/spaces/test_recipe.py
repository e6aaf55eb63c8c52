"""Recipes: the training hyperparameters that are drawn with an architecture."""

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.trial import FixedTrial

from spaces import BadInputError, Recipe, Task
from spaces.recipe import recipe
from spaces.schedules import Constant, Cosine, MultiStep, OneCycle, WarmRestarts
from tests.spaces.drawing import OPTIONS, assert_one_helpful_line, random_trial
from tests.spaces.graphs import examples

TASK = Task(channels=3, height=32, width=32, classes=10)
ALL_SCHEDULES = {
    "schedule": ["one_cycle", "cosine", "multi_step", "warm_restarts", "constant"],
    "milestones": [3, 6],
}
OPTION_NAMES = [
    "learning_rate",
    "weight_decay",
    "batch_size",
    "label_smoothing",
    "momentum",
    "optimizer",
    "schedule",
    "milestones",
    "decay",
    "first_cycle",
    "cycle_growth",
    "floor",
    "ema",
    "clip",
    "trainable",
    "norm_bias_rate",
    "initialization",
    "lookahead",
]


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
        optimizer=["sgd", "adamw", "muon"],
        ema=[0.9, 0.999],
        clip=[0.5, 2.0],
        trainable=["all", "batchnorm"],
        norm_bias_rate=[1, 64],
        initialization=["standard", "dirac"],
        lookahead=[2, 9],
    )

    assert 0.01 <= drawn.learning_rate <= 0.1
    assert 1e-5 <= drawn.weight_decay <= 1e-3
    assert drawn.batch_size in (64, 128)
    assert 0.0 <= drawn.label_smoothing <= 0.2
    assert 0.8 <= drawn.momentum <= 0.95
    assert drawn.optimizer in ("sgd", "adamw", "muon")
    assert 0.9 <= drawn.ema <= 0.999
    assert 0.5 <= drawn.clip <= 2.0
    assert drawn.trainable in ("all", "batchnorm")
    assert trial.params == {name: getattr(drawn, name) for name in trial.params}
    assert 1 <= drawn.norm_bias_rate <= 64
    assert trial.distributions["norm_bias_rate"].log
    assert drawn.initialization in ("standard", "dirac")
    assert 2 <= drawn.lookahead <= 9
    assert len(trial.params) == 12


def test_a_draw_is_rebuilt_from_its_parameters_alone():
    options = ALL_SCHEDULES | {
        "batch_size": [64, 128],
        "momentum": [0.8, 0.9],
        "optimizer": ["sgd", "adamw", "muon"],
        "decay": [0.1, 0.5],
        "first_cycle": [1, 9],
        "cycle_growth": [1, 3],
        "floor": [0.0, 0.1],
        "ema": [0.0, 0.99],
        "clip": [0.0, 5.0],
        "trainable": ["all", "batchnorm"],
        "norm_bias_rate": [1.0, 64.0],
        "initialization": ["standard", "dirac"],
        "lookahead": [0, 9],
    }
    for seed in range(20):
        trial = random_trial(seed)
        drawn = recipe(trial, TASK, **options)
        assert recipe(FixedTrial(trial.params), TASK, **options) == drawn


RATES = {"sgd": [0.03, 0.3], "adamw": [0.0005, 0.005], "muon": 0.02}


def test_each_optimizer_draws_its_own_rate_and_decay():
    decays = {"sgd": 0.0, "adamw": [0.01, 0.1], "muon": [0.001, 0.002]}
    seen = set()
    for seed in range(20):
        trial = random_trial(seed)
        options = {"optimizer": list(RATES), "learning_rate": RATES, "weight_decay": decays}
        drawn = recipe(trial, TASK, **options)
        for value, asked in ((drawn.learning_rate, RATES), (drawn.weight_decay, decays)):
            expected = asked[drawn.optimizer]
            low, high = expected if isinstance(expected, list) else (expected, expected)
            assert low <= value <= high
        assert recipe(FixedTrial(trial.params), TASK, **options) == drawn
        seen.add(drawn.optimizer)
    assert seen == set(RATES)


@pytest.mark.parametrize(
    ("rates", "problem"),
    [
        ({"sgd": 0.1}, "has no value for adamw"),
        ({"sgd": 0.1, "adamw": 0.001, "adam": 1}, "'adam' is none of the optimizers"),
        ({"sgd": 0.1, "adamw": -1}, "-1 is not positive"),
        ({"sgd": 0.1, "adamw": 500}, "with weight_decay 0.01 a step subtracts 5 times"),
    ],
)
def test_rates_fit_every_optimizer_that_can_be_drawn(rates, problem):
    for seed in range(3):
        with pytest.raises(BadInputError, match=problem):
            recipe(random_trial(seed), TASK, optimizer=["sgd", "adamw"], learning_rate=rates)


def test_fixed_option_is_not_a_study_parameter():
    trial = random_trial()
    drawn = recipe(trial, TASK, learning_rate=0.1, weight_decay=0)

    assert trial.params == {}
    assert drawn == Recipe(
        learning_rate=0.1, weight_decay=0.0, batch_size=128, label_smoothing=0.0, momentum=0.9
    )


def test_fixed_option_never_asks_the_trial():
    """Optuna would take longer than all the rest."""
    drawn = recipe(
        None,
        TASK,
        learning_rate=0.01,
        weight_decay=0.1,
        optimizer="adamw",
        schedule="warm_restarts",
        first_cycle=5,
        cycle_growth=1,
        floor=0.01,
        ema=0.999,
        clip=1,
        trainable="batchnorm",
    )

    schedule = WarmRestarts(first=5, growth=1, floor=0.01)
    assert drawn == Recipe(
        0.01, 0.1, 128, 0.0, 0.9, "adamw", schedule, ema=0.999, clip=1.0, trainable="batchnorm"
    )


def test_default_recipe_is_plain_sgd_on_one_cycle():
    assert Recipe(0.1, 0.0, 128, 0.0, 0.9) == Recipe(
        0.1,
        0.0,
        128,
        0.0,
        0.9,
        optimizer="sgd",
        schedule=OneCycle(),
        ema=0.0,
        clip=0.0,
        trainable="all",
        norm_bias_rate=1.0,
        initialization="standard",
        lookahead=0,
        first_layer="standard",
        small_images=0.0,
        small_side=0.75,
    )


@pytest.mark.parametrize(
    ("name", "schedule"),
    [
        ("one_cycle", OneCycle()),
        ("cosine", Cosine(floor=0.0)),
        ("multi_step", MultiStep(milestones=(3, 6), factor=0.1)),
        ("warm_restarts", WarmRestarts(first=10, growth=2, floor=0.0)),
        ("constant", Constant()),
    ],
)
def test_each_schedule_has_its_name_and_its_defaults(name, schedule):
    assert recipe(random_trial(), TASK, schedule=name, milestones=[3, 6]).schedule == schedule


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("one_cycle", set()),
        ("cosine", {"floor"}),
        ("multi_step", {"decay"}),
        ("warm_restarts", {"first_cycle", "cycle_growth", "floor"}),
        ("constant", set()),
    ],
)
def test_only_the_parameters_of_the_drawn_schedule_are_drawn(name, parameters):
    """A sampler must not look for an influence of what has none."""
    trial = random_trial()
    drawn = recipe(
        trial,
        TASK,
        learning_rate=0.1,
        weight_decay=0,
        schedule=name,
        milestones=[3, 6],
        decay=[0.2, 0.5],
        first_cycle=[3, 9],
        cycle_growth=[2, 4],
        floor=[0.01, 0.1],
    )

    assert set(trial.params) == parameters
    for parameter, attribute in [
        ("decay", "factor"),
        ("first_cycle", "first"),
        ("cycle_growth", "growth"),
        ("floor", "floor"),
    ]:
        if parameter in parameters:
            assert getattr(drawn.schedule, attribute) == trial.params[parameter]


def test_every_schedule_of_a_list_is_drawn():
    drawn = {type(recipe(random_trial(s), TASK, **ALL_SCHEDULES).schedule) for s in range(60)}

    assert drawn == {OneCycle, Cosine, MultiStep, WarmRestarts, Constant}


def test_unused_schedule_options_do_not_change_the_repr():
    """Digests are taken of the text: equal trainings must not be trained twice."""
    others = {"decay": 0.5, "first_cycle": 3, "cycle_growth": 1, "milestones": [1]}
    plain = recipe(FixedTrial({}), TASK, learning_rate=1, weight_decay=0, schedule="cosine")
    same = recipe(
        FixedTrial({}), TASK, learning_rate=1, weight_decay=0, schedule="cosine", **others
    )

    assert repr(same) == repr(plain)


@pytest.mark.parametrize(
    "changes",
    [
        {"optimizer": "adamw"},
        {"schedule": "constant"},
        {"schedule": "cosine"},
        {"schedule": "cosine", "floor": 0.1},
        {"ema": 0.5},
        {"clip": 0.5},
        {"trainable": "batchnorm"},
        {"optimizer": "muon"},
        {"norm_bias_rate": 64},
        {"initialization": "dirac"},
        {"initialization": "random_scale"},
        {"lookahead": 5},
        {"first_layer": "whitening"},
        {"small_images": 0.5},
        {"small_images": 0.5, "small_side": 0.5},
    ],
    ids=str,
)
def test_different_recipes_have_different_reprs(changes):
    fixed = {"learning_rate": 0.1, "weight_decay": 0.0}
    texts = {repr(recipe(None, TASK, **fixed, **options)) for options in ({}, changes)}
    texts.add(repr(recipe(None, TASK, **fixed, schedule="cosine", floor=0.2)))

    assert len(texts) == 3


@pytest.mark.parametrize("schedule", ["multi_step", ["one_cycle", "multi_step"]], ids=str)
def test_multi_step_without_milestones_is_always_refused(schedule):
    for seed in range(6):
        with pytest.raises(BadInputError, match="multi_step needs a list of epochs") as caught:
            recipe(random_trial(seed), TASK, schedule=schedule)
        assert_one_helpful_line(caught.value, "recipe.milestones", None)


def test_equal_recipes_have_equal_reprs_for_any_number_format():
    """Digests are taken of the text."""
    whole = recipe(random_trial(), TASK, learning_rate=1, weight_decay=0, momentum=0)
    real = recipe(random_trial(), TASK, learning_rate=1.0, weight_decay=0.0, momentum=0.0)

    assert repr(whole) == repr(real)


@pytest.mark.parametrize(
    ("option", "value", "problem"),
    [
        ("learning_rate", -0.1, "-0.1 is not positive"),
        ("learning_rate", 0, "0 is not positive"),
        ("learning_rate", 0.0, "0 is not positive"),
        ("learning_rate", [0.0, 0.1], "0 is not positive"),
        ("learning_rate", [0.1, 500.0], "with weight_decay 0.01 a step subtracts 5 times"),
        ("learning_rate", [0.3, 0.1], "low <= high must hold"),
        ("learning_rate", "0.1", "is text"),
        ("learning_rate", "much", "is not a range"),
        ("learning_rate", math.nan, "is not finite"),
        ("weight_decay", -1, "-1 is not 0 or more"),
        ("weight_decay", [1e-5, math.inf], "is not finite"),
        ("weight_decay", 10, "with learning_rate 0.3 a step subtracts 3 times"),
        ("weight_decay", [1e-5, 1e9], "with learning_rate 0.3 a step subtracts 3e+08 times"),
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
        ("optimizer", "adam", "adam is unknown"),
        ("optimizer", ["sgd", "lion"], "lion is unknown"),
        ("optimizer", None, "is no choice"),
        ("schedule", "onecycle", "onecycle is unknown"),
        ("schedule", ["constant", 1], "1 is unknown"),
        ("milestones", [], "needs a list"),
        ("milestones", 30, "needs a list"),
        ("milestones", [30, 60.0], "60.0 is no number of epochs"),
        ("milestones", [True, 2], "True is no number of epochs"),
        ("milestones", [0, 30], "0 is no number of epochs"),
        ("milestones", [30, 30], "30 does not come after 30"),
        ("milestones", [60, 30], "30 does not come after 60"),
        ("decay", 1.0, "1 is 1 or more"),
        ("decay", -0.1, "-0.1 is not positive"),
        ("decay", 0, "0 is not positive"),
        ("first_cycle", 0, "0 is under 1"),
        ("first_cycle", 2.5, "is not a range"),
        ("cycle_growth", [0, 2], "0 is under 1"),
        ("floor", 1, "1 is 1 or more"),
        ("floor", [0.1, 0.01], "low <= high must hold"),
        ("ema", 1.0, "1 is 1 or more"),
        ("ema", "0.9", "is text"),
        ("clip", -1, "-1 is not 0 or more"),
        ("clip", math.inf, "is not finite"),
        ("trainable", "norms", "norms is unknown"),
        ("trainable", [], "is no choice"),
        ("norm_bias_rate", -1, "-1 is not 0 or more"),
        ("norm_bias_rate", [0, 64], "0 is not positive"),
        ("initialization", "identity", "identity is unknown"),
        ("lookahead", -1, "-1 is under 0"),
        ("lookahead", 0.5, "is not a range"),
        ("first_layer", "whiten", "whiten is unknown"),
        ("small_images", 1, "1 is 1 or more"),
        ("small_images", -0.5, "-0.5 is not 0 or more"),
        ("small_side", 0, "0 is not positive"),
        ("small_side", [0.5, 1.0], "1 is 1 or more"),
    ],
    ids=str,
)
def test_bad_option_is_refused_with_field_value_and_remedy(option, value, problem):
    """Also where the option matters to a schedule that is not drawn."""
    for seed in range(6):
        with pytest.raises(BadInputError) as caught:
            recipe(random_trial(seed), TASK, **{option: value})
        assert problem in caught.value.problem
        assert_one_helpful_line(caught.value, f"recipe.{option}", value)


def test_side_of_small_images_is_drawn_only_if_there_are_some():
    """A sampler must not look for an influence of what has none."""
    for fraction, parameters in [(0.0, set()), (0.5, {"small_side"})]:
        trial = random_trial()
        fixed = {"learning_rate": 0.1, "weight_decay": 0, "small_images": fraction}
        drawn = recipe(trial, TASK, **fixed, small_side=[0.5, 0.7])
        assert set(trial.params) == parameters
        assert drawn.small_side == trial.params.get("small_side", 0.75)


def test_norm_biases_may_keep_their_initial_value():
    assert recipe(random_trial(), TASK, norm_bias_rate=0).norm_bias_rate == 0


def test_learning_rate_and_decay_of_any_size_are_refused_together():
    large = 10**308
    with pytest.raises(BadInputError) as caught:
        recipe(random_trial(), TASK, learning_rate=large, weight_decay=large)
    assert_one_helpful_line(caught.value, "recipe.weight_decay", large)


@examples(300)
@given(st.sampled_from(OPTION_NAMES), OPTIONS)
def test_option_value_gives_only_recipes_or_only_refusals(option, value):
    verdicts = set()
    for seed in (1, 2, 3):
        try:
            drawn = recipe(random_trial(seed), TASK, **(ALL_SCHEDULES | {option: value}))
        except BadInputError as error:
            assert_one_helpful_line(error, f"recipe.{option}", value)
            verdicts.add("refused")
        else:
            assert drawn.learning_rate > 0
            assert drawn.weight_decay >= 0
            assert drawn.batch_size >= 1
            assert 0 <= drawn.label_smoothing < 1
            assert 0 <= drawn.momentum < 1
            assert 0 <= drawn.ema < 1
            assert drawn.clip >= 0
            assert drawn.norm_bias_rate >= 0
            assert 0 <= drawn.schedule.ratio(7, 5, 30) <= 1
            verdicts.add("drawn")
    assert len(verdicts) == 1
