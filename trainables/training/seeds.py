"""Seeds of torch's generators, derived from the seed of a training."""

from __future__ import annotations

_SEEDS = 2**63
"""Exclusive upper limit of torch's seeds."""


def torch_seed(seed: int) -> int:
    """Return a seed that torch accepts."""
    return seed % _SEEDS


def fold_seed(seed: int, fold: int) -> int:
    """Return the seed of a fold; no trial has it, because their seeds are below 2**32."""
    return torch_seed(seed + (fold << 32))


def epoch_seed(seed: int, epoch: int) -> int:
    """Return the seed of an epoch, so that a resumed training draws as if it had never stopped."""
    return torch_seed(seed * 1_000_003 + epoch)
