"""Trains one network with one seed, in this process or in a pool of processes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

from experiments.plain_networks.networks import Drawn
from experiments.plain_networks.protocols import Protocol
from experiments.plain_networks.records import Measurement
from experiments.plain_networks.twins import twin
from experiments.reproduction.measuring import rounded, versions
from experiments.reproduction.workers import run_jobs
from spaces.candidate import Candidate
from trainables.data import Dataset
from trainables.training.loop import Training


@dataclass(frozen=True)
class Job:
    """One training.

    Attributes:
        network: in the order of the draws.
        seed: decides initial weights and order of images.
        twin: train the network itself (None), or its truncated twin with the border layer (True) or
            without it (False).
    """

    network: Drawn
    seed: int
    twin: bool | None = None

    def candidate(self, protocol: Protocol) -> Candidate:
        """Return the network to train."""
        network = protocol.space().rebuild(self.network.params, self.network.digest)
        return network if self.twin is None else twin(network, keep_border=self.twin)


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
    candidate = job.candidate(protocol)
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
        number=job.network.number,
        seed=job.seed,
        digest=candidate.digest,
        params=job.network.params,
        accuracy=rounded(right / (protocol.validation + protocol.test)),
        validation_accuracy=rounded(last.validation_accuracy),
        test_accuracy=rounded(test_accuracy),
        test_loss=rounded(test_loss),
        train_accuracy=rounded(last.train_accuracy),
        validation_accuracies=tuple(rounded(epoch.validation_accuracy) for epoch in epochs),
        validation_losses=tuple(rounded(epoch.validation_loss) for epoch in epochs),
        train_losses=tuple(rounded(epoch.train_loss) for epoch in epochs),
        cpu_seconds=round(seconds, 2),
        versions=versions(),
    )
