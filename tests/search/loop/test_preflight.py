"""Spaces that cannot be searched are refused before anything is written."""

from __future__ import annotations

import io
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import optuna
import pytest
from rich.console import Console

from search.driver.run import run_search
from search.experiment.folder import Home
from search.experiment.schema import Experiment
from search.experiment.sections import ScreensSection
from search.loop.preflight import DRAWS, NEEDED, check_space
from search.loop.screens import build_screens
from spaces.architecture import Architecture, Builder
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Add, Convolution, GlobalPooling, Linear
from spaces.task import Task
from spaces.vgg import vgg

Spaces = Callable[..., CandidateSpace]


def check(
    space: CandidateSpace, *, images: int = 1000, epochs: int = 10, seed: int = 0, **screens: Any
) -> None:
    section = ScreensSection.model_validate(screens)
    check_space(space, build_screens(section), training_images=images, epochs=epochs, seed=seed)


def refusal(space: CandidateSpace, **arguments: Any) -> BadInputError:
    with pytest.raises(BadInputError) as caught:
        check(space, **arguments)
    return caught.value


def test_a_space_passes_after_a_few_accepted_draws(eight_candidates: CandidateSpace) -> None:
    drawn = []
    draw = eight_candidates.draw

    class Counting:
        name, check_output = eight_candidates.name, eight_candidates.check_output
        check_rebuild = eight_candidates.check_rebuild
        task, recipe_options = eight_candidates.task, eight_candidates.recipe_options

        def draw(self, trial: optuna.Trial) -> Any:
            drawn.append(trial.number)
            return draw(trial)

    check(Counting())
    assert len(drawn) == NEEDED


def test_a_space_passes_even_if_most_of_it_is_rejected(vgg_space: Spaces) -> None:
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
def test_a_fully_rejected_space_is_refused_with_the_reason(
    vgg_space: Spaces, options: dict[str, Any], screens: dict[str, Any], reason: str, remedy: str
) -> None:
    off = {} if reason in ("border", "collapsed") else {"border": "off"}
    error = refusal(vgg_space(**options), **off, **screens)
    assert (error.field, error.value) == ("space", "vgg")
    assert (
        f"reject {DRAWS:,} of {DRAWS:,} random candidates ({reason} {DRAWS:,}; e.g. "
        in error.problem
    )
    assert remedy in error.remedy


def test_an_almost_fully_rejected_space_is_refused(function_space: Spaces) -> None:
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


def test_a_batch_larger_than_the_training_split_is_refused(vgg_space: Spaces) -> None:
    check(vgg_space(recipe={"batch_size": 100}), images=100)
    error = refusal(vgg_space(recipe={"batch_size": 101}), images=100)
    assert (error.field, error.value) == ("recipe.batch_size", 101)
    # For any draw.
    for seed in range(5):
        space = vgg_space(recipe={"batch_size": [8, 16, 32, 101]})
        with pytest.raises(BadInputError, match="101"):
            check_space(space, [], training_images=100, epochs=9, seed=seed)
    assert "100 training images" in error.problem


def test_milestones_after_the_last_epoch_are_refused(vgg_space: Spaces) -> None:
    space = vgg_space(recipe={"schedule": "multi_step", "milestones": [5, 8]})
    check(space, epochs=9)
    error = refusal(space, epochs=8)
    assert (error.field, error.value) == ("recipe.milestones", [5, 8])
    assert "the 8 epochs" in error.problem


def test_incomplete_warm_restarts_are_refused_with_a_remedy(
    vgg_space: Spaces,
) -> None:
    space = vgg_space(recipe={"schedule": "warm_restarts", "first_cycle": 2, "cycle_growth": 2})
    check(space, epochs=14)
    error = refusal(space, epochs=10)
    assert (error.field, error.value) == ("recipe.first_cycle", 2)
    assert error.remedy == "set epochs to 6 or 14, or change recipe.first_cycle"


@pytest.mark.parametrize(
    ("options", "field"),
    [
        ({"schedule": [*["one_cycle", "cosine"] * 20, "multi_step"]}, "recipe.milestones"),
        ({"schedule": [*["constant"] * 40, "warm_restarts"]}, "recipe.first_cycle"),
        (
            {"schedule": "warm_restarts", "first_cycle": [1, 7], "cycle_growth": 1},
            "recipe.first_cycle",
        ),
    ],
    ids=["multi_step", "warm_restarts", "first_cycle"],
)
def test_a_rarely_drawn_schedule_that_does_not_fit_is_refused(
    vgg_space: Spaces, options: dict[str, Any], field: str
) -> None:
    space = vgg_space(recipe=options | {"milestones": [30, 60]})
    for seed in range(5):
        assert refusal(space, epochs=60, seed=seed).field == field


def test_a_schedule_that_always_fits_passes(vgg_space: Spaces) -> None:
    schedules = ["one_cycle", "cosine", "multi_step", "warm_restarts", "constant"]
    cycles = {"first_cycle": [1, 6], "cycle_growth": 1}
    check(vgg_space(recipe={"schedule": schedules, "milestones": [30], **cycles}), epochs=60)


@pytest.mark.parametrize("schedule", ["onecycle", ["cosine", 1], {"cosine": 1}, [], None], ids=str)
def test_an_unknown_schedule_is_refused_as_written(vgg_space: Spaces, schedule: object) -> None:
    error = refusal(vgg_space(recipe={"schedule": schedule}))
    assert (error.field, error.value) == ("recipe.schedule", schedule)


def test_a_search_refused_for_its_schedule_writes_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BORDERLINE_CACHE", str(tmp_path / "cache"))
    experiment = Experiment.model_validate(
        {
            "name": "restarts",
            "epochs": 4,
            "recipe": {"schedule": "warm_restarts", "first_cycle": 3},
        }
    )
    home = Home(tmp_path / "runs")
    with pytest.raises(BadInputError, match="set epochs to 3 or 9"):
        run_search(experiment, home, Console(file=io.StringIO()))
    assert not home.folder("restarts").path.exists()


def ends_in(features: int) -> Callable[..., Architecture]:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        x = builder.add(Convolution(trial.suggest_int("f", 1, 4)), builder.image)
        builder.add(Linear(features), builder.add(GlobalPooling(), x))
        return builder.build()

    return space


def test_networks_without_one_output_per_class_are_refused(
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


def test_a_space_function_must_return_an_architecture(function_space: Spaces) -> None:
    error = refusal(function_space(lambda trial, task: "a network"))
    assert "returned a str" in error.problem


def test_a_space_that_draws_from_random_is_refused(function_space: Spaces) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        features = trial.suggest_int("features", 1, 8) * random.choice([1, 2])
        return vgg(trial, task, depth=1, features=features, kernel=3, pools=0)

    for seed in range(5):
        error = refusal(function_space(space), seed=seed)
        line = space.__code__.co_firstlineno
        where = f" ({__file__}, line {line})"
        assert error.problem == f"draws another network from the same parameters{where}"


def test_a_space_that_shares_a_parameter_with_the_recipe_is_refused(
    function_space: Spaces,
) -> None:
    def space(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        features = 1 + int(8 * trial.suggest_float("weight_decay", 0, 1))
        return vgg(trial, task, depth=1, features=features, kernel=3, pools=0)

    error = refusal(function_space(space))
    assert error.problem == "suggests weight_decay, which is a parameter of the recipe"
