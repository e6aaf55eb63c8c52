"""Brings images to the device: all of them once where they fit, else batch by batch.

Either way they stay uint8 until they are on the device, a quarter of the bytes of float32. On the
CPU nothing is copied: all processes of a node look at the same map of the cache.
"""

from __future__ import annotations

import warnings
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import lru_cache
from typing import Any, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cluster.sizing import RESIDENT_FRACTION
from trainables.data import Dataset
from trainables.training.process import usable_memory

_AHEAD = 2
"""Batches that are read from the map, and copied, before they are needed."""


class Feed(Protocol):
    """Where batches of images come from."""

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Make each of these batches, rows ``[n]`` on the CPU, the current one in turn."""
        ...

    def current(self, rows: Tensor) -> Tensor:
        """Return the current batch, uint8 ``[n, height, width, channels]``, on the device.

        Reads fixed memory alone, so that it can be captured in a CUDA graph.

        Args:
            rows: of the current batch, on the device.
        """
        ...

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield these batches, whatever their sizes, as `current` does."""
        ...


class ResidentFeed:
    """All images lie on the device."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Do nothing for each batch: `current` finds its rows by itself."""
        for _ in batches:
            yield

    def current(self, rows: Tensor) -> Tensor:
        """Return the images in these rows."""
        return self.images.index_select(0, rows)

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch."""
        for rows in batches:
            yield self.current(rows.to(self.images.device))


class StreamedFeed:
    """Images are read from the map by a thread and copied while the device works.

    Args:
        images: uint8 ``[n, height, width, channels]`` on the CPU.
        device: where batches go.
        batch: images in each batch that is fed.
    """

    def __init__(self, images: Tensor, device: torch.device, batch: int) -> None:
        self._images = images
        self._device = device
        self._batch = torch.empty((batch, *images.shape[1:]), dtype=torch.uint8, device=device)
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Copy each batch to where `current` finds it."""
        for images in self.sweep(batches):
            self._batch.copy_(images)
            yield

    def current(self, rows: Tensor) -> Tensor:
        """Return the batch that was fed last."""
        return self._batch

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch, the next ones being read and copied meanwhile.

        The host is held back to a few batches before the device: what it has queued takes memory.
        """
        used: deque[torch.cuda.Event] = deque()
        for images in self._read_and_copied(batches):
            yield images
            if self._copying is not None:
                used.append(torch.cuda.current_stream(self._device).record_event())
                if len(used) > _AHEAD:
                    used.popleft().synchronize()

    def _read_and_copied(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        with ThreadPoolExecutor(1, thread_name_prefix="images") as reader:
            read: deque[Future[Tensor]] = deque()
            copied: deque[tuple[Tensor, torch.cuda.Event | None]] = deque()
            for rows in batches:
                read.append(reader.submit(self._read, rows))
                if len(read) > _AHEAD:
                    copied.append(self._copy(read.popleft().result()))
                if len(copied) > 1:
                    yield self._arrived(*copied.popleft())
            while read:
                copied.append(self._copy(read.popleft().result()))
                yield self._arrived(*copied.popleft())
            while copied:
                yield self._arrived(*copied.popleft())

    def _read(self, rows: Tensor) -> Tensor:
        images = self._images.index_select(0, rows)
        # From pinned memory the device fetches by itself, without the host waiting for it.
        return images.pin_memory() if self._copying is not None else images

    def _copy(self, images: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        if self._copying is None:
            return images.to(self._device), None
        with torch.cuda.stream(self._copying):
            return images.to(self._device, non_blocking=True), self._copying.record_event()

    def _arrived(self, images: Tensor, event: torch.cuda.Event | None) -> Tensor:
        """Have the device wait until a copy is there, and keep its memory until it is used."""
        if event is not None:
            working = torch.cuda.current_stream(self._device)
            working.wait_event(event)
            images.record_stream(working)
        return images


def open_feed(dataset: Dataset, device: torch.device, batch: int) -> Feed:
    """Return the fastest feed that the device has memory for.

    Args:
        dataset: the images.
        device: where they are needed.
        batch: images in each batch of training.
    """
    if device.type == "cuda" and dataset.images.nbytes > RESIDENT_FRACTION * usable_memory(device):
        return StreamedFeed(as_tensor(dataset.images), device, batch)
    return _resident(dataset, device)


@lru_cache(maxsize=1)
def _resident(dataset: Dataset, device: torch.device) -> ResidentFeed:
    """Bring the images to the device once for each process: its trainings share them."""
    return ResidentFeed(as_tensor(dataset.images).to(device))


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor over the same memory, also where it is a read-only map of a file."""
    with warnings.catch_warnings():
        # Nothing here writes to the images.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.asarray(array))
