"""The tables of plain networks in ``experiments/results`` as problems for searches.

A table holds a sample of a large space, so a search cannot draw freely. Here a trial draws a
position, and the space returns the table's nearest network, as the real architecture: features,
costs and border layer are those of the network that was trained. The coordinates are ranks from 0
to 1 of depth, kernel, mean feature amount (logarithm), and smallest final resolution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import groupby
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
from numpy.typing import NDArray
from optuna.trial import BaseTrial
from scipy.stats import rankdata

from experiments.plain_networks.protocols import PROTOCOLS
from experiments.plain_networks.records import Row
from experiments.plain_networks.table import read_table
from quality.tables import Network, Table
from spaces.architecture import Architecture
from spaces.task import Task

COORDINATES = ("depth", "kernel", "features", "pools")


@dataclass(frozen=True)
class _Rows:
    """The networks of a table and their positions."""

    networks: Sequence[Architecture]
    positions: NDArray[np.float64]

    def nearest(self, params: Mapping[str, Any]) -> int:
        place = np.array([params[name] for name in COORDINATES])
        return int(np.square(self.positions - place).sum(axis=1).argmin())


def nearest_network(trial: BaseTrial, task: Task, *, rows: _Rows) -> Architecture:
    """Draw a position, and return the network of the table that is nearest to it."""
    place = {name: trial.suggest_float(name, 0.0, 1.0) for name in COORDINATES}
    return rows.networks[rows.nearest(place)]


@cache
def read_plain(path: Path) -> Table:
    """Read a table of plain networks.

    A search sees the validation accuracy of one seed after each epoch. The truth is the mean test
    accuracy of all seeds. Networks without all seeds are left out.

    Args:
        path: of ``DATASET.csv.gz``.
    """
    name = path.name.partition(".")[0]
    return plain_table(name, read_table(path))


def plain_table(name: str, rows: Sequence[Row]) -> Table:
    """Return the problem of a table's rows; see `read_plain`."""
    protocol = PROTOCOLS[name]
    groups = [list(group) for _, group in groupby(rows, key=lambda row: row.number)]
    seeds = max(len(group) for group in groups)
    complete = [group for group in groups if len(group) == seeds]
    first = [group[0] for group in complete]
    space = protocol.space()
    networks = [space.rebuild(row.params, row.digest).architecture for row in first]
    found = _Rows(networks, _positions(first))
    return Table(
        f"plain-{name}",
        protocol.task,
        nearest_network,
        {
            str(index): Network(
                dict(zip(COORDINATES, map(float, found.positions[index]), strict=True)),
                group[0].macs,
                tuple(100 * row.validation_accuracy for row in group),
                100 * mean(row.test_accuracy for row in group),
                tuple(tuple(100 * each for each in row.validation_accuracies) for row in group),
            )
            for index, group in enumerate(complete)
        },
        lambda params: str(found.nearest(params)),
        epochs=protocol.epochs,
        space_options={"rows": found},
        border=True,
    )


def _positions(rows: Sequence[Row]) -> NDArray[np.float64]:
    """Return the ranks of each coordinate, from 0 to 1; equal values share a rank."""
    columns = {
        "depth": [row.depth for row in rows],
        "kernel": [row.kernel for row in rows],
        "features": [mean(map(math.log, row.features)) for row in rows],
        # Later pooling layers leave more layers at a high resolution.
        "pools": [sum(1 - place / row.depth for place in row.pool_after) for row in rows],
    }
    ranks = [(rankdata(columns[name]) - 0.5) / len(rows) for name in COORDINATES]
    # Networks with the same ranks would hide each other.
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (len(rows), len(COORDINATES)))
    return np.stack(ranks, axis=1) + noise / len(rows)
