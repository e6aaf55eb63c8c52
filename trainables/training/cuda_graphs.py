"""Repeats a training step: as it is, or on a GPU as a CUDA graph, which costs one launch each.

A small network's step is hundreds of kernels that each run for microseconds: launching them one
by one takes longer than they do. A graph is captured in a fraction of a second for any network,
where a compiler would take a minute.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import lru_cache
from typing import Any

import torch

WARM_UP = 3
"""Steps before the capture: what libraries set up at first use must not be captured."""
WORTH = 20
"""A capture pays for itself from about so many steps."""

_log = logging.getLogger(__name__)


class GraphedStep:
    """Repeats one step, which reads and writes fixed memory and never waits for the device.

    Args:
        device: where it runs.
        steps: how often it will be repeated.
    """

    def __init__(self, device: torch.device, steps: int) -> None:
        self._graph: torch.cuda.CUDAGraph | None = None
        # Warm-up and capture share a stream of their own: what autograd has begun on one stream
        # it would wait for on another, which a capture does not allow.
        self._stream = _side_stream(device) if device.type == "cuda" else None
        self._until_capture = WARM_UP if self._stream is not None and steps >= WORTH else -1

    @property
    def is_captured(self) -> bool:
        """Tell whether steps are replayed from a graph."""
        return self._graph is not None

    def __call__(self, step: Callable[[], None]) -> None:
        """Take one step, always the same; the first ones, before the capture, as it is."""
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
        """Record the step without running it; go on without a graph where that fails."""
        graph = torch.cuda.CUDAGraph()
        pool = torch.cuda.graph_pool_handle()
        try:
            # The outer context gives the stream back even where ending the capture fails.
            with (
                torch.cuda.stream(stream),
                torch.cuda.graph(
                    graph, pool=pool, stream=stream, capture_error_mode="thread_local"
                ),
            ):
                step()
        except RuntimeError as error:
            # If the device itself is broken, this raises: nothing on it can be trusted any more.
            torch.cuda.synchronize(stream.device)
            _leave_pool(pool, stream.device)
            _renew_generator(stream.device)
            self._until_capture = -1
            _log.warning("steps run without a CUDA graph: %s", error)
        else:
            self._graph = graph


@lru_cache
def _side_stream(device: torch.device) -> torch.cuda.Stream:
    """Return the one stream of this process on which steps are begun and captured.

    Libraries keep a workspace for each stream that they have met, for the life of the process.
    """
    return torch.cuda.Stream(device)  # type: ignore[no-untyped-call]


def _leave_pool(pool: Any, device: torch.device) -> None:
    """Have the allocator forget a capture that could not be ended.

    Torch ends a capture before it closes its memory pool; where the first fails, the pool stays
    open, and the allocator would never again give memory back for any later training.
    """
    try:
        torch._C._cuda_endAllocateToPool(device.index or 0, pool)
    except RuntimeError:
        return  # It was ended, and closed.
    torch._C._cuda_releasePool(device.index or 0, pool)


def _renew_generator(device: torch.device) -> None:
    """Give the device's default generator a state that belongs to no capture.

    Where a capture could not be ended, the state stays marked as captured (torch 2.11), and the
    next dropout raises. Seed and offset stay, so that it draws on as if nothing had been captured.
    """
    generator = torch.cuda.default_generators[device.index or 0]
    fresh = torch.Generator(device)
    fresh.manual_seed(generator.initial_seed())
    fresh.set_offset(generator.get_offset())
    generator.graphsafe_set_state(fresh.graphsafe_get_state())
