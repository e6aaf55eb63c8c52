"""The predicted device time of candidates, and the options of a search with limited time."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from search.experiment.loading import parse_experiment
from search.loop.samplers import make_sampler
from search.loop.sampling.epoch_times import FEWEST, relative_seconds
from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.network_sampler import NetworkSampler
from search.loop.sampling.options import DEFAULTS, TIMED, SamplerOptions
from search.loop.sampling.proposals import Proposal
from search.loop.sampling.scaling import Scaling
from search.loop.sampling.surrogate import Surrogate
from spaces.candidate import CandidateSpace
from spaces.task import Task

COSTS = np.random.default_rng(0).normal(size=(40, 2))


def timed(costs: np.ndarray) -> list[Observation]:
    """Trials whose time doubles with each unit of the second cost."""
    return [
        Observation(
            number,
            Proposal({}, str(number), tuple(row), 1),
            Standing.FINISHED,
            (0.5,),
            epoch_seconds=3.0 * 2.0 ** row[1],
        )
        for number, row in enumerate(costs)
    ]


def test_times_follow_the_costs_of_timed_trials() -> None:
    candidates = np.array([[0.0, 0.0], [0.0, 1.0], [5.0, 2.0]])
    found = relative_seconds(timed(COSTS), COSTS, candidates)
    assert found is not None
    assert found == pytest.approx([0.5, 1.0, 2.0], rel=0.1)


def test_few_timed_trials_predict_nothing() -> None:
    few = COSTS[: FEWEST - 1]
    assert relative_seconds(timed(few), few, COSTS) is None


def test_improvement_per_second_prefers_the_cheaper_of_equal_candidates() -> None:
    space = CandidateSpace(Task(3, 8, 8, 10), "vgg", {}, {})
    sampler = NetworkSampler(space, [], 0, SamplerOptions(cost_exponent=1.0, draws=24))
    draws = sampler._random_draws()
    names = space.feature_names
    sampler._scaling = Scaling(names, draws)
    trials = [
        Observation(number, each, Standing.FINISHED, (0.5,), epoch_seconds=each.macs / 1e6)
        for number, each in enumerate(draws[:12])
    ]
    sampler._history.observations = {each.number: each for each in trials}
    surrogate = Surrogate(sampler._scaling, draws[12:], trials, [1.0])
    gains = sampler._per_second(np.ones(len(surrogate.pool)), surrogate, 12)
    by_cost = np.argsort([each.macs for each in surrogate.pool])
    assert gains[by_cost[:4]].min() > gains[by_cost[-4:]].max()


@pytest.mark.parametrize(
    ("budget", "options"),
    [
        ({}, DEFAULTS),
        ({"wall_clock": "8h"}, TIMED),
        ({"device_hours": 2.0}, TIMED),
        ({"money": 5.0, "price": 2.0}, TIMED),
    ],
)
def test_budget_of_time_or_money_changes_the_options(budget: Any, options: Any) -> None:
    space = CandidateSpace(Task(3, 8, 8, 10), "vgg", {}, {})
    sampler: Any = make_sampler(parse_experiment({"sampler": "auto", "budget": budget}), 0, space)
    assert sampler._options is options
