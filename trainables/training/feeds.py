"""Brings images to the device: all at once if they fit, else batch by batch.

Images stay uint8 until they are on the device, a quarter of the bytes of float32. On the CPU
nothing is copied: all processes of a node share one memory map of the cache.
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
"""Batches that are read from the map and copied ahead of time."""


class Feed(Protocol):
    """Interface of the sources of image batches."""

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Make each batch, given as rows ``[n]`` on the CPU, the current one in turn."""
        ...

    def current(self, rows: Tensor) -> Tensor:
        """Return the current batch, uint8 ``[n, height, width, channels]``, on the device.

        Reads only fixed memory, so a CUDA graph can capture it.

        Args:
            rows: rows of the current batch, on the device.
        """
        ...

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield batches of any size in the format of `current`."""
        ...


class ResidentFeed:
    """Keeps all images on the device."""

    def __init__(self, images: Tensor) -> None:
        self.images = images

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Do nothing per batch; `current` selects rows itself."""
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
    """Reads images from the map in a thread and copies them while the device works.

    Args:
        images: uint8 ``[n, height, width, channels]`` on the CPU.
        device: device of the batches.
        batch: size of the batches to feed.
    """

    def __init__(self, images: Tensor, device: torch.device, batch: int) -> None:
        self._images = images
        self._device = device
        self._batch = torch.empty((batch, *images.shape[1:]), dtype=torch.uint8, device=device)
        self._copying = torch.cuda.Stream(device) if device.type == "cuda" else None  # type: ignore[no-untyped-call]

    def feed(self, batches: Sequence[Tensor]) -> Iterator[None]:
        """Copy each batch into the memory that `current` returns."""
        for images in self.sweep(batches):
            self._batch.copy_(images)
            yield

    def current(self, rows: Tensor) -> Tensor:
        """Return the last fed batch."""
        return self._batch

    def sweep(self, batches: Sequence[Tensor]) -> Iterator[Tensor]:
        """Yield the images of each batch while later batches are read and copied.

        The host runs at most a few batches ahead of the device, because queued batches take memory.
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
        # The device copies from pinned memory without blocking the host.
        return images.pin_memory() if self._copying is not None else images

    def _copy(self, images: Tensor) -> tuple[Tensor, torch.cuda.Event | None]:
        if self._copying is None:
            return images.to(self._device), None
        with torch.cuda.stream(self._copying):
            return images.to(self._device, non_blocking=True), self._copying.record_event()

    def _arrived(self, images: Tensor, event: torch.cuda.Event | None) -> Tensor:
        """Make the device wait for a copy, and keep the copy's memory until it is used."""
        if event is not None:
            working = torch.cuda.current_stream(self._device)
            working.wait_event(event)
            images.record_stream(working)
        return images


def open_feed(dataset: Dataset, device: torch.device, batch: int) -> Feed:
    """Return the fastest feed that fits into the memory of the device.

    Args:
        dataset: the images.
        device: device of the batches.
        batch: training batch size.
    """
    if device.type == "cuda" and dataset.images.nbytes > RESIDENT_FRACTION * usable_memory(device):
        return StreamedFeed(as_tensor(dataset.images), device, batch)
    return _resident(_Images(dataset.images), device)


class _Images:
    """An array that equals only itself; the folds of a data set share one."""

    def __init__(self, array: NDArray[np.uint8]) -> None:
        self.array = array

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Images) and other.array is self.array

    def __hash__(self) -> int:
        return id(self.array)


@lru_cache(maxsize=1)
def _resident(images: _Images, device: torch.device) -> ResidentFeed:
    """Copy the images to the device once per process; its trainings share them."""
    return ResidentFeed(as_tensor(images.array).to(device))


def as_tensor(array: NDArray[Any]) -> Tensor:
    """Return a tensor over the same memory, which may be a read-only memory map."""
    with warnings.catch_warnings():
        # Images are never written to.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(np.asarray(array))
