"""Removes checkpoints that no trial needs any more."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from contextlib import suppress

from optuna.trial import FrozenTrial, TrialState

from cluster.storage import Store
from search.study.events import Observer


class CheckpointCleanup(Observer):
    """Removes the checkpoints of ended trials.

    Args:
        store: of all checkpoints; those of a trial are below its number.
        at_once: remove them as soon as a trial ends. Otherwise they stay until `remove_due`: a
            snapshot may still hold the trial as running, and a driver restored from it needs
            them.
    """

    def __init__(self, store: Store, *, at_once: bool = True) -> None:
        self._store = store
        self._at_once = at_once
        self._due: list[int] = []
        self._lock = threading.Lock()

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """Remove the checkpoints of a trial, or note that they are due."""
        with self._lock:
            self._due.append(number)
        if self._at_once:
            self.remove_due(self.due())

    def due(self) -> list[int]:
        """Return the ended trials whose checkpoints still exist."""
        with self._lock:
            return list(self._due)

    def remove_due(self, numbers: Sequence[int]) -> None:
        """Remove the checkpoints of ended trials.

        Raises:
            OSError: storage is unavailable; the remaining ones stay due.
        """
        for number in numbers:
            self._store.within(str(number)).clear()
            with self._lock:
                self._due.remove(number)

    def remove_ended(self, trials: Sequence[FrozenTrial]) -> None:
        """Remove checkpoints that a late process wrote or a killed driver left."""
        unfinished = {str(trial.number) for trial in trials if not trial.state.is_finished()}
        with suppress(OSError):
            for number in self._store.names():
                if number not in unfinished:
                    self._store.within(number).clear()


def move_checkpoints(old: Store, new: Store) -> None:
    """Move all checkpoints to another storage, from which trials continue.

    Raises:
        OSError: a storage is unavailable; checkpoints moved so far are in the new one.
    """
    for entry in old.entries():
        new.write(entry.name, old.read(entry.name))
        old.remove(entry.name)
