"""Prints the progress of many trainings."""

from __future__ import annotations

import time

from search.console import note
from search.formatting import duration


class Progress:
    """Prints how many trainings are finished, and estimates the remaining time.

    The estimate weights trainings by their work, in any unit.

    Args:
        name: of the experiment or table.
        total: number of all its trainings.
        finished: number of those that earlier runs finished.
        work: of the others together.
        every: seconds between two lines; 0 for one line per training.
    """

    def __init__(
        self, name: str, total: int, finished: int, work: float, every: float = 0.0
    ) -> None:
        self._name, self._total, self._finished = name, total, finished
        self._left, self._done_here = work, 0.0
        self._every = every
        self._started = self._printed = time.monotonic()
        note(f"{name}: {finished:,} of {total:,} trainings are finished")

    def advance(self, work: float, detail: str) -> None:
        """Count a training that this run has finished.

        Args:
            work: of the training.
            detail: for the line, such as the name of the training.
        """
        self._done_here += work
        self.skip(work)
        now = time.monotonic()
        if now - self._printed < self._every and self._finished < self._total:
            return
        self._printed = now
        left = (now - self._started) / self._done_here * self._left
        note(
            f"{self._name}: {self._finished:,} of {self._total:,} trainings are finished "
            f"({detail}), {duration(left)} left"
        )

    def skip(self, work: float) -> None:
        """Count a training that another run has finished."""
        self._finished += 1
        self._left -= work
