"""Measures the additional peak memory of a function."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def measure_peak(work: Callable[[], object], device: torch.device | str) -> int:
    """Run a function and return the peak memory of its tensors in bytes.

    The function's result is discarded. Build the network inside of it to include the weights.

    On a GPU the figure is the memory that torch's allocator reserves, starting from an empty cache.
    It includes free blocks in the pool of a CUDA graph, which nothing else can use, and excludes
    the CUDA context. On a CPU the figure is the memory that torch allocates, in any thread.

    Args:
        work: called once; call it before if its first call differs, such as by selecting
            algorithms.
        device: torch device of the work.

    Raises:
        ValueError: neither a CPU nor a CUDA device.
    """
    device = torch.device(device)
    if device.type == "cuda":
        return _peak_on_cuda(work, device)
    if device.type == "cpu":
        return _peak_on_cpu(work)
    raise ValueError(f"memory can be measured on cpu and cuda, but not on {device}")


def _peak_on_cuda(work: Callable[[], object], device: torch.device) -> int:
    torch.cuda.synchronize(device)
    gc.collect()
    torch.cuda.empty_cache()
    before = torch.cuda.memory_reserved(device)
    torch.cuda.reset_peak_memory_stats(device)
    work()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_reserved(device) - before


def _peak_on_cpu(work: Callable[[], object]) -> int:
    gc.collect()
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        work()
    results = profiler.profiler.kineto_results
    changes = [
        (event.start_ns(), event.nbytes())
        for event in results.events()
        if event.name() == "[memory]"
    ]
    taken = peak = 0
    for _, change in sorted(changes, key=lambda change: change[0]):
        taken += change
        peak = max(peak, taken)
    return peak
