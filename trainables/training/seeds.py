"""Seeds of torch's generators, derived from the seed of a training."""

from __future__ import annotations

_SEEDS = 2**63
"""Exclusive upper limit of torch's seeds."""


def torch_seed(seed: int) -> int:
    """Return a seed that torch accepts."""
    return seed % _SEEDS


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch, so that a resumed training draws as if it had never stopped."""
    return torch_seed(seed * 1_000_003 + epoch)
