"""What a space may suggest: names and ranges that a study stores and reads back unchanged."""

import itertools
import random
import sys
from types import ModuleType

import pytest
from optuna.distributions import distribution_to_json, json_to_distribution
from optuna.samplers import RandomSampler

from spaces import BadInputError, Builder, CandidateSpace, InvalidCandidateError, Task
from spaces.operations import Convolution, GlobalPooling, Linear
from spaces.recipe import DRAWN
from tests.spaces.drawing import random_trial, study

TASK = Task(channels=3, height=32, width=32, classes=10)


@pytest.fixture
def space_of(monkeypatch):
    """Make a space of the widths that a function of a trial returns."""
    module = ModuleType("spaces_of_these_tests")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def make(widths, **recipe):
        def space(trial, task):
            builder = Builder(task.image_shape)
            x = builder.image
            for width in widths(trial):
                x = builder.add(Convolution(width), x)
            builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
            return builder.build()

        module.space = space
        return CandidateSpace(TASK, "spaces_of_these_tests:space", {}, recipe)

    return make


def refusal(space, trial=None):
    """Return the line with which a space refuses a draw."""
    with pytest.raises(BadInputError) as caught:
        space.draw(trial or random_trial())
    assert caught.value.field == "space"
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


# Names


@pytest.mark.parametrize("name", DRAWN)
@pytest.mark.parametrize("recipe", [{}, {"learning_rate": 0.1, "weight_decay": 0.0}])
def test_a_parameter_of_the_recipe_is_refused_in_a_space(space_of, name, recipe):
    space = space_of(lambda trial: [trial.suggest_int(name, 1, 8)], **recipe)

    assert f"suggests {name}, which is a parameter of the recipe; rename" in refusal(space)


def test_a_name_clash_in_a_rare_branch_is_refused_when_drawn(space_of):
    def widths(trial):
        if trial.suggest_int("branch", 0, 9) == 9:
            trial.suggest_float("weight_decay", 0.5, 0.6)
        return [4]

    space = space_of(widths)
    search = study(RandomSampler(seed=0))
    search.enqueue_trial({"branch": 3})
    search.enqueue_trial({"branch": 9})

    assert 1e-5 <= space.draw(search.ask()).recipe.weight_decay <= 1e-2
    assert "weight_decay" in refusal(space, search.ask())


def test_a_stored_trial_that_shared_a_name_is_rebuilt_as_trained(space_of):
    space = space_of(lambda trial: [int(trial.suggest_float("momentum", 2, 8))], momentum=0.9)

    candidate = space.rebuild({"momentum": 5.5, "learning_rate": 0.1, "weight_decay": 1e-4})

    assert candidate.architecture.shapes[1] == (5, 32, 32)


@pytest.mark.parametrize(
    "second",
    [
        lambda trial: trial.suggest_int("width", 1, 9),
        lambda trial: trial.suggest_int("width", 1, 8, step=7),
        lambda trial: trial.suggest_int("width", 1, 8, log=True),
        lambda trial: trial.suggest_float("width", 1, 8),
        lambda trial: trial.suggest_categorical("width", [1, 8]),
    ],
)
def test_one_name_with_two_ranges_is_refused(space_of, second):
    space = space_of(lambda trial: [trial.suggest_int("width", 1, 8), int(second(trial))])

    assert "suggests width twice with different ranges: 1 to 8 and " in refusal(space)


def test_one_name_with_one_range_has_one_value(space_of):
    space = space_of(lambda trial: [trial.suggest_int("width", 1, 8) for _ in range(2)])

    shapes = space.draw(random_trial()).architecture.shapes
    assert shapes[1] == shapes[2]


@pytest.mark.parametrize("name", ["", "a\0b", "\ud800", "x" * 513, 7, None, ("a", "b")], ids=ascii)
def test_a_name_that_a_database_cannot_store_is_refused(space_of, name):
    space = space_of(lambda trial: [trial.suggest_int(name, 1, 8)])

    assert "suggests a parameter" in refusal(space)


def test_an_error_that_the_space_catches_is_raised_again(space_of):
    def widths(trial):
        try:
            return [trial.suggest_int("momentum", 1, 8)]
        except ValueError:
            return [8]

    assert "momentum" in refusal(space_of(widths))


# Ranges


@pytest.mark.parametrize(
    ("low", "high"),
    [(0, float("inf")), (float("-inf"), 0), (float("nan"), 1), (0, float("nan")), (-1e308, 1e308)],
)
def test_a_range_of_floats_must_be_finite(space_of, low, high):
    space = space_of(lambda trial: [int(trial.suggest_float("x", low, high))])

    assert "use a finite range" in refusal(space)


@pytest.mark.parametrize(
    ("low", "high", "step"),
    [
        *[(1, 2**53 + 1, 1), (-(2**63) - 1, 1, 1), (1, float("inf"), 1), (float("nan"), 3, 1)],
        *[(1, 4.5, 1), (1.5, 4, 1), (1, 9, 2.5)],
    ],
)
def test_a_range_of_integers_must_be_whole_and_exact(space_of, low, high, step):
    space = space_of(lambda trial: [trial.suggest_int("n", low, high, step=step)])

    assert f"suggests n from {low} to {high}" in refusal(space)


def test_whole_floats_are_integers(space_of):
    space = space_of(lambda trial: [trial.suggest_int("n", 4.0, 4.0)])

    assert space.draw(random_trial()).architecture.shapes[1] == (4, 32, 32)


# Everything else of a trial


@pytest.mark.parametrize(
    ("name", "use"),
    [
        ("number", lambda trial: trial.number),
        ("user_attrs", lambda trial: trial.user_attrs),
        ("system_attrs", lambda trial: trial.system_attrs),
        ("datetime_start", lambda trial: trial.datetime_start),
        ("distributions", lambda trial: trial.distributions),
        ("constraints", lambda trial: trial.constraints),
        ("study", lambda trial: trial.study),
        ("relative_params", lambda trial: trial.relative_params),
        ("report", lambda trial: trial.report(0.5, 1)),
        ("should_prune", lambda trial: trial.should_prune()),
        ("set_user_attr", lambda trial: trial.set_user_attr("digest", "x")),
        ("set_constraint", lambda trial: trial.set_constraint("x", 1.0)),
    ],
)
def test_a_space_may_only_suggest(space_of, name, use):
    trial = random_trial()
    space = space_of(lambda trial: [4, use(trial)][:1])

    assert f"uses trial.{name}, " in refusal(space, trial)
    assert trial.user_attrs == {}


def test_params_are_those_that_the_space_has_suggested(space_of):
    seen = []

    def widths(trial):
        width = trial.suggest_int("width", 1, 8)
        seen.append(trial.params)
        return [width, *trial.suggest_categorical("others", [(2, 3), (4, 5)])]

    space = space_of(widths)
    trial = random_trial()
    space.draw(trial)
    space.rebuild(trial.params)

    assert seen == [{"width": trial.params["width"]}] * 2


@pytest.mark.filterwarnings("ignore:suggest_")
def test_older_names_of_suggestions_are_accepted(space_of):
    space = space_of(
        lambda trial: [
            int(trial.suggest_uniform("a", 1, 8)),
            int(trial.suggest_loguniform("b", 1, 8)),
            int(trial.suggest_discrete_uniform("c", 1, 8, 1)),
        ]
    )
    trial = random_trial()
    candidate = space.draw(trial)

    assert space.rebuild(trial.params) == candidate


# Functions of their parameters


def draws(space, count=20):
    """Draw and check candidates as a search does."""
    search = study(RandomSampler(seed=0))
    for _ in range(count):
        trial = search.ask()
        try:
            candidate = space.draw(trial)
        except InvalidCandidateError:
            candidate = None
        space.check_rebuild(trial.params, candidate)


def counted():
    numbers = itertools.count(1)
    return lambda trial: [trial.suggest_int("width", 1, 8), next(numbers)]


def fails_again():
    numbers = itertools.count()

    def widths(trial):
        if next(numbers) % 2:
            raise RuntimeError("once is enough")
        return [trial.suggest_int("width", 1, 8)]

    return widths


def asks_for_more():
    numbers = itertools.count()
    return lambda trial: [trial.suggest_int(f"width_{next(numbers)}", 1, 8)]


def sometimes_invalid():
    numbers = itertools.count()

    def widths(trial):
        width = trial.suggest_int("width", 1, 8)
        if next(numbers) % 2 == 0:
            raise InvalidCandidateError("no network", 1.0)
        return [width]

    return widths


@pytest.mark.parametrize(
    "widths",
    [
        lambda: lambda trial: [random.randint(1, 64)],
        counted,
        fails_again,
        asks_for_more,
        sometimes_invalid,
    ],
    ids=["random", "counter", "raises", "other names", "invalid"],
)
def test_a_space_that_depends_on_more_than_its_parameters_is_refused(space_of, widths):
    with pytest.raises(BadInputError, match="draws another network from the same parameters") as e:
        draws(space_of(widths()))

    assert len(str(e.value).splitlines()) == 1
    assert "no random numbers" in e.value.remedy


@pytest.mark.parametrize("violation", [0, -1.0, float("nan"), float("inf"), "far", None])
def test_a_violation_that_misleads_the_sampler_is_refused(space_of, violation):
    def widths(trial):
        raise InvalidCandidateError("no network", violation)

    says = refusal(space_of(widths))
    assert f"with the violation {violation!r} in {__file__}, line " in says
    assert says.endswith("; use a number greater than 0")


def test_a_space_that_changes_its_options_is_refused(monkeypatch):
    module = ModuleType("changing_spaces")
    monkeypatch.setitem(sys.modules, module.__name__, module)

    def space(trial, task, widths):
        widths.append(trial.suggest_int("width", 1, 8))
        builder = Builder(task.image_shape)
        x = builder.image
        for width in widths:
            x = builder.add(Convolution(width), x)
        builder.add(Linear(task.classes), builder.add(GlobalPooling(), x))
        return builder.build()

    module.space = space
    with pytest.raises(BadInputError, match="draws another network"):
        draws(CandidateSpace(TASK, "changing_spaces:space", {"widths": [4]}, {}))


def test_a_space_of_its_parameters_passes(space_of):
    draws(space_of(lambda trial: [trial.suggest_int("width", 1, 8)] * trial.suggest_int("n", 1, 3)))


def test_layers_with_other_names_are_another_network(monkeypatch):
    module = ModuleType("naming_spaces")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    names = itertools.count()

    def space(trial, task):
        builder = Builder(task.image_shape)
        x = builder.add(GlobalPooling(), builder.image, name=f"pool{next(names)}")
        builder.add(Linear(task.classes), x)
        return builder.build()

    module.space = space
    with pytest.raises(BadInputError, match="draws another network"):
        draws(CandidateSpace(TASK, "naming_spaces:space", {}, {}))


def test_a_rebuilt_candidate_must_have_the_digest_of_the_drawn_one(space_of):
    widths = [4]
    space = space_of(lambda trial: list(widths))
    trial = random_trial()
    digest = space.draw(trial).digest

    assert space.rebuild(trial.params, digest).digest == digest
    widths.append(8)
    assert space.rebuild(trial.params).digest != digest
    with pytest.raises(BadInputError, match="than the search did") as caught:
        space.rebuild(trial.params, digest)
    assert "restore spaces_of_these_tests:space if it was edited" in caught.value.remedy


def test_choices_come_back_from_a_database_as_they_were(space_of):
    seen = []

    def widths(trial):
        pair = trial.suggest_categorical("pair", [(2, 3), (4, 5)])
        seen.append(pair)
        return pair

    space = space_of(widths)
    trial = random_trial()
    candidate = space.draw(trial)
    # As a database stores and reads a parameter.
    distribution = trial.distributions["pair"]
    index = distribution.to_internal_repr(trial.params["pair"])
    restored = json_to_distribution(distribution_to_json(distribution)).to_external_repr(index)

    assert space.rebuild(trial.params | {"pair": restored}, candidate.digest) == candidate
    assert seen[0] == seen[1]
    assert type(seen[1]) is tuple


def test_a_choice_that_cannot_be_stored_is_refused_by_name(space_of):
    space = space_of(lambda trial: [trial.suggest_categorical("layer", [object()])])

    line = refusal(space)
    assert "suggests layer, but the choice <object object at" in line
    assert "is a object, which a database cannot store" in line
