"""Chooses the fraction of a GPU for a training from its predicted memory.

Several trainings share one GPU, each in its own process. Ray only counts fractions; these limits
keep each process within its memory. Training and prediction use the same constants.
"""

from __future__ import annotations

from dataclasses import dataclass

GPU_FRACTIONS = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""The fractions a trial may request. Ray reuses a process only for an equal request."""
PROCESS_BYTES = 700_000_000
"""GPU memory of a process outside torch's allocator: CUDA context and libraries."""
WORKSPACE_BYTES = 150_000_000
"""Workspace of matrix products and convolutions in torch's allocator, in addition to tensors."""
FRAGMENTATION = 0.1
"""Memory that torch's allocator reserves beyond its tensors, relative to them."""
RESIDENT_FRACTION = 0.25
"""Images stay on the GPU if they take at most this fraction of a process's memory limit."""
LARGEST_EVALUATION_BATCH = 1024
"""Maximum number of images in an evaluation batch."""


@dataclass(frozen=True)
class Gpu:
    """Properties of a GPU that a search depends on.

    Attributes:
        memory: in bytes.
        bfloat16: whether the GPU computes bfloat16 natively.
    """

    memory: int
    bfloat16: bool


def memory_limit(gpu_fraction: float, gpu_memory: int) -> int:
    """Return the allocator's limit in bytes for a process with a fraction of a GPU.

    Args:
        gpu_fraction: of one GPU; above 1 counts as 1.
        gpu_memory: of one GPU, in bytes.
    """
    return max(0, int(min(gpu_fraction, 1.0) * gpu_memory) - PROCESS_BYTES)


def largest_prediction(gpu_fraction: float, gpu_memory: int) -> int:
    """Return the largest predicted memory in bytes that fits into a fraction of a GPU."""
    available = memory_limit(gpu_fraction, gpu_memory) / (1 + FRAGMENTATION)
    return max(0, int(available) - WORKSPACE_BYTES)


def gpu_fraction_for(predicted: int, gpu_memory: int) -> float:
    """Return the smallest fraction of a GPU that fits a training; 1 if none does.

    Args:
        predicted: peak memory of the training's tensors, in bytes.
        gpu_memory: of one GPU, in bytes.
    """
    for fraction in GPU_FRACTIONS:
        if predicted <= largest_prediction(fraction, gpu_memory):
            return fraction
    return GPU_FRACTIONS[-1]


def evaluation_batch(batch_size: int) -> int:
    """Return the evaluation batch size: without gradients, twice the training batch fits easily."""
    return min(2 * batch_size, LARGEST_EVALUATION_BATCH)
