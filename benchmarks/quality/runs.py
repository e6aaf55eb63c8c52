"""Runs one arm on one table with one seed, by the simulated clock."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any, Literal, TypeAlias

from optuna.trial import TrialState
from pydantic import BaseModel, ConfigDict

from quality.arms import ARMS
from quality.tables import Network, Table, seed_of, seen
from search.loop.simulation import SimulatedTrial, simulate
from spaces.candidate import Candidate

Clock: TypeAlias = Literal["trials", "parallel", "asha", "full"]
"""What a budget counts: trained networks, one at a time (``trials``) or 64 at a time
(``parallel``), each to its end; or device-seconds of eight workers with ASHA (``asha``) or without
(``full``)."""

TRIALS = (5, 10, 25, 50, 100, 200)
DEVICE_TRAININGS = (5, 10, 25, 50, 100)
"""Budgets of device-seconds, in whole trainings of the median network."""
WORKERS = 8
PARALLEL = 64
"""Workers of the clock ``parallel``."""
EPOCHS = 9
"""Length of a modelled training."""
SECONDS = 60.0
"""Duration of a whole training of the median network."""
STEEPNESS = 4.0


class Key(BaseModel):
    """What a run depends on.

    Attributes:
        clock: what the budget counts.
        table: name of the table.
        arm: name of the arm.
        seed: of the search and of the results that it sees.
        digest: of the table; see `quality.tables.Table.digest`.
        version: of the arm; see `quality.arms.Arm.version`.
    """

    model_config = ConfigDict(frozen=True)

    clock: Clock
    table: str
    arm: str
    seed: int
    digest: str
    version: str


def key_of(clock: Clock, table: Table, arm: str, seed: int) -> Key:
    """Return the key of a run."""
    return Key(
        clock=clock,
        table=table.name,
        arm=arm,
        seed=seed,
        digest=table.digest,
        version=ARMS[arm].on(clock).version,
    )


class Run(Key):
    """The result of a run.

    Attributes:
        regrets: accuracy points between the best network and the incumbent, by budget. A budget
            before the first finished trial is left out.
    """

    regrets: Mapping[int, float]


def run(key: Key, table: Table) -> Run:
    """Run a search and return its regrets."""
    options = {
        "task": table.task,
        "space_options": table.space_options,
        "seed": key.seed,
        **ARMS[key.arm].on(key.clock).options(table, key.seed),
    }
    if key.clock in ("trials", "parallel"):
        return Run(**key.model_dump(), regrets=_by_trials(key, table, options))
    return Run(**key.model_dump(), regrets=_by_seconds(key, table, options))


def _by_trials(key: Key, table: Table, options: Mapping[str, Any]) -> dict[int, float]:
    # Beyond half of a small table, a search looks for the rest of the table.
    most = min(ARMS[key.arm].most_trials, len(table.admissible) // 2)

    def evaluate(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        return seen(table.network(params), key.seed)

    found = simulate(
        table.space,
        evaluate=evaluate,
        trials=most,
        workers=PARALLEL if key.clock == "parallel" else 1,
        **options,
    )
    return {
        budget: regret(table, found[:budget])
        for budget in TRIALS
        if budget <= most and _complete(found[:budget])
    }


def _by_seconds(key: Key, table: Table, options: Mapping[str, Any]) -> dict[int, float]:
    epochs = table.epochs if table.epochs > 1 else EPOCHS
    per_mac = SECONDS / epochs / table.median_macs

    def evaluate(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        network = table.network(params)
        if network.curves:
            return network.curves[seed_of(network, key.seed)][epoch - 1]
        return modelled(table, network, key.seed, epoch / epochs)

    found = simulate(
        table.space,
        evaluate=evaluate,
        trials=len(table.admissible) // 2,
        epochs=epochs,
        workers=WORKERS,
        seconds=lambda candidate: candidate.costs.macs * per_mac,
        scheduler={"name": "asha" if key.clock == "asha" else "none"},
        budget={"device_hours": DEVICE_TRAININGS[-1] * SECONDS / 3600},
        **options,
    )
    regrets = {}
    for budget in DEVICE_TRAININGS:
        until = budget * SECONDS / WORKERS
        ended = [result for result in found if result.ended <= until]
        if _complete(ended):
            regrets[budget] = regret(table, ended)
    return regrets


def _complete(results: Sequence[SimulatedTrial]) -> list[SimulatedTrial]:
    return [result for result in results if result.outcome is TrialState.COMPLETE]


def regret(table: Table, results: Sequence[SimulatedTrial]) -> float:
    """Return the best accuracy of the table minus that of the incumbent, by what was seen."""
    incumbent = max(_complete(results), key=lambda result: result.value)
    return table.best - table.network(incumbent.params).truth


def modelled(table: Table, network: Network, seed: int, part: float) -> float:
    """Return a value during a training, of a table that has only final values.

    The curve rises as ``exp(-4 part)``. Its noise belongs to the network and shrinks to zero at the
    end; at the start, its standard deviation is that of the accuracies in the table. So the rank
    correlation with the end is about .7 at first, and little among the best.

    Args:
        table: of the network.
        network: in training.
        seed: of the search.
        part: finished part of the training, up to 1.
    """
    remaining = (math.exp(-STEEPNESS * part) - math.exp(-STEEPNESS)) / (1 - math.exp(-STEEPNESS))
    chance = random.Random(f"{seed} curve {sorted(network.params.items())}")
    final = seen(network, seed)
    gap = max(0.0, final - 100 / table.task.classes)
    return final - remaining * gap + (1 - part) * chance.gauss(0, table.spread)
