"""What a process that trains many networks sets up once, and gives back between two of them."""

from __future__ import annotations

import ctypes
import gc
import os
import re

import torch

from cluster.sizing import WORKSPACE_BYTES, memory_limit

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
"""Parameters of glibc's ``mallopt``."""
_LARGE = 1 << 30

_SHORT_OF_MEMORY = re.compile(
    # The processor's memory, of which torch says it in words alone.
    r"can't allocate memory"
    # What CUDA and its libraries ask for beside torch's allocator.
    r"|CUDA error: out of memory"
    r"|CU[A-Z]+_STATUS_(?:\w+_)?ALLOC(?:ATION)?_FAILED"
)
_REQUESTED = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMG]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SEGMENT = 20 * 2**20
"""Bytes that torch's allocator reserves for a smaller request."""


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
        # The cache can give back only what no unreachable network still holds.
        gc.collect()
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a training failed because the memory of its device did not suffice."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_SHORT_OF_MEMORY.search(str(error)))


def has_reached_memory_limit(error: BaseException, device: torch.device, gpus: float) -> bool:
    """Tell whether a process that is out of memory has reached the limit of its own share.

    Otherwise its neighbours on the GPU hold more than theirs, and the training may fit elsewhere
    or later. Ask before memory is given back.

    Args:
        error: what the training failed with; see `is_out_of_memory`.
        device: that it trained on.
        gpus: share of a GPU that the process has, 0 for all of it.
    """
    if device.type != "cuda":
        return True
    found = _REQUESTED.search(str(error))
    requested = float(found[1]) * _UNITS[found[2]] if found else WORKSPACE_BYTES
    total = torch.cuda.get_device_properties(device).total_memory
    needed = torch.cuda.memory_reserved(device) + max(int(requested), _SEGMENT)
    return needed >= memory_limit(gpus or 1.0, total)


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
