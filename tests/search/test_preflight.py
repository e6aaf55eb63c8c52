"""What is refused before anything is written: spaces that cannot be searched."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import optuna
import pytest

from search.experiment import ScreensSection
from search.preflight import DRAWS, NEEDED, check_space
from search.screens import build_screens
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Add, Convolution, GlobalPooling, Linear
from spaces.task import Task

Spaces = Callable[..., CandidateSpace]


def check(space: CandidateSpace, *, images: int = 1000, seed: int = 0, **screens: Any) -> None:
    section = ScreensSection.model_validate(screens)
    check_space(space, build_screens(section), training_images=images, seed=seed)


def refusal(space: CandidateSpace, **arguments: Any) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        check(space, **arguments)
    return caught.value


def test_a_space_passes_after_a_few_accepted_draws(eight_candidates: CandidateSpace) -> None:
    drawn = []
    draw = eight_candidates.draw

    class Counting:
        name, check_output = eight_candidates.name, eight_candidates.check_output
        recipe_options = eight_candidates.recipe_options

        def draw(self, trial: optuna.Trial) -> Any:
            drawn.append(trial.number)
            return draw(trial)

    check(Counting())
    assert len(drawn) == NEEDED


def test_a_space_passes_though_most_of_it_is_rejected(vgg_space: Spaces) -> None:
    check(vgg_space(depth=[4, 12], kernel=3, pools=0))


@pytest.mark.parametrize(
    ("options", "screens", "reason", "remedy"),
    [
        ({"depth": [7, 12]}, {}, "border", "raise the resolution"),
        ({"depth": 8, "pools": 8, "convs_before_pool": 1}, {}, "collapsed", "fewer pools"),
        ({}, {"max_params": 10}, "params", "screens.max_params"),
        ({}, {"max_macs": 10}, "macs", "screens.max_macs"),
        ({}, {"max_memory_mb": 0.001}, "memory", "screens.max_memory_mb"),
    ],
)
def test_a_space_of_which_nothing_is_left_is_refused_with_the_reason(
    vgg_space: Spaces, options: dict[str, Any], screens: dict[str, Any], reason: str, remedy: str
) -> None:
    off = {} if reason in ("border", "collapsed") else {"border": "off"}
    error = refusal(vgg_space(**options), **off, **screens)
    assert (error.field, error.value) == ("space", "vgg")
    assert f"reject {DRAWS} of {DRAWS} random candidates ({reason} {DRAWS}; e.g. " in error.problem
    assert remedy in error.remedy


def test_a_space_of_which_almost_nothing_is_left_is_refused_too(function_space: Spaces) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        rare = trial.suggest_int("lot", 1, 1000) == 1
        builder = Builder(task.image_shape)
        x = builder.image
        for _ in range(1 if rare else 9):
            x = builder.add(Convolution(2), x)
        builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
        return builder.build()

    error = refusal(function_space(space))
    rejected = int(error.problem.split("reject ")[1].split()[0])
    assert DRAWS - NEEDED < rejected <= DRAWS


def test_a_batch_that_is_larger_than_the_training_split_is_refused(vgg_space: Spaces) -> None:
    check(vgg_space(recipe={"batch_size": 100}), images=100)
    error = refusal(vgg_space(recipe={"batch_size": 101}), images=100)
    assert (error.field, error.value) == ("recipe.batch_size", 101)
    # Whatever happens to be drawn.
    for seed in range(5):
        space = vgg_space(recipe={"batch_size": [8, 16, 32, 101]})
        with pytest.raises(BadInputError, match="101"):
            check_space(space, [], training_images=100, seed=seed)
    assert "100 training images" in error.problem


def ends_in(features: int) -> Callable[..., Architecture]:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        x = builder.add(Convolution(trial.suggest_int("f", 1, 4)), builder.image)
        builder.add(Linear(features), builder.add(GlobalPooling(), x))
        return builder.build()

    return space


def test_networks_whose_output_is_not_one_value_for_each_class_are_refused(
    function_space: Spaces,
) -> None:
    check(function_space(ends_in(10)))
    error = refusal(function_space(ends_in(7)))
    assert error.field == "space"
    assert "(7, 1, 1)" in error.problem
    assert "10 classes" in error.problem
    assert "Linear(task.classes)" in error.remedy


def test_networks_that_cannot_be_built_are_refused(function_space: Spaces) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        left = builder.add(Convolution(2), builder.image)
        right = builder.add(Convolution(3), builder.image)
        x = builder.add(Add(), left, right)
        builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
        return builder.build()

    error = refusal(function_space(space))
    assert error.field == "space"
    assert "only equal shapes can be added" in error.problem


def test_a_space_function_that_raises_is_refused_with_its_error(function_space: Spaces) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        raise ZeroDivisionError("no layers\nto divide by")

    error = refusal(function_space(space))
    assert error.field == "space"
    assert "ZeroDivisionError" in error.problem
    assert str(error).splitlines() == [str(error)]


def test_a_space_function_that_returns_no_architecture_is_refused(function_space: Spaces) -> None:
    error = refusal(function_space(lambda trial, task: "a network"))
    assert "returned a str" in error.problem
