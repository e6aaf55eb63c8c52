"""The default batch size, which follows from the number of training images."""

from __future__ import annotations

SMALLEST_BATCH, LARGEST_BATCH = 8, 128
"""Limits of the default batch size; smaller batches make the statistics of batch norms noisy."""
MIN_STEPS = 12
"""Steps per epoch that the default batch size leaves at least."""


def default_batch_size(images: int) -> int:
    """Return a power of two from 8 to 128 that gives an epoch at least a dozen steps, if any does.

    Few steps train a network little: see benchmarks/batch_size.py.
    """
    fitting = max(images // MIN_STEPS, 1).bit_length() - 1
    return min(max(1 << fitting, SMALLEST_BATCH), LARGEST_BATCH, images)
