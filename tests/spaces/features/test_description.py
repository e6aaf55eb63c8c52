import math
from collections.abc import Mapping

import pytest

from spaces.errors import BadInputError
from spaces.features.description import Description
from spaces.features.training import RECIPE_FEATURES, recipe_features
from spaces.named import named
from spaces.recipe import SCHEDULES, Recipe, recipe
from spaces.schedules import MultiStep
from spaces.task import Task
from tests.spaces.drawing import random_trial

TASK = Task(3, 32, 32, 10)
NET = named("vgg11", TASK)
DEFAULT = Recipe(0.1, 1e-4, 128, 0.0, 0.9)


@pytest.mark.parametrize("schedule", SCHEDULES)
def test_every_recipe_has_the_same_finite_features(schedule: str) -> None:
    options = {"milestones": [2, 3]} if schedule == "multi_step" else {}
    for seed in range(3):
        drawn = recipe(
            random_trial(seed), TASK, schedule=schedule, ema=(0.0, 0.99), clip=(0.0, 1.0), **options
        )
        features = recipe_features(drawn)
        assert len(features) == len(RECIPE_FEATURES)
        assert all(map(math.isfinite, features))
        named_features = dict(zip(RECIPE_FEATURES, features, strict=True))
        assert [each for each in SCHEDULES if named_features[f"schedule_{each}"]] == [schedule]


def test_different_recipes_have_different_features() -> None:
    others = [
        Recipe(0.2, 1e-4, 128, 0.0, 0.9),
        Recipe(0.1, 0.0, 128, 0.0, 0.9),
        Recipe(0.1, 1e-4, 64, 0.0, 0.9),
        Recipe(0.1, 1e-4, 128, 0.1, 0.9),
        Recipe(0.1, 1e-4, 128, 0.0, 0.95),
        Recipe(0.1, 1e-4, 128, 0.0, 0.9, optimizer="muon"),
        Recipe(0.1, 1e-4, 128, 0.0, 0.9, schedule=MultiStep((2,), 0.1)),
        Recipe(0.1, 1e-4, 128, 0.0, 0.9, clip=1.0),
        Recipe(0.1, 1e-4, 128, 0.0, 0.9, initialization="dirac"),
    ]
    assert len({recipe_features(each) for each in [DEFAULT, *others]}) == 1 + len(others)


def test_space_adds_features_by_name() -> None:
    description = Description("mine:space", lambda net: {"layers": len(net.layers)})
    features = description.features(NET, DEFAULT)
    assert dict(zip(description.names, features, strict=True))["layers"] == len(NET.layers)


@pytest.mark.parametrize("value", [math.nan, math.inf, "text", None])
def test_added_feature_that_is_no_finite_number_is_refused(value: object) -> None:
    description = Description("mine:space", lambda net: {"layers": value})  # type: ignore[dict-item]
    with pytest.raises(BadInputError, match="as the feature layers; return finite numbers"):
        description.features(NET, DEFAULT)


def test_added_features_of_other_names_are_refused() -> None:
    answers = iter([{"a": 1.0, "b": 2.0}, {"b": 1.0, "a": 2.0}, {"a": 1.0}])

    def own(net: object) -> Mapping[str, float]:
        return next(answers)

    description = Description("mine:space", own)
    assert description.features(NET, DEFAULT)[-2:] == (1.0, 2.0)
    assert description.features(NET, DEFAULT)[-2:] == (2.0, 1.0)
    with pytest.raises(BadInputError, match="has b among the features of some networks only"):
        description.features(NET, DEFAULT)


def test_failing_function_of_features_is_named() -> None:
    def own(net: object) -> Mapping[str, float]:
        raise KeyError("width")

    with pytest.raises(BadInputError, match="features raised KeyError: 'width'"):
        Description("mine:space", own).features(NET, DEFAULT)
