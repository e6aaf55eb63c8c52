"""Which share of a GPU a training asks for, from the memory it is predicted to take.

Several trainings share one GPU, each in a process of its own. Ray counts the shares; nothing but
these figures keeps the processes out of each other's memory. What else decides how much a training
takes stands here as well: trainings keep to it, and predictions count on it.
"""

from __future__ import annotations

from dataclasses import dataclass

SHARES = (1 / 8, 1 / 4, 1 / 2, 1.0)
"""A few fixed sizes: a process is used again only for a training that asks for the same."""
PROCESS_BYTES = 700_000_000
"""What a process takes of a GPU beside torch's allocator: CUDA's context and libraries."""
WORKSPACE_BYTES = 150_000_000
"""What matrix products and convolutions take of torch's allocator to work in, beside tensors."""
FRAGMENTATION = 0.1
"""What torch's allocator holds beyond the tensors in it, relative to them."""
RESIDENT_SHARE = 0.25
"""Share of the memory a process may use on a GPU up to which all images are kept there."""
LARGEST_EVALUATION_BATCH = 1024
"""Images that are scored at a time, at most."""


@dataclass(frozen=True)
class Gpu:
    """What a search has to know of a GPU.

    Attributes:
        memory: in bytes.
        bfloat16: whether it calculates in bfloat16 by itself.
    """

    memory: int
    bfloat16: bool


def memory_limit(share: float, gpu_memory: int) -> int:
    """Return how many bytes the allocator of a process with this share may hold.

    Args:
        share: of one GPU; whole GPUs beyond the first give a process no more.
        gpu_memory: of one GPU, in bytes.
    """
    return max(0, int(min(share, 1.0) * gpu_memory) - PROCESS_BYTES)


def largest_prediction(share: float, gpu_memory: int) -> int:
    """Return the most bytes that a training may be predicted to take in this share of a GPU."""
    there = memory_limit(share, gpu_memory) / (1 + FRAGMENTATION)
    return max(0, int(there) - WORKSPACE_BYTES)


def share_for(predicted: int, gpu_memory: int) -> float:
    """Return the smallest share that holds a training; a whole GPU where none does.

    Args:
        predicted: bytes that its tensors take at their peak.
        gpu_memory: of one GPU, in bytes.
    """
    for share in SHARES:
        if predicted <= largest_prediction(share, gpu_memory):
            return share
    return SHARES[-1]


def evaluation_batch(batch_size: int) -> int:
    """Return how many images are scored at a time: without gradients twice a batch fits easily."""
    return min(2 * batch_size, LARGEST_EVALUATION_BATCH)
