"""Proposals: random draws and mutations of conditional spaces."""

from __future__ import annotations

from typing import Any

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

from search.loop.sampling.proposals import ProposalTrial, Proposer, random_of
from search.loop.screens import CostScreen, reject_collapsed
from search.private_apis import contains
from spaces.architecture import Architecture, Builder
from spaces.candidate import FAMILIES, CandidateSpace
from spaces.errors import BadInputError
from spaces.operations import Add, Convolution, GlobalPooling, Linear
from spaces.task import Task
from spaces.vgg import vgg

TASK = Task(3, 32, 32, 10)
RECIPE = {"learning_rate": [0.01, 0.3], "optimizer": ["sgd", "adamw"]}
SMALL = CostScreen(None, 3_000_000, None)


def suggest(trial: Any) -> None:
    trial.suggest_int("int", -3, 9)
    trial.suggest_int("even", 2, 10, step=2)
    trial.suggest_int("log", 1, 500, log=True)
    trial.suggest_int("one", 4, 4)
    trial.suggest_float("float", -1.0, 2.0)
    trial.suggest_float("step", 0.0, 0.9, step=0.3)
    trial.suggest_float("rate", 1e-5, 1e-1, log=True)
    trial.suggest_categorical("name", ("a", "b", 1, True, None))


DISTRIBUTIONS = {
    "int": IntDistribution(-3, 9),
    "even": IntDistribution(2, 10, step=2),
    "log": IntDistribution(1, 500, log=True),
    "one": IntDistribution(4, 4),
    "float": FloatDistribution(-1.0, 2.0),
    "step": FloatDistribution(0.0, 0.9, step=0.3),
    "rate": FloatDistribution(1e-5, 1e-1, log=True),
    "name": CategoricalDistribution(("a", "b", 1, True, None)),
}


@given(st.integers(0, 10**6), st.sets(st.sampled_from(sorted(DISTRIBUTIONS))))
def test_proposed_values_lie_in_their_distributions(seed: int, changed: set[str]) -> None:
    random = random_of(seed)
    parent, child = ProposalTrial(random), None
    suggest(parent)
    child = ProposalTrial(random, parent.params, changed)
    suggest(child)
    for params in (parent.params, child.params):
        assert params.keys() == DISTRIBUTIONS.keys()
        assert all(contains(DISTRIBUTIONS[name], value) for name, value in params.items())
    kept = {name for name in DISTRIBUTIONS if name not in changed}
    assert {name: child.params[name] for name in kept} == {
        name: parent.params[name] for name in kept
    }


def test_a_changed_choice_or_integer_changes() -> None:
    random = random_of(0)
    for _ in range(50):
        parent = ProposalTrial(random)
        suggest(parent)
        child = ProposalTrial(random, parent.params, {"int", "even", "name"})
        suggest(child)
        assert all(child.params[name] != parent.params[name] for name in ("int", "even", "name"))


@pytest.mark.parametrize(
    ("low", "high", "step", "steps"), [(0.0, 0.3, 0.1, 4), (0.1, 0.3, 0.2, 2), (0.0, 1.0, 0.3, 4)]
)
def test_each_step_of_a_float_is_drawn(low: float, high: float, step: float, steps: int) -> None:
    random = random_of(0)
    drawn = {ProposalTrial(random).suggest_float("x", low, high, step=step) for _ in range(200)}
    assert sorted(drawn) == pytest.approx([low + number * step for number in range(steps)])


def test_a_parameter_keeps_its_value_when_suggested_again() -> None:
    trial = ProposalTrial(random_of(0))
    assert [trial.suggest_float("x", 0, 1) for _ in range(2)] == 2 * [trial.params["x"]]
    assert [trial.suggest_int("n", 0, 99) for _ in range(2)] == 2 * [trial.params["n"]]


def test_integers_are_drawn_evenly() -> None:
    random = random_of(0)
    drawn = [ProposalTrial(random).suggest_int("n", 1, 4) for _ in range(2000)]
    assert all(400 < drawn.count(number) < 600 for number in (1, 2, 3, 4))


def test_proposals_of_every_family_pass_the_screens_and_can_be_drawn() -> None:
    for family in FAMILIES:
        space = CandidateSpace(TASK, family, {}, RECIPE)
        screens = [reject_collapsed, CostScreen(2_000_000, None, None)]
        proposer = Proposer(space, screens)
        random = random_of(1)
        parents = proposer.at_random(random, 4)
        children = proposer.mutated(random, [each.params for each in parents], 8)
        for each in [*parents, *children]:
            candidate = space.draw(optuna.trial.FixedTrial(each.params))
            assert candidate.digest == each.digest
            assert all(screen(candidate) is None for screen in screens)
        assert len({each.digest for each in children}) == len(children) == 8


def test_mutations_stay_closer_to_a_parent_than_random_draws() -> None:
    space = CandidateSpace(TASK, "vgg", {"depth": 6, "pools": 0, "kernel": 3}, {})
    proposer = Proposer(space, [])
    parent = proposer.at_random(random_of(0), 1)[0].params

    def changes(params: dict[str, Any]) -> int:
        return sum(params[name] != value for name, value in parent.items())

    children = proposer.mutated(random_of(1), [parent], 40)
    fresh = proposer.at_random(random_of(1), 40)
    assert sum(changes(each.params) for each in children) < 40 * 3
    assert sum(changes(each.params) for each in fresh) > 40 * 6


def test_avoided_candidates_are_not_proposed() -> None:
    space = CandidateSpace(
        TASK,
        "vgg",
        {"depth": [1, 3], "features": [8, 9], "pools": 0},
        {"learning_rate": 0.1, "weight_decay": 0.0},
    )
    proposer = Proposer(space, [])
    first = {each.digest for each in proposer.at_random(random_of(0), 5)}
    others = {each.digest for each in proposer.at_random(random_of(0), 5, first)}
    assert len(others) == 5
    assert not first & others


def test_trial_of_another_space_is_not_described() -> None:
    proposer = Proposer(CandidateSpace(TASK, "vgg", {}, {}), [])
    assert proposer.describe({"blocks": 3}) is None


def test_unchanged_step_keeps_its_last_digit() -> None:
    trial = ProposalTrial(random_of(0), {"x": 0.3})
    assert trial.suggest_float("x", 0.0, 1.0, step=0.1) == 0.3 != 3 * 0.1


def test_value_between_steps_moves_to_a_step() -> None:
    trial = ProposalTrial(random_of(0), {"x": 0.33})
    assert trial.suggest_float("x", 0.0, 1.0, step=0.25) == 0.25


def test_failing_features_of_a_space_are_named_with_their_cause() -> None:
    def own(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        return vgg(trial, task, depth=1, features=4, kernel=3, pools=0)

    def broken(architecture: Architecture) -> dict[str, float]:
        raise ValueError("no branches")

    own.features = broken  # type: ignore[attr-defined]
    proposer = Proposer(CandidateSpace(TASK, own, {}, RECIPE), [])
    with pytest.raises(BadInputError, match="its features raised ValueError: no branches"):
        proposer.describe({"learning_rate": 0.1, "optimizer": "sgd", "weight_decay": 1e-4})
    with pytest.raises(BadInputError, match="its features raised ValueError: no branches"):
        proposer.at_random(random_of(0), 1)


def test_network_that_cannot_be_built_is_named_with_its_cause() -> None:
    def unequal(trial: optuna.trial.BaseTrial, task: Task) -> Architecture:
        builder = Builder(task.image_shape)
        one, other = (
            builder.add(Convolution(trial.suggest_int(name, 4, 5)), builder.image)
            for name in ("one", "other")
        )
        builder.add(
            Linear(task.classes), builder.add(GlobalPooling(), builder.add(Add(), one, other))
        )
        return builder.build()

    proposer = Proposer(CandidateSpace(TASK, unequal, {}, RECIPE), [reject_collapsed])
    with pytest.raises(BadInputError, match="only equal shapes can be added"):
        proposer.at_random(random_of(0), 4)
