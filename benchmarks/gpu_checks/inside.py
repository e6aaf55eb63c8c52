"""Access to internals of a training: all private names that the checks use are here."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from unittest import mock

import torch

from trainables.data import Dataset
from trainables.training import batches, cuda_graphs
from trainables.training import loop as training
from trainables.training.device import select_device
from trainables.training.feeds import StreamedFeed, as_tensor
from trainables.training.loop import Training


@contextmanager
def float32() -> Iterator[None]:
    """Compute in full float32, with deterministic cuDNN kernels where they exist."""
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic
    with mock.patch.object(
        training, "select_device", lambda name: replace(select_device(name), bfloat16=False)
    ):
        matmul.allow_tf32 = cudnn.allow_tf32 = False
        cudnn.deterministic = True
        try:
            yield
        finally:
            matmul.allow_tf32, cudnn.allow_tf32, cudnn.deterministic = before


@contextmanager
def eager() -> Iterator[None]:
    """Disable the capture of steps in new trainings."""
    with mock.patch.object(cuda_graphs, "WORTH", 1 << 62):
        yield


@contextmanager
def streamed() -> Iterator[None]:
    """Stream the images of new trainings batch by batch."""

    def open_feed(dataset: Dataset, device: torch.device, batch: int) -> StreamedFeed:
        return StreamedFeed(as_tensor(dataset.images), device, batch)

    with mock.patch.object(batches, "open_feed", open_feed):
        yield


def take_watched_steps(trained: Training, count: int) -> None:
    """Run the first steps of the next epoch one by one, without a graph.

    The first step is not observed, because it may load libraries.
    """
    trained._prepare_epoch()
    trained.network.train()
    trained._step()
    # Calls that make the host wait for the device raise an error.
    torch.cuda.set_sync_debug_mode("error")
    try:
        for _ in range(count):
            trained._step()
    finally:
        torch.cuda.set_sync_debug_mode("default")


def take_first_steps(trained: Training) -> None:
    """Run steps until the first replay of the captured step; on a CPU run one step.

    Raises:
        RuntimeError: a GPU did not capture the step.
    """
    on_gpu = trained._device.device.type == "cuda"
    plan = trained._prepare_epoch()
    trained.network.train()
    rows = plan.rows[: cuda_graphs.WARM_UP + 1 if on_gpu else 1]
    for _ in trained._batches.feed(rows.unbind()):
        trained._repeat(trained._step)
    # Reading the sum waits for the device.
    float(trained._loss_sum)
    if on_gpu and not trained.is_captured:
        raise RuntimeError("the step was not captured")


class Warnings(logging.Handler):
    """Collects the warnings of trainables within its context."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.messages: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the first line of a message."""
        self.messages.append(record.getMessage().partition("\n")[0])

    def __enter__(self) -> Warnings:
        logging.getLogger("trainables").addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger("trainables").removeHandler(self)


class Repetition:
    """Repeats a step as a training does, often enough to capture and replay it.

    Args:
        device: device of the step.
    """

    def __init__(self, device: torch.device) -> None:
        self._repeat = cuda_graphs.GraphedStep(device, cuda_graphs.WORTH)

    def run(self, step: Callable[[], None]) -> None:
        """Warm up, capture, and replay twice."""
        for _ in range(cuda_graphs.WARM_UP + 2):
            self._repeat(step)

    @property
    def is_captured(self) -> bool:
        """Tell whether steps are replayed from a graph."""
        return self._repeat.is_captured
