"""Draws the networks of a table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import optuna
from optuna.samplers import RandomSampler

from experiments.plain_networks.protocols import DRAW_SEED, Protocol


@dataclass(frozen=True)
class Drawn:
    """One network.

    Attributes:
        number: in the order of the draws, from 0.
        params: drawn values, from which the space rebuilds the network.
        digest: of the candidate.
    """

    number: int
    params: dict[str, Any]
    digest: str


def draw_networks(protocol: Protocol, count: int) -> list[Drawn]:
    """Draw different networks at random, without screens.

    A larger count continues the same sequence.

    Args:
        protocol: of the table.
        count: number of networks.
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    space = protocol.space()
    study = optuna.create_study(sampler=RandomSampler(seed=DRAW_SEED))
    found: dict[str, Drawn] = {}
    while len(found) < count:
        trial = study.ask()
        digest = space.draw(trial).digest
        found.setdefault(digest, Drawn(len(found), trial.params, digest))
    return list(found.values())
