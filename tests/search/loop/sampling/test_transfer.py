"""Trials of other tasks guide a search until its own trials disagree."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from search.loop.sampling.history import Observation, Standing
from search.loop.sampling.proposals import Proposal, features_of
from search.loop.sampling.scaling import Scaling
from search.loop.sampling.surrogate import COSTS, Surrogate
from search.loop.sampling.transfer import MOST_LENT, OtherTasks, best_of_each, thinned

GRID = np.linspace(-2, 2, 15)
POOL = [Proposal({}, f"pool{x}", (x, x), 1) for x in (-1.9, 0.1, 1.9)]
SCALING = Scaling(("params", "macs"), [Proposal({}, "", (x, x), 1) for x in GRID])


def observed(number: int, x: float, value: float, source: str = "") -> Observation:
    proposal = Proposal({}, f"{source}{number}", (x, x), 1)
    return Observation(number, proposal, Standing.FINISHED, (value,), {}, source, bool(source))


def lent(scale: float = 1.0, shift: float = 0.0) -> list[Observation]:
    """Trials of two tasks on which larger networks are better."""
    one = [observed(i, x, x, "one") for i, x in enumerate(GRID)]
    other = [observed(20 + i, x, shift + scale * x, "other") for i, x in enumerate(GRID)]
    return one + other


def other_tasks(trials: Sequence[Observation]) -> OtherTasks:
    return OtherTasks(trials, SCALING([each.proposal for each in trials]), COSTS)


def improvement(own: Sequence[Observation], tasks: OtherTasks) -> list[float]:
    surrogate = Surrogate(SCALING, POOL, own, [1.0], tasks=tasks)
    return list(surrogate.improvement([], [1.0]))


def explained(own: Sequence[Observation]) -> float:
    """Return the slope with which other tasks enter the prediction."""
    inputs = SCALING([each.proposal for each in own])
    prior = other_tasks(lent()).prior_mean(features_of(POOL), inputs)
    targets = np.array([each.values[0] for each in own])
    full = prior.explain(np.full(len(own), np.nan), [1.0]).at_pool
    return float(prior.explain(targets, [1.0]).at_pool[2] / full[2])


def test_without_own_trials_other_tasks_decide() -> None:
    gains = improvement([], other_tasks(lent()))
    assert np.argmax(gains) == 2


def test_only_the_order_within_another_task_matters() -> None:
    own = [observed(50 + i, x, x) for i, x in enumerate((0.5, 1.0, 1.5))]
    moved = other_tasks(lent(scale=0.01, shift=-70.0))
    assert improvement(own, moved) == pytest.approx(improvement(own, other_tasks(lent())))


def test_own_trials_of_good_candidates_do_not_make_others_as_good() -> None:
    own = [observed(50, 1.5, 0.50), observed(51, 1.7, 0.51)]
    gains = improvement(own, other_tasks(lent()))
    assert gains[2] > gains[0]


def test_slope_falls_to_zero_as_own_trials_disagree() -> None:
    agree = [observed(50 + i, x, x) for i, x in enumerate(GRID)]
    disagree = [observed(50 + i, x, -x) for i, x in enumerate(GRID)]
    assert explained(agree) > 0.8
    assert explained(disagree) == 0


def test_own_trials_outweigh_misleading_tasks() -> None:
    own = [observed(50 + i, x, -x) for i, x in enumerate((-1.2, -0.6, 0.0, 0.6, 1.2, 1.8))]
    gains = improvement(own, other_tasks(lent()))
    assert np.argmax(gains) == 0


def test_inherited_trials_of_the_same_task_do_not_count_as_own_results() -> None:
    """Otherwise the search would never train the best candidate of the other search itself."""
    known = [observed(i, x, x) for i, x in enumerate(GRID)]
    for each in known:
        each.inherited = True
    own = observed(50, -1.0, -1.0)
    surrogate = Surrogate(SCALING, [POOL[2]], [*known, own], [1.0])
    assert surrogate.improvement([], [1.0])[0] > 1.0


def test_each_task_keeps_an_equal_part_with_its_best() -> None:
    trials = [observed(i, 0.0, float(i), "one") for i in range(500)]
    trials += [observed(1000 + i, 0.0, float(i), "other") for i in range(400)]
    kept = thinned(trials)
    assert len(kept) == MOST_LENT
    assert sum(each.source == "one" for each in kept) == MOST_LENT // 2
    assert trials[499] in kept
    assert trials[899] in kept


def test_best_trials_of_all_tasks_alternate() -> None:
    trials = [observed(i, 0.0, float(i), "one") for i in range(3)]
    trials += [observed(9, 0.0, -5.0, "other")]
    assert [each.number for each in best_of_each(trials, 2)] == [2, 9, 1]
