"""Candidates: drawn from a family or a user's own space, rebuilt from parameters."""

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.samplers import RandomSampler, TPESampler

from spaces import FAMILIES, BadInputError, Candidate, CandidateSpace, Recipe, Task, costs
from spaces.schedules import Constant
from tests.spaces import nets
from tests.spaces.drawing import assert_one_helpful_line, random_trial, study
from tests.spaces.graphs import examples

TASK = Task(channels=3, height=32, width=32, classes=10)
RECIPE = Recipe(
    learning_rate=0.1, weight_decay=1e-4, batch_size=128, label_smoothing=0.0, momentum=0.9
)

USERS_SPACE = """
from spaces import Builder
from spaces.operations import Convolution, GlobalPooling, Linear

def my_space(trial, task, width=16):
    builder = Builder(task.image_shape)
    x = builder.image
    for number in range(trial.suggest_int("layers", 1, 4)):
        x = builder.add(Convolution(width), x, name=f"conv{number}")
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
    return builder.build()

def parses_arguments(trial, task):
    import argparse

    argparse.ArgumentParser().parse_args(["run", "mine.yaml"])

def raises(trial, task):
    raise KeyError("no such\\nlayer")

def returns_none(trial, task):
    return None

def returns_builder(trial, task):
    return Builder(task.image_shape)

def takes_anything(trial, task, **options):
    return my_space(trial, task, options["how_wide"])

def wrong_classes(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Linear(task.classes + 1), builder.add(GlobalPooling(), builder.image))
    return builder.build()

def other_images(trial, task):
    builder = Builder((task.channels, 8, 8))
    builder.add(Linear(task.classes), builder.add(GlobalPooling(), builder.image))
    return builder.build()

def a_map_at_the_end(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Convolution(task.classes), builder.image)
    return builder.build()

def collapses(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Convolution(8, 99, padding=1), builder.image)
    return builder.build()

def no_fit(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Convolution(8, groups=7), builder.image)
    return builder.build()

def text_for_a_number(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Convolution(8, kernel="3"), builder.image)
    return builder.build()

def no_stride(trial, task):
    builder = Builder(task.image_shape)
    builder.add(Convolution(8, stride=(0, 0)), builder.image)
    return builder.build()

class Own:
    def __call__(self, trial, task):
        return my_space(trial, task)

callable_object = Own()
no_function = 3
"""

_numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module where the user would start the search; give its name."""

    def write(source: str = USERS_SPACE) -> str:
        name = f"users_spaces_{next(_numbers)}"
        (tmp_path / f"{name}.py").write_text(source)
        monkeypatch.syspath_prepend(tmp_path)
        return name

    return write


def of_users(reference: str, **options: object) -> CandidateSpace:
    return CandidateSpace(TASK, reference, options, {})


@pytest.mark.parametrize(
    ("recipe", "digest"),
    [
        ({}, "434437357da2858b7c3e5584345b03c8"),
        (
            {"optimizer": "adamw", "schedule": "cosine", "ema": 0.9, "clip": 1.0},
            "8a4cf35ea0b2454bab84805bc52c9fd3",
        ),
    ],
    ids=["default", "changed"],
)
def test_digest_is_that_of_earlier_versions(recipe, digest):
    """Stored searches compare it: a new field at its default must not change it."""
    options = {"depth": 2, "features": 8, "kernel": 3, "pools": 1, "convs_before_pool": 1}
    fixed = {"learning_rate": 0.1, "weight_decay": 1e-3, "batch_size": 32}
    assert CandidateSpace(TASK, "vgg", options, fixed | recipe).rebuild({}).digest == digest


@pytest.mark.parametrize("sampler", [RandomSampler, TPESampler])
@pytest.mark.parametrize("family", FAMILIES)
def test_a_candidate_is_rebuilt_from_its_parameters_alone(family, sampler):
    search = study(sampler(seed=3))
    space = CandidateSpace(TASK, family, {}, {"batch_size": [64, 128]})
    for _ in range(20):
        trial = search.ask()
        drawn = space.draw(trial)
        rebuilt = CandidateSpace(TASK, family, {}, {"batch_size": [64, 128]}).rebuild(trial.params)
        assert rebuilt == drawn
        assert rebuilt.digest == drawn.digest
        space.check_output(drawn)
        search.tell(trial, drawn.recipe.learning_rate)


def test_options_reach_the_space_and_the_recipe():
    space = CandidateSpace(TASK, "vgg", {"depth": 3}, {"learning_rate": 0.25, "weight_decay": 0.0})
    candidate = space.draw(random_trial())

    assert len(nets.main_path_convolutions(candidate.architecture)) == 3
    assert candidate.recipe.learning_rate == 0.25


def test_digest_covers_architecture_and_every_recipe_value():
    candidate = Candidate(nets.classic_vgg("VGG11"), RECIPE)
    others = [Candidate(nets.classic_vgg("VGG13"), RECIPE)]
    for field in dataclasses.fields(Recipe):
        value = getattr(RECIPE, field.name)
        other = Constant() if field.name == "schedule" else value * 2 or 0.1
        changed = dataclasses.replace(RECIPE, **{field.name: other})
        others.append(dataclasses.replace(candidate, recipe=changed))

    digests = {candidate.digest, *[other.digest for other in others]}
    assert len(digests) == 2 + len(dataclasses.fields(Recipe))
    assert Candidate(nets.classic_vgg("VGG11"), dataclasses.replace(RECIPE)).digest == (
        candidate.digest
    )


def test_the_costs_of_a_candidate_are_those_of_its_architecture():
    candidate = Candidate(nets.classic_vgg("VGG11"), RECIPE)

    assert candidate.costs == costs(candidate.architecture)


# A user's own space


def test_a_users_function_is_a_space(module):
    space = of_users(f"{module()}:my_space", width=24)
    trial = random_trial()
    candidate = space.draw(trial)

    space.check_output(candidate)
    assert candidate.architecture.shapes[1] == (24, 32, 32)
    assert space.rebuild(trial.params) == candidate


def test_a_users_callable_object_is_a_space(module):
    space = of_users(f"{module()}:callable_object")

    space.check_output(space.draw(random_trial()))


def test_a_function_that_takes_any_option_is_given_all(module):
    candidate = of_users(f"{module()}:takes_anything", how_wide=20).draw(random_trial())

    assert candidate.architecture.shapes[1] == (20, 32, 32)


@pytest.mark.parametrize(
    ("reference", "problem", "remedy"),
    [
        ("vggg", "unknown family", "did you mean vgg?"),
        (
            "transformer",
            "unknown family",
            "use one of vgg, resnet, densenet, convmixer or module:function",
        ),
        ("", "unknown family", "use one of vgg"),
        ("vgg:", "unknown family", "module:function"),
        (":vgg", "names no object", "write module:name"),
        ("no_such_module:space", "cannot be imported (ModuleNotFoundError", "check the name"),
        ("spaces.vgg:vgg16", "module spaces.vgg has no vgg16", "did you mean spaces.vgg:vgg?"),
        ("spaces.architecture:FORMAT", "is not a function", "name a function(trial, task)"),
    ],
)
def test_a_space_that_cannot_be_found_is_refused(reference, problem, remedy):
    with pytest.raises(BadInputError) as caught:
        of_users(reference)

    assert problem in caught.value.problem
    assert remedy in caught.value.remedy
    assert_one_helpful_line(caught.value, "space", reference)


@pytest.mark.parametrize(
    ("source", "problem"),
    [
        ("def my_space(trial, task)\n    pass", "SyntaxError"),
        ("import no_such_module", "ModuleNotFoundError: No module named 'no_such_module'"),
        ("raise RuntimeError('two\\nlines')", "RuntimeError: two"),
        ("my_space = 1 / 0", "ZeroDivisionError"),
        ("import sys; sys.exit('usage')", "SystemExit: usage"),
    ],
)
def test_a_module_that_fails_to_import_is_the_users_mistake(module, source, problem):
    reference = f"{module(source)}:my_space"
    with pytest.raises(BadInputError) as caught:
        of_users(reference)

    assert f"cannot be imported ({problem}" in caught.value.problem
    assert_one_helpful_line(caught.value, "space", reference)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("raises", "the space function raised KeyError"),
        ("parses_arguments", "the space function raised SystemExit: 2 in "),
        ("returns_none", "the space function returned a NoneType"),
        ("returns_builder", "the space function returned a Builder"),
        (
            "text_for_a_number",
            "raised ValueError: kernel of convolution cannot be '3'; use a whole",
        ),
        ("no_stride", "raised ValueError: stride of convolution cannot be (0, 0); use a whole"),
    ],
)
def test_a_space_that_draws_no_architecture_is_the_users_mistake(module, function, problem):
    space = of_users(f"{module()}:{function}")
    with pytest.raises(BadInputError) as caught:
        space.draw(random_trial())

    assert problem in caught.value.problem
    assert_one_helpful_line(caught.value, "space", space.name)


@pytest.mark.parametrize(
    ("function", "problem"),
    [
        ("other_images", "take images of (3, 8, 8), but these are (3, 32, 32)"),
        ("wrong_classes", "end in (11, 1, 1), but there are 10 classes"),
        ("a_map_at_the_end", "end in (10, 32, 32), but there are 10 classes"),
        ("no_fit", "layer 1 (convolution): channels must be divisible by groups"),
    ],
)
def test_a_network_that_cannot_classify_is_the_users_mistake(module, function, problem):
    space = of_users(f"{module()}:{function}")
    candidate = space.draw(random_trial())
    with pytest.raises(BadInputError) as caught:
        space.check_output(candidate)

    assert problem in caught.value.problem
    assert_one_helpful_line(caught.value, "space", space.name)


def test_a_collapsed_network_is_left_to_the_screens(module):
    space = of_users(f"{module()}:collapses")

    space.check_output(space.draw(random_trial()))


def test_a_bad_option_keeps_its_name_when_drawn_through_a_space():
    space = CandidateSpace(TASK, "vgg", {"depth": [8, 2]}, {})
    with pytest.raises(BadInputError) as caught:
        space.draw(random_trial())

    assert caught.value.field == "space.depth"


# Unknown options


@pytest.mark.parametrize(
    ("where", "name", "hint"),
    [
        ("space", "dept", "did you mean depth?"),
        ("space", "kernels", "did you mean kernel?"),
        ("space", "convs_per_pool", "did you mean convs_before_pool?"),
        ("space", "zzz", "it takes depth, features, kernel, pools, convs_before_pool, pool_after"),
        ("space", "trial", "it takes depth"),
        ("space", "task", "it takes depth"),
        ("space", 3, "it takes depth"),
        ("recipe", "learning_rates", "did you mean learning_rate?"),
        ("recipe", "batchsize", "did you mean batch_size?"),
        ("recipe", None, "it takes learning_rate, weight_decay"),
    ],
    ids=str,
)
def test_an_unknown_option_is_refused_with_the_nearest_name(where, name, hint):
    space_options, recipe_options = ({name: 5}, {}) if where == "space" else ({}, {name: 5})
    with pytest.raises(BadInputError) as caught:
        CandidateSpace(TASK, "vgg", space_options, recipe_options)

    assert caught.value.problem == "unknown option"
    assert caught.value.remedy.startswith(hint)
    assert_one_helpful_line(caught.value, f"{where}.{name}", 5)


@examples(100)
@given(st.text(max_size=12))
def test_any_space_name_is_known_or_refused(name):
    try:
        space = CandidateSpace(TASK, name, {}, {})
    except BadInputError as error:
        assert_one_helpful_line(error, "space", name)
    else:
        assert space.name in FAMILIES
