"""Repeats a training step, on a GPU as a CUDA graph with a single launch.

A step of a small network is hundreds of kernels of a few microseconds, so launching them one by one
takes longer than running them. Capturing a graph takes a fraction of a second for any network; a
compiler takes a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

WARM_UP = 3
"""Steps before the capture, because libraries initialise at first use."""
WORTH = 20
"""Minimum number of steps for which a capture pays off."""

_log = logging.getLogger(__name__)


class GraphedStep:
    """Repeats one step that uses only fixed memory and never waits for the device.

    Args:
        device: device of the step.
        steps: number of repetitions.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        # Warm-up and capture share one side stream: autograd synchronises across streams, which a
        # capture forbids.
        self._stream = _side_stream(device) if device.type == "cuda" else None
        self._until_capture = WARM_UP if self._stream is not None and steps >= WORTH else -1

    @property
    def is_captured(self) -> bool:
        """Tell whether steps are replayed from a graph."""
        return self._graph is not None

    def __call__(self, step: Callable[[], None]) -> None:
        """Run the step, which must be the same each time; the first steps run without a graph."""
        if self._until_capture == 0 and self._graph is None and self._stream is not None:
            self._capture(step, self._stream)
        if self._graph is not None:
            self._graph.replay()
            return
        self._until_capture -= 1
        if self._stream is None:
            step()
            return
        working = torch.cuda.current_stream(self._stream.device)
        self._stream.wait_stream(working)
        with torch.cuda.stream(self._stream):
            step()
        working.wait_stream(self._stream)

    def _capture(self, step: Callable[[], None], stream: torch.cuda.Stream) -> None:
        """Capture the step without running it; on failure continue without a graph."""
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        try:
            # The outer context restores the stream even if ending the capture fails.
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                step()
        except RuntimeError as error:
            # This raises if the device itself is broken: then nothing on it can be trusted.
            torch.cuda.synchronize(stream.device)
            _leave_pool(pool, stream.device)
            _renew_generator(stream.device)
            self._until_capture = -1
            # Log only the text: a handler that keeps the error would keep the memory of the step.
            _log.warning("steps run without a CUDA graph: %s", str(error))
        else:
            self._graph = graph


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process for warm-up and capture.

    Libraries keep a workspace per stream for the lifetime of the process.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _leave_pool(pool: Any, device: torch.device) -> None:
    """Close the memory pool of a capture that failed to end.

    Torch ends a capture before it closes its memory pool. If ending fails, the pool stays open and
    the allocator never frees memory again.
    """
    try:
        torch._C._cuda_endAllocateToPool(device.index or 0, pool)
    except RuntimeError:
        return  # The pool is closed already.
    torch._C._cuda_releasePool(device.index or 0, pool)


def _renew_generator(device: torch.device) -> None:
    """Give the device's default generator a state without capture.

    After a capture that failed to end, the state stays marked as captured (torch 2.11), and the
    next dropout raises. Seed and offset are kept, so random numbers continue unchanged. Graphs
    captured earlier keep the old state: discard them.
    """
    generator = torch.cuda.default_generators[device.index or 0]
    fresh = torch.Generator(device)
    fresh.manual_seed(generator.initial_seed())
    fresh.set_offset(generator.get_offset())
    generator.graphsafe_set_state(fresh.graphsafe_get_state())
