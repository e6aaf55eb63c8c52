"""Removes the checkpoints of trials that are never continued."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from optuna.trial import FrozenTrial, TrialState

from cluster.storage import Store
from search.study.events import Observer


class CheckpointCleanup(Observer):
    """Removes the checkpoints of each trial when it has ended.

    Args:
        store: of all checkpoints, below the number of each trial.
        at_once: remove them as soon as a trial has ended. Else they stay until `remove_due`: a
            driver that is restored from a snapshot must not find a trial that had not ended then,
            and whose checkpoints are gone since.
    """

    def __init__(self, store: Store, *, at_once: bool = True) -> None:
        self._store = store
        self._at_once = at_once
        self._due: list[int] = []
        self._lock = threading.Lock()

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """Remove those of one trial, or note it."""
        with self._lock:
            self._due.append(number)
        if self._at_once:
            self.remove_due(self.due())

    def due(self) -> list[int]:
        """Return the trials that have ended and whose checkpoints are still there."""
        with self._lock:
            return list(self._due)

    def remove_due(self, numbers: Sequence[int]) -> None:
        """Remove the checkpoints of trials that were due.

        Raises:
            OSError: the storage is away; what is left stays due.
        """
        for number in numbers:
            self._store.within(str(number)).clear()
            with self._lock:
                self._due.remove(number)

    def remove_ended(self, trials: Sequence[FrozenTrial]) -> None:
        """Remove what a process has written late, or a driver that was killed has left."""
        going_on = {str(trial.number) for trial in trials if not trial.state.is_finished()}
        with suppress(OSError):
            for number in self._store.names():
                if number not in going_on:
                    self._store.within(number).clear()


def move_checkpoints(old: Store, new: Store) -> None:
    """Move all checkpoints to another place, from which trials go on.

    Raises:
        OSError: one of the places is away; what was moved is where it was moved to.
    """
    for entry in old.entries():
        new.write(entry.name, old.read(entry.name))
        old.remove(entry.name)
