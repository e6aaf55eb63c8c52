"""Trials of searches on other data sets, as a warm start for a search of plain networks.

Each other table lends the trials of a search by the sampler of the project. A table holds a sample
of networks, and no two tables hold the same ones. So a lent trial counts as one of the network that
is nearest to it in this table: equal or similar depth, kernel, feature amounts and pooling.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from optuna.distributions import FloatDistribution
from optuna.trial import FrozenTrial, create_trial

from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.table import RESULTS
from quality.plain import COORDINATES, read_plain
from quality.tables import Table, seen
from search.loop.simulation import simulate
from search.study.records import TrialAttributes
from spaces.candidate import Candidate

LENT = 50
"""Trials of each other search."""


def lent_trials(table: Table, seed: int) -> list[FrozenTrial]:
    """Return the trials of a search on each other data set."""
    return [trial for name in others(table) for trial in _trials(name, table, seed)]


def others(table: Table) -> list[str]:
    """Return the other data sets of which there are tables."""
    return [
        name
        for name in PROTOCOLS
        if f"plain-{name}" != table.name and (RESULTS / f"{name}.csv.gz").is_file()
    ]


def _trials(name: str, table: Table, seed: int) -> Iterator[FrozenTrial]:
    for params, accuracy in _searched(name, seed):
        candidate = table.cached.rebuild(params)
        yield create_trial(
            params=dict(params),
            distributions={each: FloatDistribution(0.0, 1.0) for each in COORDINATES},
            value=accuracy,
            user_attrs=dict(TrialAttributes(inherited=name, digest=candidate.digest)),
        )


@cache
def _searched(name: str, seed: int) -> list[tuple[Mapping[str, Any], float]]:
    """Search another table, and return the positions and accuracies of its trials."""
    table = read_plain(RESULTS / f"{name}.csv.gz")

    def evaluate(candidate: Candidate, params: Mapping[str, Any], epoch: int) -> float:
        return seen(table.network(params), seed)

    found = simulate(
        table.space,
        table.task,
        evaluate,
        trials=LENT,
        seed=seed,
        space_options=table.space_options,
    )
    return [(table.network(each.params).params, each.value) for each in found]
