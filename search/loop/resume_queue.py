"""Holds interrupted trials until they are resumed."""

from __future__ import annotations

import math
from collections import deque

from optuna.trial import FrozenTrial, TrialState

from search.loop.running import RunningTrial
from search.study.events import Observer
from search.study.records import TrialAttributes, TrialRecord
from search.study.study import Study


class ResumeQueue:
    """Interrupted trials, in the order in which they are resumed.

    Args:
        study: holds the trials.
        observer: is told which trials are paused.
    """

    def __init__(self, study: Study, observer: Observer) -> None:
        self._study = study
        self._observer = observer
        self._trials: deque[FrozenTrial] = deque()

    def __len__(self) -> int:
        return len(self._trials)

    @property
    def device_seconds(self) -> float:
        """Device time of all trials in the queue; any thread may ask."""
        return math.fsum(TrialRecord.of(trial).device_seconds for trial in list(self._trials))

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that an earlier driver left unfinished."""
        self._trials.append(trial)

    def take(self) -> FrozenTrial:
        """Remove and return the next trial."""
        return self._trials.popleft()

    def pause(self, running: RunningTrial) -> None:
        """Pause a running trial so that a later driver can resume it."""
        number = running.trial.number
        self._study.pause(number, TrialAttributes(seconds=running.spent))
        self._trials.append(self._study.trial(number))
        self._observer.paused(number)

    def requeue(self, running: RunningTrial) -> None:
        """Have this driver resume a trial whose process is lost."""
        number = running.trial.number
        self._study.annotate(number, TrialAttributes(seconds=running.spent))
        self._trials.append(self._study.trial(number))

    def pause_remaining(self) -> None:
        """Pause the trials that a killed driver left RUNNING and this one has not resumed."""
        for trial in self._trials:
            if self._study.trial(trial.number).state is TrialState.RUNNING:
                self._study.pause(trial.number, TrialAttributes())
                self._observer.paused(trial.number)
