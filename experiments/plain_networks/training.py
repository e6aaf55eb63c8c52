"""Trains one network with one seed, in this process or in a pool of processes."""

from __future__ import annotations

import platform
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version

from experiments.plain_networks.networks import Drawn
from experiments.plain_networks.protocols import Protocol
from experiments.plain_networks.records import Measurement
from experiments.reproduction.workers import run_jobs
from trainables.data import Dataset
from trainables.training.loop import Training


@dataclass(frozen=True)
class Job:
    """One training: a network and a seed, which decides initial weights and order of images."""

    network: Drawn
    seed: int


def train_all(
    protocol: Protocol, source: str | None, jobs: Sequence[Job], workers: int
) -> Iterator[Measurement]:
    """Train networks, and yield each result when it is there.

    Args:
        protocol: of the table.
        source: of its images.
        jobs: the trainings.
        workers: number of processes, with one thread each; 1 trains in this process.
    """
    prepare = partial(_make_trainer, protocol, source)
    yield from run_jobs(prepare, jobs, max(1, min(workers, len(jobs))))


def _make_trainer(protocol: Protocol, source: str | None) -> Callable[[Job], Measurement]:
    return partial(train, protocol, protocol.load(source))


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
