"""Truncated twins: networks without the convolutions that the border screen objects to.

A twin keeps the features and pooling layers of its network up to the border layer, with that layer
(which the screen accepts) or without it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from experiments.plain_networks.networks import Drawn
from experiments.plain_networks.protocols import Protocol
from experiments.plain_networks.records import Measurement, Row
from experiments.plain_networks.table import row
from spaces.border import find_border
from spaces.candidate import Candidate
from spaces.remedies import truncate


def twin(candidate: Candidate, *, keep_border: bool) -> Candidate:
    """Return a network without its convolutions beyond the border layer.

    Args:
        candidate: that the border screen rejects with its defaults.
        keep_border: keep the border layer.

    Raises:
        ValueError: the screen accepts the candidate.
    """
    truncated = truncate(candidate.architecture, keep_border=keep_border)
    if truncated is None or not is_rejected(candidate):
        raise ValueError("no convolution lies beyond the border layer")
    return replace(candidate, architecture=truncated)


def is_rejected(candidate: Candidate) -> bool:
    """Tell whether the border screen rejects a candidate with its defaults."""
    return find_border(candidate.architecture).beyond > 0


def rejected_networks(protocol: Protocol, networks: Iterable[Drawn], count: int) -> list[Drawn]:
    """Return the first rejected networks, a random sample because draws are random."""
    space = protocol.space()
    rejected = (each for each in networks if is_rejected(space.rebuild(each.params, each.digest)))
    return [each for each, _ in zip(rejected, range(count), strict=False)]


def twin_rows(protocol: Protocol, measurements: Iterable[Measurement]) -> list[Row]:
    """Return the rows of trained twins; number and params are those of the network."""
    space = protocol.space()
    rows = []
    for each in measurements:
        network = space.rebuild(each.params)
        twins = (twin(network, keep_border=keep) for keep in (True, False))
        rows += [row(each, candidate) for candidate in twins if candidate.digest == each.digest]
    return rows
