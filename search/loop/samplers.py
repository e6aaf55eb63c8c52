"""Makes the sampler of an experiment."""

from __future__ import annotations

from optuna.samplers import BaseSampler, RandomSampler, TPESampler

from search.experiment.schema import Experiment


def make_sampler(experiment: Experiment, seed: int) -> BaseSampler:
    """Return the sampler that an experiment names."""
    return RandomSampler(seed=seed) if experiment.sampler == "random" else TPESampler(seed=seed)
