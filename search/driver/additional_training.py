"""Trains an additional finalist with each of its seeds, and shows how far the trainings are."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace

from cluster.folder_store import open_store
from search.backend.finalist_training import FinalistTraining, retrain_finalists
from search.backend.node_wait import NodeWait
from search.formatting import duration
from search.loop.packing import Packing
from search.study.additional import AdditionalFinalist, AdditionalStore
from search.study.finalists import write_results
from trainables.specs import FinalistResult, TrainingSpec

_EVERY = 10.0
"""Seconds between two lines about the progress."""


class EpochProgress:
    """Says from time to time how far the trainings of an additional finalist are.

    Args:
        epochs: of each training.
        remaining: number of trainings without a result.
        say: prints a line.
        every: seconds between two lines.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        epochs: int,
        remaining: int,
        say: Callable[[str], None],
        every: float = _EVERY,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._epochs = epochs
        self._total = epochs * remaining
        self._say = say
        self._every = every
        self._clock = clock
        self._last = clock()
        # A training that continues from a checkpoint did not train its first epochs now.
        self._first: tuple[float, int] | None = None

    def show(self, last: Mapping[int, tuple[int, float]]) -> None:
        """Print a line if one is due.

        Args:
            last: the last epoch of each seed and its validation accuracy.
        """
        now = self._clock()
        done = sum(epoch for epoch, _ in last.values())
        if done and self._first is None:
            self._first = (now, done)
        running = {seed: each for seed, each in last.items() if each[0] < self._epochs}
        if not running or now - self._last < self._every:
            return
        self._last = now
        parts = [
            f"seed {seed}: epoch {epoch} of {self._epochs}, validation {accuracy:.4f}"
            for seed, (epoch, accuracy) in sorted(running.items())
        ]
        self._say(f"  {'; '.join(parts)}{self._left(now, done)}")

    def _left(self, now: float, done: int) -> str:
        started, before = self._first or (now, done)
        if done <= before:
            return ""
        left = (now - started) / (done - before) * (self._total - done)
        return f"; about {duration(left)} left"


def train_additional(
    network: AdditionalFinalist,
    store: AdditionalStore,
    spec: TrainingSpec,
    packing: Packing,
    wait: NodeWait,
    say: Callable[[str], None],
    *,
    weights: Mapping[int, bytes] | None = None,
    stopped: Callable[[], bool] = lambda: False,
) -> dict[int, str]:
    """Train the seeds of an additional finalist that have no result yet.

    Args:
        network: how it is trained.
        store: receives the results.
        spec: of the trainings.
        packing: what each training requests from the cluster.
        wait: limits how long to wait for nodes.
        say: prints a line for people.
        weights: by seed, the content of the file of weights to start from; None for initial ones.
        stopped: asked every second whether to stop.

    Returns:
        Cause of each failure, by seed.

    Raises:
        NoNodesError: no node became available within the limit; results so far are stored.
        NodeDataError: the images on a node differ; results so far are stored.
    """
    done = {result.seed for result in store.results(network)}
    missing = [seed for seed in network.seeds if seed not in done]
    failed: dict[int, str] = {}

    def keep(result: FinalistResult) -> None:
        if finalist := store.finalist(network):
            write_results(store.path, [finalist])
        say(
            f"  {network.key} seed {result.seed}  validation {result.validation_accuracy:.4f}  "
            f"test {result.test_accuracy:.4f}"
        )

    def fail(training: FinalistTraining, cause: str) -> None:
        failed[training.seed] = cause
        say(f"  {network.key} seed {training.seed}  failed: {cause}")

    if missing:
        retrain_finalists(
            replace(spec, probes=()),
            [
                FinalistTraining(network, seed, weights=weights[seed] if weights else None)
                for seed in missing
            ],
            folder=store.path,
            packing=packing,
            wait=wait,
            on_result=keep,
            on_failure=fail,
            stopped=stopped,
            on_epochs=EpochProgress(spec.epochs, len(missing), say).show,
        )
    if spec.checkpoints is not None and not failed and not stopped():
        with suppress(OSError):
            open_store(spec.checkpoints).clear()
    return failed
