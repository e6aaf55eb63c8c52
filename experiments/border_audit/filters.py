"""Filters that reject networks: the border screen and its controls, each as a mask of networks."""

from __future__ import annotations

import numpy as np

from experiments.border_audit.networks import Ints, Mask, Networks
from spaces.border import Rule

DROP_BORDER = -1
"""``allow_beyond`` that rejects the border layer, too."""


def border_screen(networks: Networks, rule: Rule, allow_beyond: int) -> Mask:
    """Return which networks the border screen rejects.

    Args:
        networks: of the table.
        rule: that finds the border layer.
        allow_beyond: number of convolutions allowed after the border layer; `DROP_BORDER` rejects
            each network with a border layer.
    """
    return (networks.border[rule] > 0) & (networks.beyond[rule] > allow_beyond)


def largest(cost: Ints, count: int) -> Mask:
    """Reject the most expensive networks."""
    return _first(np.argsort(-cost, kind="stable"), count)


def smallest(cost: Ints, count: int) -> Mask:
    """Reject the cheapest networks: accept the largest."""
    return _first(np.argsort(cost, kind="stable"), count)


def at_random(networks: int, count: int, generator: np.random.Generator) -> Mask:
    """Reject networks at random."""
    return _first(generator.permutation(networks), count)


def _first(order: Ints, count: int) -> Mask:
    rejected = np.zeros(len(order), np.bool_)
    rejected[order[:count]] = True
    return rejected
