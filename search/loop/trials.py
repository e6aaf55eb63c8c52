"""Runs the trials of a search, free of Ray: starts them, records their epochs, ends them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Sequence
from enum import Enum, auto

from optuna.trial import FrozenTrial, TrialState

from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.candidates import AcceptedTrial, Candidates, attributes_of
from search.loop.duplicates import Duplicates
from search.loop.failure_policy import FailurePolicy
from search.loop.resume_queue import ResumeQueue
from search.loop.running import RunningTrial
from search.loop.screens import Screen
from search.study.events import Observer, Observers, StartedTrial
from search.study.records import TrialAttributes, TrialRecord
from search.study.savings import RejectionTimes
from search.study.study import Study
from spaces.border import Rule
from spaces.candidate import Candidate, CandidateSpace
from trainables.epoch_metrics import EpochMetrics

STORE_EVERY = 60.0
"""Seconds of training after which the study is told how long a trial has taken.

If the driver is killed, the next one counts them for the budget before it resumes that trial.
"""
AGREEING = 3
"""Estimates in a row that must be below ``budget.until``: a single one may err.

Each knows the result of at least one more trial than the last.
"""
TIME_SLICE = 0.5
"""Seconds after which ``next`` returns without a candidate: results must not wait for it."""


class Decision(Enum):
    """What a running trial does after an epoch."""

    CONTINUE = auto()
    STOP = auto()
    """It ends here: it is worse than the others at this rung."""
    PAUSE = auto()
    """The search stops; the trial continues when the search is resumed."""


class Trials:
    """The trials of one search.

    Args:
        study: stores everything.
        space: to draw candidates from.
        screens: that reject candidates.
        budget: says when the search ends.
        epochs: length of a whole training.
        asha: stops unpromising trials early; None trains all of them to the end.
        seed: of the search.
        duplicates: whether a candidate that was drawn before is rejected.
        rule: finds the border layer that is recorded with every trial, screened or not.
        device_fraction: of a device that a candidate's trial occupies, to count device-hours.
        prospect: returns the improvement that the sampler expects of the next trials, if known.
        observers: receive all events, in this order.

    Raises:
        BadInputError: the space draws another network than an earlier trial trained.

    Attributes:
        study: as given.
        stopping: why the search ends after the running epochs; empty while it continues.
    """

    def __init__(
        self,
        study: Study,
        space: CandidateSpace,
        screens: Sequence[Screen],
        *,
        budget: Budget,
        epochs: int,
        asha: Asha | None = None,
        seed: int = 0,
        duplicates: bool = True,
        rule: Rule = Rule.PREVIOUS_CONV,
        device_fraction: Callable[[Candidate], float] = lambda candidate: 1.0,
        prospect: Callable[[], float | None] = lambda: None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self.study = study
        self.stopping = ""
        self._budget = budget
        self._epochs = epochs
        self._asha = asha
        self._device_fraction = device_fraction
        self._prospect = prospect
        self._prospects: deque[float] = deque(maxlen=AGREEING)
        """The latest estimates of the improvement by further trials."""
        self._has_learned = True
        """Whether a trial has ended since the latest estimate."""
        self._observers = Observers(observers, study.then)
        self._failures = FailurePolicy()
        self._duplicates = Duplicates(study)
        self._times = RejectionTimes()
        self._queue = ResumeQueue(study, self._observers)
        self._candidates = Candidates(
            study,
            space,
            screens,
            self._duplicates if duplicates else None,
            self._times,
            self._observers,
            seed=seed,
            rule=rule,
        )
        self._started = 0
        self._ended_seconds = 0.0
        """Device time of the trials that have ended."""
        self._running: dict[int, RunningTrial] = {}
        for trial in study.trials():
            self._restore(trial)

    def _restore(self, trial: FrozenTrial) -> None:
        """Take over a trial of an earlier driver."""
        record = TrialRecord.of(trial)
        if not record.is_trained:
            return
        self._started += 1
        if record.prospect is not None:
            self._prospects.append(record.prospect)
        if self._asha is not None:
            for epoch, value in trial.intermediate_values.items():
                self._asha.report(trial.number, epoch, value)
        if not record.outcome.is_finished():
            self._queue.add(trial)
            return
        if record.outcome is not TrialState.FAIL:
            # An edited space would show another network beside the accuracy of this trial.
            self._candidates.check_result(trial)
        self._ended_seconds += record.device_seconds
        self._duplicates.ended(record)
        self._times.ended(record)
        self._failures.restore(record)

    @property
    def device_seconds(self) -> float:
        """Device time of all trials, including those of earlier drivers; any thread may ask."""
        running = [each.device_seconds for each in list(self._running.values())]
        return self._ended_seconds + math.fsum(running) + self._queue.device_seconds

    @property
    def exhausted(self) -> bool:
        """Tell whether the space seems to hold no further acceptable candidate."""
        return self._candidates.exhausted

    @property
    def prospect(self) -> float | None:
        """By how much the next trials are expected to improve the best accuracy, if known."""
        return self._prospects[-1] if self._prospects else None

    @property
    def converged(self) -> bool:
        """Tell whether further trials are expected to improve too little."""
        enough = len(self._prospects) == AGREEING
        return enough and max(self._prospects) < self._budget.least_improvement

    @property
    def hopeless(self) -> str:
        """Cause of the last failure, once the search cannot succeed; else empty."""
        return self._failures.hopeless

    @property
    def is_stopping(self) -> bool:
        """Tell whether the search ends after the running epochs, and pauses their trials."""
        return bool(self.stopping or self.hopeless)

    @property
    def is_finished(self) -> bool:
        """Tell whether no further trial will be started."""
        if self.is_stopping:
            return True
        if self._queue:
            return False
        return self.exhausted or self.converged or self._started >= self._budget.trials

    @property
    def has_unfinished(self) -> bool:
        """Tell whether a started trial has not ended."""
        return bool(self._running or self._queue)

    def stop(self, cause: str) -> None:
        """End the search after the running epochs."""
        self.stopping = self.stopping or cause

    def check_budget(self) -> None:
        """End the search where time or money is spent."""
        # The sum over hundreds of running trials takes long beside one epoch of a small network.
        spent = self._budget.spent(self.device_seconds if self._budget.limits_devices else 0.0)
        if spent:
            self.stop(spent)

    def next(self) -> StartedTrial | None:
        """Resume an interrupted trial, or draw candidates until one is accepted, and start it.

        Returns:
            The trial; None if none was found in this time slice (ask again) or the search has
            ended (see ``is_finished``).

        Raises:
            BadInputError: the space function failed.
        """
        self.check_budget()
        until = time.monotonic() + TIME_SLICE
        while not self.is_finished:
            if self._queue:
                return self._resume(self._queue.take())
            accepted = self._candidates.draw()
            if accepted is not None:
                return self._start(accepted)
            if time.monotonic() >= until:
                break
        return None

    def _resume(self, trial: FrozenTrial) -> StartedTrial:
        started = self.rebuild(trial)
        record = TrialRecord.of(trial)
        self._running[trial.number] = RunningTrial(
            started,
            record.device_fraction,
            stored=frozenset(trial.intermediate_values),
            seconds_stored=record.seconds,
        )
        self._duplicates.add(started.candidate.digest, trial.number)
        self.study.resume(trial.number)
        self._observers.started(started)
        return started

    def _start(self, accepted: AcceptedTrial) -> StartedTrial:
        started = accepted.started
        device_fraction = self._device_fraction(started.candidate)
        attributes = TrialAttributes(
            **attributes_of(started.candidate), beyond=started.border.beyond, share=device_fraction
        )
        prospect = self._prospect()
        # Estimates for several workers at a time know the same results, and agree for this reason.
        if prospect is not None and self._has_learned:
            attributes["prospect"] = prospect
            self._prospects.append(prospect)
            self._has_learned = False
        self.study.start(accepted.drawn, attributes)
        self._started += 1
        self._running[started.number] = RunningTrial(started, device_fraction)
        self._duplicates.add(started.candidate.digest, started.number)
        self._observers.started(started)
        return started

    def rebuild(self, trial: FrozenTrial) -> StartedTrial:
        """Return the description with which a trial was started."""
        return self._candidates.rebuild(trial)

    def report(self, number: int, metrics: EpochMetrics) -> None:
        """Record an epoch of a running trial; a repeated or late one is ignored."""
        running = self._running[number]
        if metrics.epoch <= running.epoch:
            return
        running.history[metrics.epoch] = metrics
        if metrics.epoch not in running.stored:
            self.study.report(number, metrics.epoch, metrics.objective)
            if self._asha is not None:
                self._asha.report(number, metrics.epoch, metrics.objective)
        if running.seconds - running.seconds_stored >= STORE_EVERY:
            running.seconds_stored = running.seconds
            self.study.annotate(number, TrialAttributes(seconds=running.seconds))
        self._observers.reported(number, metrics)

    def decide(self, number: int) -> Decision:
        """Decide what a running trial does after the epoch that it reported last."""
        running = self._running[number]
        if running.epoch >= self._epochs:
            return Decision.CONTINUE
        # Includes epochs from a checkpoint, unless an earlier driver has decided on them.
        new = running.history.keys() - running.stored
        if self._asha is not None and any(self._asha.should_stop(number, each) for each in new):
            return Decision.STOP
        self.check_budget()
        return Decision.PAUSE if self.is_stopping else Decision.CONTINUE

    def pause(self, number: int) -> None:
        """Pause a running trial so that a later driver can resume it."""
        self._queue.pause(self._running.pop(number))

    def requeue(self, number: int) -> None:
        """Have ``next`` resume a running trial whose process is lost."""
        self._queue.requeue(self._running.pop(number))

    def pause_all(self) -> None:
        """Pause every running trial so that a later driver can resume it.

        Includes trials that a killed driver left RUNNING and that this driver has not resumed yet.
        """
        self._queue.pause_remaining()
        for number in list(self._running):
            self.pause(number)

    def finish(
        self, number: int, cause: str = "", *, violation: float = 0.0, stopped: str = ""
    ) -> None:
        """End a running trial.

        It is complete after its last epoch, pruned before. It fails if there is a cause, or if its
        last accuracy or loss is no number.

        Args:
            number: of the trial.
            cause: why it failed.
            violation: over 0 if it ran out of memory: the excess relative to the limit. Such a
                candidate is infeasible and not tried again.
            stopped: why it stopped itself early.
        """
        running = self._running.pop(number)
        self._ended_seconds += running.device_seconds
        ending = running.end(
            self._epochs, self.study.objectives, cause, violation=violation, stopped=stopped
        )
        self.study.finish(
            number,
            ending.outcome,
            ending.attributes,
            costs=ending.costs,
            constraints=ending.constraints,
        )
        record = TrialRecord.of(self.study.trial(number))
        self._has_learned |= record.outcome is not TrialState.FAIL
        self._failures.ended(record)
        self._duplicates.ended(record)
        self._times.ended(record)
        self._observers.finished(number, record.outcome, record.reason)
