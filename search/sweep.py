"""Removes the checkpoints of trials that are never continued."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from optuna.trial import FrozenTrial, TrialState

from search.observer import Observer


class CheckpointSweep(Observer):
    """Removes the checkpoints of each trial when it has ended.

    Args:
        folder: of all checkpoints, one folder for each trial by its number.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def finished(self, number: int, state: TrialState, cause: str) -> None:
        """Remove those of one trial."""
        shutil.rmtree(self._folder / str(number), ignore_errors=True)

    def remove_ended(self, trials: Sequence[FrozenTrial]) -> None:
        """Remove what a process has written late, or a driver that was killed has left."""
        going_on = {str(trial.number) for trial in trials if not trial.state.is_finished()}
        for path in self._folder.glob("*"):
            if path.name not in going_on:
                shutil.rmtree(path, ignore_errors=True)
