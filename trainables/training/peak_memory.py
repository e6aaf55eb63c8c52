"""How much memory a piece of work takes at its peak, beyond what was taken before."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch.profiler import ProfilerActivity, profile


def measure_peak(work: Callable[[], object], device: torch.device | str) -> int:
    """Run some work and return the most bytes that its tensors took at one time.

    What the work itself returns is let go; build the network inside of it to have its weights
    counted. On a GPU the figure is what torch's allocator reserved, from an emptied cache: blocks
    that are free within the pool of a CUDA graph belong to no tensor, but nobody else can use
    them. The CUDA context of the process is not counted. On a CPU the figure is what torch's
    allocator handed out, to any thread.

    Args:
        work: called once; call it once before where the first call differs, for example by
            choosing algorithms.
        device: the torch device that it works on.

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
