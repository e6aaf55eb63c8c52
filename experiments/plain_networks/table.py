"""Writes and reads a table: a compressed CSV file with one row per training."""

from __future__ import annotations

import csv
import gzip
import io
import zlib
from collections.abc import Iterable
from pathlib import Path

from pydantic import ValidationError

from cluster.files import write_atomically
from experiments.plain_networks.protocols import Protocol
from experiments.plain_networks.records import Measurement, Row
from spaces.border import Rule, find_border
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from spaces.operations import Convolution, Pooling

RESULTS = Path(__file__).resolve().parent.parent / "results"
"""Folder of the published tables."""


def read_table(path: Path) -> list[Row]:
    """Read a table.

    Args:
        path: of the file, such as ``RESULTS / "digits.csv.gz"``.

    Returns:
        The rows by number of the network, then by seed.

    Raises:
        BadInputError: the file cannot be read, or it is no such table.
    """
    try:
        with gzip.open(path, "rt", encoding="utf-8", newline="") as file:
            rows = [Row.model_validate(line) for line in csv.DictReader(file)]
    except (OSError, EOFError, zlib.error, UnicodeError, csv.Error, ValidationError):
        rows = []
    if not rows:
        problem = "it cannot be read, is damaged, or is no table of plain networks"
        raise BadInputError("table", path, problem, "restore it, or name another folder")
    return rows


def write_table(path: Path, rows: Iterable[Row]) -> None:
    """Write a table; equal rows give equal bytes."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(Row.model_fields), lineterminator="\n")
    writer.writeheader()
    for row in sorted(rows, key=lambda row: (row.number, row.seed)):
        writer.writerow(row.model_dump())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, gzip.compress(text.getvalue().encode(), mtime=0))


def analyse(protocol: Protocol, measurements: Iterable[Measurement]) -> list[Row]:
    """Return the rows of finished trainings."""
    space = protocol.space()
    return [row(each, space.rebuild(each.params, each.digest)) for each in measurements]


def row(measurement: Measurement, candidate: Candidate) -> Row:
    """Return the row of one training.

    Args:
        measurement: of the training.
        candidate: the trained network, plain and for square images.
    """
    network = candidate.architecture
    convolutions = [
        layer.operation for layer in network.layers if isinstance(layer.operation, Convolution)
    ]
    numbers = network.indices(Convolution)
    pools = [sum(i < pool for i in numbers) for pool in network.indices(Pooling)]
    costs = candidate.costs
    previous, direct, loose = (
        find_border(network, rule)
        for rule in (Rule.PREVIOUS_CONV, Rule.DIRECT_INPUT, Rule.NON_STRICT)
    )
    return Row(
        **dict(measurement),
        depth=len(convolutions),
        kernel=measurement.params["kernel"],
        features=tuple(network.shapes[i][0] for i in numbers),
        pool_after=tuple(pools),
        parameters=costs.params,
        macs=costs.macs,
        activation_bytes=costs.activation_bytes,
        fields=tuple(field.largest[0] for field in previous.fields),
        border_previous_conv=previous.border,
        border_direct_input=direct.border,
        border_non_strict=loose.border,
        beyond_previous_conv=previous.beyond,
        beyond_direct_input=direct.beyond,
        beyond_non_strict=loose.beyond,
    )
