"""Sets up processes that train many networks, and frees memory between trainings."""

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

_HOST_MEMORY = "can't allocate memory"
"""Message of torch when CPU memory runs out, for which it has no error class."""
_SHORT_OF_MEMORY = re.compile(
    f"{_HOST_MEMORY}|"
    # Allocations of CUDA and its libraries outside torch's allocator.
    r"CUDA (?:driver )?error: out of memory"
    r"|CU[A-Z]+_STATUS_(?:\w+_)?ALLOC(?:ATION)?_FAILED"
    # The handle takes memory: cuBLAS reports a full GPU this way.
    r"|CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate"
)
_REQUESTED = re.compile(r"Tried to allocate ([\d.]+) (bytes|[KMG]iB)")
_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30}
_SEGMENT = 20 * 2**20
"""Minimum number of bytes that torch's allocator reserves for a request."""


def prepare_process(threads: int, gpus: float = 0.0) -> None:
    """Set up the process for training.

    Args:
        threads: number of CPU threads.
        gpus: fraction of a GPU for the process. It also limits the memory, so that a training that
            needs too much fails alone.
    """
    torch.set_num_threads(threads)
    _keep_freed_memory()
    if gpus and torch.cuda.is_available():
        total = torch.cuda.get_device_properties(0).total_memory
        fraction = memory_limit(gpus, total) / total if gpus < 1 else 1.0
        torch.cuda.set_per_process_memory_fraction(fraction, 0)


def release_memory() -> None:
    """Return the memory of the last training to the device and the system."""
    if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        # Unreachable networks would keep their memory in the cache.
        gc.collect()
        torch.cuda.empty_cache()
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
    if trim is not None:
        trim(0)


def is_out_of_memory(error: BaseException) -> bool:
    """Tell whether a training failed because its device ran out of memory."""
    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    return isinstance(error, RuntimeError) and bool(_SHORT_OF_MEMORY.search(str(error)))


def has_reached_memory_limit(error: BaseException, device: torch.device, gpus: float) -> bool:
    """Tell whether a process that ran out of memory has reached its own limit.

    Otherwise other processes on the GPU exceed theirs, and the training may fit later or elsewhere.
    Call this function before memory is released.

    Args:
        error: out-of-memory error; see `is_out_of_memory`.
        device: device of the training.
        gpus: fraction of a GPU for the process; 0 for all of it.
    """
    shared = device.type == "cuda" and 0 < gpus < 1
    if not shared or isinstance(error, MemoryError) or _HOST_MEMORY in str(error):
        return True
    found = _REQUESTED.search(str(error))
    # The message rounds the figure to two decimals.
    requested = (float(found[1]) + 0.005) * _UNITS[found[2]] if found else WORKSPACE_BYTES
    total = torch.cuda.get_device_properties(device).total_memory
    needed = torch.cuda.memory_reserved(device) + max(int(requested), _SEGMENT)
    return needed >= memory_limit(gpus, total)


def usable_memory(device: torch.device) -> int:
    """Return the memory of the device that this process may use, in bytes."""
    if device.type == "cuda":
        total = torch.cuda.get_device_properties(device).total_memory
        return int(total * torch.cuda.get_per_process_memory_fraction(device))
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _keep_freed_memory() -> None:
    """Make glibc keep freed memory instead of returning its pages to the system.

    By default every tensor above a few megabytes is fresh memory with a page fault per 4 KiB, which
    costs 6 to 11 % of a small network's step.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGE)
        mallopt(_TRIM_THRESHOLD, _LARGE)
