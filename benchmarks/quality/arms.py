"""The arms of the comparison: each makes the arguments of a simulated search."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, TypeAlias

from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler, RandomSampler, TPESampler

from quality.evolution import EvolutionSampler
from quality.tables import Network, Table

Options: TypeAlias = dict[str, Any]
Arm: TypeAlias = Callable[[Table, int], Options]

LARGEST = 0.1
"""Part of the networks that the arms with the largest networks draw from."""
POPULATION = 20
OFF = {"border": "off"}


def random_draws(table: Table, seed: int) -> Options:
    """Draw at random."""
    return {"sampler": RandomSampler(seed=seed), "screens": OFF}


def largest(table: Table, seed: int) -> Options:
    """Draw at random among the largest tenth by multiply-accumulates, without replacement."""
    return random_draws(table, seed) | {"enqueue": _shuffled(_largest(table, LARGEST), seed)}


def border(table: Table, seed: int) -> Options:
    """Draw at random, and reject by the border screen."""
    return {"sampler": RandomSampler(seed=seed), "screens": {}}


def macs_filter(table: Table, seed: int) -> Options:
    """Draw at random among the largest networks, as many as the border screen accepts."""
    return random_draws(table, seed) | {"enqueue": _shuffled(_largest(table, table.accepted), seed)}


def evolution(table: Table, seed: int) -> Options:
    """Regularised evolution (P20 S5)."""
    return {"sampler": EvolutionSampler(seed, POPULATION), "screens": OFF}


def evolution_largest(table: Table, seed: int) -> Options:
    """Regularised evolution whose first population is drawn from the largest tenth."""
    first = _shuffled(_largest(table, LARGEST), seed)[:POPULATION]
    return evolution(table, seed) | {"enqueue": first}


def tpe(table: Table, seed: int) -> Options:
    """Optuna's TPE with its defaults."""
    return {"sampler": TPESampler(seed=seed), "screens": OFF}


def optuna_gp(table: Table, seed: int) -> Options:
    """Optuna's Gaussian process with its defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        return {"sampler": GPSampler(seed=seed), "screens": OFF}


def ours(table: Table, seed: int) -> Options:
    """The sampler of the project and its screens."""
    return {"sampler": "auto", "screens": {} if table.border else OFF}


def ours_without_border(table: Table, seed: int) -> Options:
    """The sampler of the project without the border screen."""
    return {"sampler": "auto", "screens": OFF}


ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "random": random_draws,
        "largest": largest,
        "border": border,
        "macs-filter": macs_filter,
        "evolution": evolution,
        "evolution-largest": evolution_largest,
        "tpe": tpe,
        "optuna-gp": optuna_gp,
        "auto": ours,
        "auto-no-border": ours_without_border,
    }
)
MOST_TRIALS = MappingProxyType({"optuna-gp": 100})
"""Trials of an arm whose suggestions take long."""
BORDER_ARMS = ("border", "macs-filter", "auto-no-border")
"""Arms that differ from others only where the border screen is part of the problem."""


def _largest(table: Table, part: float) -> Sequence[Network]:
    return table.largest[: max(1, round(part * len(table.largest)))]


def _shuffled(networks: Sequence[Network], seed: int) -> list[Mapping[str, Any]]:
    shuffled = list(networks)
    random.Random(seed).shuffle(shuffled)
    return [network.params for network in shuffled]
