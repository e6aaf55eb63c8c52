"""Trains one network with one seed, in this process or in a pool of processes."""

from __future__ import annotations

import os
import platform
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from importlib.metadata import version
from multiprocessing import get_context, parent_process
from multiprocessing.connection import wait

from experiments.plain_networks.networks import Drawn
from experiments.plain_networks.protocols import Protocol
from experiments.plain_networks.records import Measurement
from trainables.data import Dataset
from trainables.training.loop import Training
from trainables.training.process import prepare_process


@dataclass(frozen=True)
class Job:
    """One training: a network and a seed, which decides initial weights and order of images."""

    network: Drawn
    seed: int


def train_all(
    protocol: Protocol, dataset: Dataset, source: str | None, jobs: Sequence[Job], workers: int
) -> Iterator[Measurement]:
    """Train networks, and yield each result when it is there.

    Args:
        protocol: of the table.
        dataset: the images, as `Protocol.load` returns them.
        source: from which worker processes load the same images.
        jobs: the trainings.
        workers: number of processes, with one thread each; 1 trains in this process.
    """
    if workers == 1 or not jobs:
        prepare_process(threads=1)
        for job in jobs:
            yield train(protocol, dataset, job)
        return
    pool = ProcessPoolExecutor(
        min(workers, len(jobs)), get_context("spawn"), _prepare, (protocol, source)
    )
    try:
        for future in as_completed([pool.submit(_train_here, job) for job in jobs]):
            yield future.result()
    finally:
        pool.shutdown(cancel_futures=True)


def train(protocol: Protocol, dataset: Dataset, job: Job) -> Measurement:
    """Train one network and score it."""
    network = job.network
    candidate = protocol.space().rebuild(network.params, network.digest)
    started = time.process_time()
    training = Training(
        candidate,
        dataset,
        epochs=protocol.epochs,
        seed=job.seed,
        augmentation=protocol.augmentation,
        device="cpu",
    )
    epochs = [training.run_epoch() for _ in range(protocol.epochs)]
    test_loss, test_accuracy = training.score("test")
    seconds = time.process_time() - started
    last = epochs[-1]
    right = last.validation_accuracy * protocol.validation + test_accuracy * protocol.test
    return Measurement(
        number=network.number,
        seed=job.seed,
        digest=network.digest,
        params=network.params,
        accuracy=_rounded(right / (protocol.validation + protocol.test)),
        validation_accuracy=_rounded(last.validation_accuracy),
        test_accuracy=_rounded(test_accuracy),
        test_loss=_rounded(test_loss),
        train_accuracy=_rounded(last.train_accuracy),
        validation_accuracies=tuple(_rounded(epoch.validation_accuracy) for epoch in epochs),
        validation_losses=tuple(_rounded(epoch.validation_loss) for epoch in epochs),
        train_losses=tuple(_rounded(epoch.train_loss) for epoch in epochs),
        cpu_seconds=round(seconds, 2),
        versions=f"python {platform.python_version()}, torch {version('torch')}",
    )


def _rounded(value: float) -> float:
    return round(value, 4)


_worker: tuple[Protocol, Dataset]


def _prepare(protocol: Protocol, source: str | None) -> None:
    """Set up a worker process."""
    global _worker  # noqa: PLW0603 - the initialiser of a pool returns nothing
    threading.Thread(target=_end_with_parent, daemon=True).start()
    prepare_process(threads=1)
    _worker = (protocol, protocol.load(source))


def _end_with_parent() -> None:
    """End this process when its parent is killed; the pool's queue would block forever."""
    parent = parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)


def _train_here(job: Job) -> Measurement:
    return train(*_worker, job)
