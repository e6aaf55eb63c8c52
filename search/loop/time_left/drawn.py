"""Random candidates of a space, which stand for those that a search has not drawn yet."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.samplers import RandomSampler

from search.experiment.schema import Experiment
from search.experiment.training_spec import describe_training
from search.loop.baseline_networks import as_baseline
from search.loop.candidates import attributes_of
from search.loop.screens import Screen, judge
from search.study.records import Workload
from search.study.study import Study
from spaces.candidate import CandidateSpace
from spaces.errors import InvalidCandidateError
from spaces.task import Task

_DRAWS = 200
_ENOUGH = 64


def baseline_workloads(experiment: Experiment, task: Task) -> list[Workload]:
    """Return the workloads of the baselines of an experiment, with a random recipe.

    Args:
        experiment: of the search.
        task: of the search.
    """
    found: list[Workload] = []
    for name in experiment.baselines:
        space = describe_training(as_baseline(experiment, name), task).candidates()
        found += draw_workloads(space, (), experiment.seed)[:1]
    return found


def draw_workloads(space: CandidateSpace, screens: Sequence[Screen], seed: int) -> list[Workload]:
    """Return the workloads of random candidates that the screens accept; none if few are.

    Args:
        space: to draw from.
        screens: that reject candidates.
        seed: of the draws.
    """
    study = Study("drawn", RandomSampler(seed=seed))
    found: list[Workload] = []
    for _ in range(_DRAWS):
        try:
            candidate = space.draw(study.ask())
        except InvalidCandidateError:
            continue
        if judge(candidate, screens) is None:
            workload = Workload.of(attributes_of(candidate))
            if workload is not None:
                found.append(workload)
        if len(found) >= _ENOUGH:
            break
    return found
