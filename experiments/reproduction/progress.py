"""Prints the progress of an experiment."""

from __future__ import annotations

import time
from collections.abc import Iterable

from experiments.reproduction.training import Job
from search.console import note
from search.formatting import duration

_ALL_IMAGES = 50_000
"""Number of training images of a case that uses all of a set; only ratios matter."""


class Progress:
    """Prints how many trainings are finished, and estimates the remaining time.

    The estimate weights trainings by the multiply-accumulates of their networks.

    Args:
        name: of the experiment.
        jobs: all its trainings.
        pending: those that are not finished.
    """

    def __init__(self, name: str, jobs: Iterable[Job], pending: Iterable[Job]) -> None:
        self._name = name
        waiting = list(pending)
        self._total = len(list(jobs))
        self._finished = self._total - len(waiting)
        self._left = sum(map(_cost, waiting))
        self._done_here = 0.0
        self._started = time.monotonic()
        note(f"{name}: {self._finished:,} of {self._total:,} trainings are finished")

    def advance(self, job: Job) -> None:
        """Print a line about a training that this run has finished."""
        self._done_here += _cost(job)
        self.skip(job)
        left = (time.monotonic() - self._started) / self._done_here * self._left
        note(
            f"{self._name}: {self._finished:,} of {self._total:,} trainings are finished "
            f"(last: {job.case.name}, seed {job.seed}), {duration(left)} left"
        )

    def skip(self, job: Job) -> None:
        """Count a training that another run has finished."""
        self._finished += 1
        self._left -= _cost(job)


def _cost(job: Job) -> float:
    case = job.case
    return case.candidate.costs.macs * case.epochs * (case.images.train or _ALL_IMAGES)
