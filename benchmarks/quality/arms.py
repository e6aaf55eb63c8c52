"""The arms of the comparison: each makes the arguments of a simulated search."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from types import MappingProxyType
from typing import Any, TypeAlias

import optuna
from optuna.exceptions import ExperimentalWarning
from optuna.samplers import GPSampler, RandomSampler, TPESampler

from quality.evolution import EvolutionSampler
from quality.lent import LENT, lent_trials
from quality.tables import Network, Table
from search.experiment.sections import ScreensSection
from search.loop.sampling import options as sampling
from search.loop.sampling.network_sampler import NetworkSampler
from search.loop.sampling.options import DEFAULTS, TIMED, SamplerOptions
from search.loop.screens import build_screens
from spaces.features.network import VERSION as FEATURES

Options: TypeAlias = dict[str, Any]

TIMED_CLOCKS = ("asha", "full")
"""Clocks that limit device-seconds, as a budget of time or money does."""
LARGEST = 0.1
"""Part of the networks that the arms with the largest networks draw from."""
POPULATION = 20


@dataclass(frozen=True)
class Arm:
    """An arm of the comparison.

    Attributes:
        options: returns the arguments of `search.loop.simulation.simulate` for a table and a seed.
        version: of the arm; runs of another version are repeated.
        only: the clocks on which the arm differs from the others; empty for all.
        border: whether the arm differs only where the border screen is part of the problem.
        most_trials: trained networks in a search.
        timed: replaces the arm on the clocks that limit device-seconds; None for the same arm.
    """

    options: Callable[[Table, int], Options]
    version: str = "1"
    only: tuple[str, ...] = ()
    border: bool = False
    most_trials: int = 100
    timed: Arm | None = None

    def on(self, clock: str) -> Arm:
        """Return the arm as it is on a clock."""
        return self.timed if self.timed is not None and clock in TIMED_CLOCKS else self

    def differs(self, table: str, clock: str) -> bool:
        """Tell whether the arm is one of its own on a table and a clock."""
        return (not self.only or clock in self.only) and (
            not self.border or table.startswith("plain-")
        )


def random_draws(table: Table, seed: int) -> Options:
    """Draw at random."""
    return {"sampler": RandomSampler(seed=seed), "screens": table.screens(border=False)}


def largest(table: Table, seed: int) -> Options:
    """Draw at random among the largest tenth by multiply-accumulates, without replacement."""
    return random_draws(table, seed) | {"enqueue": _shuffled(_largest(table, LARGEST), seed)}


def border(table: Table, seed: int) -> Options:
    """Draw at random, and reject by the border screen."""
    return {"sampler": RandomSampler(seed=seed), "screens": table.screens(border=True)}


def macs_filter(table: Table, seed: int) -> Options:
    """Draw at random among the largest networks, as many as the border screen accepts."""
    return random_draws(table, seed) | {"enqueue": _shuffled(_largest(table, table.accepted), seed)}


def evolution(table: Table, seed: int) -> Options:
    """Regularised evolution (P20 S5)."""
    sampler = EvolutionSampler(seed, POPULATION)
    return {"sampler": sampler, "screens": table.screens(border=False)}


def evolution_largest(table: Table, seed: int) -> Options:
    """Regularised evolution whose first population is drawn from the largest tenth."""
    first = _shuffled(_largest(table, LARGEST), seed)[:POPULATION]
    return evolution(table, seed) | {"enqueue": first}


def tpe(table: Table, seed: int) -> Options:
    """Optuna's TPE with its defaults."""
    return {"sampler": TPESampler(seed=seed), "screens": table.screens(border=False)}


def tpe_border(table: Table, seed: int) -> Options:
    """Optuna's TPE, with rejections by the border screen."""
    return {"sampler": TPESampler(seed=seed), "screens": table.screens(border=True)}


def optuna_gp(table: Table, seed: int) -> Options:
    """Optuna's Gaussian process with its defaults."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        sampler = GPSampler(seed=seed)
    return {"sampler": sampler, "screens": table.screens(border=False)}


def network_model(
    table: Table, seed: int, *, options: SamplerOptions, border: bool = True
) -> Options:
    """Search by the sampler of the project, ``auto``.

    It proposes what ``sampler: auto`` of an experiment proposes, from a space that analyses every
    network once.

    Args:
        table: to search.
        seed: of the search.
        options: of the sampler.
        border: whether the border screen rejects networks where it is part of the problem.
    """
    screens = table.screens(border=border and table.border)
    judges = build_screens(ScreensSection(**screens))
    return {"sampler": NetworkSampler(table.cached, judges, seed, options), "screens": screens}


def warm_start(table: Table, seed: int) -> Options:
    """Search by the sampler of the project, with trials of searches on the other data sets."""
    options = network_model(table, seed, options=DEFAULTS)
    return options | {"warm_start": lent_trials(table, seed)}


def _ours(
    *,
    only: tuple[str, ...] = (),
    without_border: bool = False,
    **options: Any,
) -> Arm:
    """Return an arm of our sampler; the options are those that differ from the defaults.

    Where device-seconds are limited, the other options are those of `TIMED`, as in a search.
    """

    def arm(options: Mapping[str, Any]) -> Arm:
        return Arm(
            partial(network_model, options=SamplerOptions(**options), border=not without_border),
            _version(options),
            only=only,
            border=without_border,
        )

    return replace(arm(options), timed=arm(_TIMED | options))


def _version(options: Mapping[str, Any]) -> str:
    return f"decisions {sampling.VERSION}, features {FEATURES}, {options}"


_TIMED = {name: value for name, value in asdict(TIMED).items() if value != asdict(DEFAULTS)[name]}
_OPTUNA = f"optuna {optuna.__version__}"

ARMS: Mapping[str, Arm] = MappingProxyType(
    {
        "auto": replace(_ours(), most_trials=200),
        "tpe": Arm(tpe, _OPTUNA),
        "random": Arm(random_draws, _OPTUNA),
        "largest": Arm(largest, _OPTUNA),
        "evolution": Arm(evolution),
        "evolution-largest": Arm(evolution_largest),
        "border": Arm(border, _OPTUNA, border=True),
        "tpe-border": Arm(tpe_border, _OPTUNA, border=True),
        "macs-filter": Arm(macs_filter, _OPTUNA, border=True),
        "optuna-gp": Arm(optuna_gp, _OPTUNA),
        "auto-warm": Arm(warm_start, f"{_version({})}, lent {LENT}", only=("trials",), border=True),
        "auto-no-border": _ours(without_border=True),
        "auto-no-mutation": _ours(mutations=0),
        "auto-random-start": _ours(largest=1.0, only=("trials", "parallel")),
        "auto-largest-start": _ours(largest=DEFAULTS.largest, only=TIMED_CLOCKS),
        "auto-constant-mean": _ours(linear_mean=False),
        "auto-costs-only": _ours(network_features=False),
        "auto-no-noise": _ours(noise=False),
        "auto-no-ranks": _ours(ranks=False),
        "auto-no-curves": _ours(curves=False, only=("asha",)),
        "auto-no-running": _ours(running=False, only=("asha", "full", "parallel")),
    }
)
"""By name; ``auto-..`` leave out one part of the sampler each."""


def _largest(table: Table, part: float) -> Sequence[Network]:
    return table.largest[: max(1, round(part * len(table.largest)))]


def _shuffled(networks: Sequence[Network], seed: int) -> list[Mapping[str, Any]]:
    shuffled = list(networks)
    random.Random(seed).shuffle(shuffled)
    return [network.params for network in shuffled]
