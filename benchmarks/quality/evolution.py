"""Regularised evolution (Real et al. 2019, arXiv 1802.01548) as an Optuna sampler."""

from __future__ import annotations

import copy
import random
from collections import deque
from collections.abc import Mapping
from typing import Any

import optuna
from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import FrozenTrial, TrialState

from search.study.records import TrialRecord


class EvolutionSampler(BaseSampler):
    """Mutates one parameter of the best of a few recent networks.

    The population is the last trained networks, so that the oldest ones die. Trials before the
    population is full are random. Parameters that the parent lacks are random, so that conditional
    spaces work. Duplicates of trained networks do not count as trained.

    Args:
        seed: of all draws.
        population: number of living networks.
        sample: number of them that compete to be the parent.
    """

    def __init__(self, seed: int, population: int = 20, sample: int = 5) -> None:
        self._living: deque[FrozenTrial] = deque(maxlen=population)
        self._sample = sample
        self._chance = random.Random(seed)
        self._uniform = RandomSampler(seed=seed)
        self._parents: dict[int, Mapping[str, Any]] = {}
        self._mutated: dict[int, str] = {}

    def before_trial(self, study: optuna.Study, trial: FrozenTrial) -> None:
        """Choose the parent of a trial and the parameter that mutates."""
        if len(self._living) < (self._living.maxlen or 0):
            return
        rivals = self._chance.sample(list(self._living), self._sample)
        parent = max(rivals, key=lambda each: each.value or 0.0)
        self._parents[trial.number] = parent.params
        self._mutated[trial.number] = self._chance.choice(sorted(parent.params))

    def infer_relative_search_space(
        self, study: optuna.Study, trial: FrozenTrial
    ) -> dict[str, BaseDistribution]:
        """Return nothing: every parameter is drawn on its own."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Return nothing."""
        return {}

    def sample_independent(
        self,
        study: optuna.Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        """Return the parent's value, or another one for the parameter that mutates."""
        parent = self._parents.get(trial.number, {})
        if param_name not in parent or not _contains(param_distribution, parent[param_name]):
            return self._draw(study, trial, param_name, param_distribution)
        before = parent[param_name]
        if self._mutated[trial.number] != param_name or param_distribution.single():
            return before
        after = before
        while after == before:
            after = self._draw(study, trial, param_name, param_distribution)
        return after

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Any
    ) -> None:
        """Forget the parent; a trained network enters the population."""
        self._parents.pop(trial.number, None)
        self._mutated.pop(trial.number, None)
        if state is TrialState.COMPLETE and TrialRecord.of(trial).is_trained:
            ended = copy.copy(trial)
            ended.values = values
            self._living.append(ended)

    def _draw(
        self, study: optuna.Study, trial: FrozenTrial, name: str, distribution: BaseDistribution
    ) -> Any:
        return self._uniform.sample_independent(study, trial, name, distribution)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    try:
        return bool(distribution._contains(distribution.to_internal_repr(value)))
    except ValueError:
        return False
