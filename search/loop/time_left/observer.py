"""Follows a search to predict its time left."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from copy import deepcopy
from dataclasses import replace

from optuna.trial import TrialState

from search.loop.candidates import attributes_of
from search.loop.time_left.estimate import TimeLeft, estimate
from search.loop.time_left.observed import FinalistsSeen, Observed, Training
from search.loop.time_left.plan import Plan
from search.study.events import Observer, StartedTrial
from search.study.records import TrialRecord, Workload
from spaces.candidate import Candidate
from trainables.epoch_metrics import EpochMetrics


def _now() -> float:
    return time.monotonic()


class SearchClock(Observer):
    """Follows the trainings of a search and predicts its time left.

    Args:
        plan: of the search.
        drawn: workloads of random candidates that the screens accept.
        seconds_before: that earlier drivers have spent of the budget of time.
        known: trials of earlier drivers.
        device_fraction: of a device that the training of a candidate occupies.
        baselines: workloads of the named networks that train after the finalists.
        clock: returns the seconds since some moment.
    """

    def __init__(
        self,
        plan: Plan,
        drawn: Sequence[Workload] = (),
        *,
        seconds_before: float = 0.0,
        known: Sequence[TrialRecord] = (),
        device_fraction: Callable[[Candidate], float] = lambda candidate: 1.0,
        baselines: Sequence[Workload] = (),
        clock: Callable[[], float] = _now,
    ) -> None:
        self._plan = plan
        self._drawn = drawn
        self._before = seconds_before
        self._device_fraction = device_fraction
        self._clock = clock
        self._began = clock()
        self._lock = threading.Lock()
        self._baselines = list(baselines)
        self._baseline_began: float | None = None
        self._trainings: dict[int, Training] = {}
        self._finalists: FinalistsSeen | None = None
        self._waiting: list[tuple[int, int]] = []
        self._trains_since: float | None = None
        self._first_begin: float | None = None
        self._startup = 0.0
        self._busy_until: float | None = None
        self._trained = 0.0
        """Seconds of the epochs that this driver has seen."""
        for record in known:
            if record.is_trained and record.workload is not None:
                self._trainings[record.number] = Training(
                    record.number,
                    record.workload,
                    record.device_fraction,
                    self._began,
                    record.epochs,
                    record.seconds if record.epochs else 0.0,
                    record.accuracy,
                    record.outcome.is_finished(),
                )

    @property
    def plan(self) -> Plan:
        """What the search trains."""
        return self._plan

    @property
    def has_finalists(self) -> bool:
        """Whether finalists train."""
        return self._finalists is not None

    def started(self, trial: StartedTrial) -> None:
        """Note the workload of the trial, and when it starts."""
        workload = Workload.of(attributes_of(trial.candidate))
        if workload is not None:
            self.begin(trial.number, workload, self._device_fraction(trial.candidate))

    def begin(self, number: int, workload: Workload, device_fraction: float = 1.0) -> None:
        """Note that a trial starts, or resumes."""
        with self._lock:
            now = self._clock()
            self._first_begin = now if self._first_begin is None else self._first_begin
            known = self._trainings.get(number)
            self._trainings[number] = (
                Training(number, workload, device_fraction, now)
                if known is None
                else replace(known, since=now, ended=False)
            )
            if len(self._trainings) >= self._plan.trials and self._busy_until is None:
                # From here on, workers run idle.
                self._busy_until = now

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Note an epoch."""
        with self._lock:
            training = self._trainings.get(number)
            if training is None or metrics.epoch <= training.epochs:
                return
            training.epochs = metrics.epoch
            training.seconds += metrics.epoch_seconds
            training.accuracy = metrics.validation_accuracy
            training.since = self._clock()
            if self._trains_since is None:
                # Before, workers started their processes, which then train many trials.
                self._trains_since = training.since - metrics.epoch_seconds
                first = self._began if self._first_begin is None else self._first_begin
                self._startup = max(0.0, self._trains_since - first)
            if self._busy_until is None:
                self._trained += metrics.epoch_seconds

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """Note the end of a trial."""
        with self._lock:
            if number in self._trainings:
                self._trainings[number].ended = True

    def plan_finalists(self, missing: Sequence[tuple[int, int]]) -> None:
        """Note the trainings of a round of finalists, as number and index of the seed."""
        with self._lock:
            if self._finalists is None:
                self._finalists = FinalistsSeen()
            for number, _ in missing:
                self._finalists.results.setdefault(number, {})
            self._waiting = list(missing)
            self._start_finalists()

    def finalist(
        self, number: int, index: int, validation: float | None, seconds: float | None = None
    ) -> None:
        """Note the result of a training of a finalist.

        Args:
            number: of the finalist.
            index: of the seed.
            validation: accuracy; None if the training failed.
            seconds: of the training; None likewise.
        """
        with self._lock:
            if self._finalists is None:
                self._finalists = FinalistsSeen()
            self._finalists.results.setdefault(number, {})[index] = validation
            if seconds is not None:
                self._finalists.seconds.setdefault(number, []).append(seconds)
            self._finalists.running.pop((number, index), None)
            self._waiting = [each for each in self._waiting if each != (number, index)]
            self._start_finalists()

    def begin_baseline(self) -> None:
        """Note that the trainings of the next baseline start."""
        with self._lock:
            self._baseline_began = self._clock()

    def end_baseline(self) -> None:
        """Note that the trainings of a baseline have ended."""
        with self._lock:
            self._baseline_began = None
            del self._baselines[:1]

    def _start_finalists(self) -> None:
        """Assume that the next trainings start on the free workers."""
        seen = self._finalists
        while seen and self._waiting and len(seen.running) < self._plan.workers:
            seen.running[self._waiting.pop(0)] = self._clock()

    def observed(self) -> Observed:
        """Return the search at this moment."""
        with self._lock:
            now = self._clock()
            return Observed(
                now,
                [replace(each) for each in self._trainings.values()],
                self._busy(now),
                self._before + now - self._began,
                self._startup,
                deepcopy(self._finalists),
                tuple(self._baselines),
                self._baseline_began,
            )

    def _busy(self, now: float) -> float | None:
        """Return how many trainings ran at a time, on average."""
        until = now if self._busy_until is None else self._busy_until
        if self._trains_since is None or until <= self._trains_since or not self._trained:
            return None
        unreported = 0.0
        if self._busy_until is None:
            for each in self._trainings.values():
                if not each.ended and each.epochs:
                    mean = each.seconds / each.epochs
                    unreported += min(mean, max(0.0, now - each.since))
        return (self._trained + unreported) / (until - self._trains_since)

    def left(self) -> TimeLeft | None:
        """Return the predicted time left; None before the first epoch."""
        return estimate(self._plan, self.observed(), self._drawn)
