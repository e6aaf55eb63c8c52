"""What a process that trains many networks sets up once, and gives back between two of them."""

from __future__ import annotations

import ctypes
import os

import torch

from cluster.sizing import memory_limit

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
_LARGE = 1 << 30


def prepare_process(threads: int, gpus: float = 0.0) -> None:
    """Set up the process for training.

    Args:
        threads: how many of the processor's it may use.
        gpus: share of a GPU it has. It gets no more of its memory: what takes too much fails by
            itself, and not its neighbours.
    """
    torch.set_num_threads(threads)
    _keep_freed_memory()
    if gpus and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        share = memory_limit(gpus, total) / total if gpus < 1 else 1.0
        torch.cuda.set_per_process_memory_fraction(share, 0)


def release_memory() -> None:
    """Give back what the last training has freed, before the next one is begun."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a training failed because the memory of its device did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # Of the processor's memory torch says it in words alone.
    return isinstance(error, RuntimeError) and "can't allocate memory" in str(error)


def usable_memory(device: torch.device) -> int:
    """Return how many bytes of the device's memory this process may use."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(total * torch.cuda.get_per_process_memory_fraction(device))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _keep_freed_memory() -> None:
    """Have glibc keep freed memory: its pages are not fetched from the system for every layer.

    By default every tensor of more than some megabytes is fresh memory, which costs a page fault
    for each 4 KiB of it: 6 to 11 % of a small network's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
