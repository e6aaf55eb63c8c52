"""Draws candidates, judges them and keeps the study: the search itself, free of Ray."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from enum import Enum, auto
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from search.experiment.objectives import cost_values
from search.loop.asha import Asha
from search.loop.budget import Budget
from search.loop.running import RunningTrial
from search.loop.screens import Screen, judge, reject_invalid
from search.study.events import Observer, Observers, StartedTrial
from search.study.records import Rejection, TrialAttributes, TrialRecord, told_constraints
from search.study.study import Study
from spaces.architecture import CollapsedLayerError
from spaces.border import Rule, find_border
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import InvalidCandidateError

OBJECTIVE = "validation_accuracy"

EXPLORE_AFTER = 20
"""After so many rejections in a row draws are random, until one is accepted."""
GIVE_UP_AFTER = 2000
"""After so many rejections in a row the space counts as exhausted."""
HOPELESS_AFTER = 5
"""If the first so many trials fail, what they have in common is at fault."""
KEEP_EVERY = 60.0
"""Seconds of training after which the study is told how long a trial has taken: should its driver
be killed, the next one counts them for the budget before it comes to that trial."""
TIME_SLICE = 0.5
"""Seconds after which ``next`` returns without a candidate: results must not wait for it."""


class Decision(Enum):
    """What is to become of a running trial."""

    CONTINUE = auto()
    STOP = auto()
    """It is hopeless, and ends here."""
    PAUSE = auto()
    """The search stops; the trial is taken up again when the search is."""


class Trials:
    """Draws, judges and records the trials of one search.

    Args:
        study: where all of it is kept.
        space: what is drawn from.
        screens: what is rejected.
        budget: says when the search ends.
        epochs: length of a whole training.
        asha: stops hopeless trials early; None trains all of them to the end.
        seed: of the search.
        duplicates: whether a candidate that was drawn before is rejected.
        rule: finds the border layer that is recorded with every trial, screened or not.
        device_fraction: of a device that a candidate's trial has, for the count of device-hours.
        observers: told of everything, in this order.
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
        observers: Sequence[Observer] = (),
    ) -> None:
        self.study = study
        self.exhausted = False
        self.hopeless = ""
        """Why the search cannot succeed: its first trials all failed, the last of them for this."""
        self.stopping = ""
        """Why the search lets the running epochs end and goes no further, if it does."""
        self._space = space
        self._screens = screens
        self._budget = budget
        self._epochs = epochs
        self._asha = asha
        self._seed = seed
        self._duplicates = duplicates
        self._rule = rule
        self._device_fraction = device_fraction
        self._observers = Observers(observers, study.then)
        self._started = 0
        self._ended_seconds = 0.0
        """Device seconds of the trials that have ended."""
        self._rejected_in_a_row = 0
        self._failed_from_start: int | None = 0
        """Trials failed so far, None once one has not."""
        self._running: dict[int, RunningTrial] = {}
        self._interrupted: deque[FrozenTrial] = deque()
        self._drawn: dict[str, int] = {}
        """Number of the trial that trains, or trained, the candidate with this digest."""
        for trial in study.trials():
            self._restore(trial)

    def _restore(self, trial: FrozenTrial) -> None:
        """Take over what an earlier driver has left of a trial."""
        record = TrialRecord.of(trial)
        if not record.is_trained:
            return
        self._started += 1
        if self._asha is not None:
            for epoch, value in trial.intermediate_values.items():
                self._asha.report(trial.number, epoch, value)
        if record.outcome is TrialState.RUNNING:
            self._interrupted.append(trial)
            return
        self._ended_seconds += record.device_seconds
        if record.outcome is not TrialState.FAIL or record.is_infeasible:
            self._drawn.setdefault(record.digest, trial.number)
        if record.outcome is not TrialState.FAIL:
            self._failed_from_start = None

    @property
    def device_seconds(self) -> float:
        """Seconds of devices that all trials together have taken, those of earlier drivers too.

        Asked by the thread, too, that tells observers: trials come and go meanwhile.
        """
        running = [each.device_seconds for each in list(self._running.values())]
        waiting = [TrialRecord.of(each).device_seconds for each in list(self._interrupted)]
        return self._ended_seconds + math.fsum(running) + math.fsum(waiting)

    @property
    def is_stopping(self) -> bool:
        """Tell whether the search lets the running epochs end and leaves the rest for later."""
        return bool(self.stopping or self.hopeless)

    @property
    def is_finished(self) -> bool:
        """Tell whether no further trial will be started."""
        if self.is_stopping:
            return True
        if self._interrupted:
            return False
        return self.exhausted or self._started >= self._budget.trials

    @property
    def has_unfinished(self) -> bool:
        """Tell whether trials are left that were begun and have not ended."""
        return bool(self._running or self._interrupted)

    def stop(self, cause: str) -> None:
        """Go no further than to the end of the running epochs."""
        self.stopping = self.stopping or cause

    def check_budget(self) -> None:
        """Stop where time or money is spent."""
        spent = self._budget.spent(self.device_seconds)
        if spent:
            self.stop(spent)

    def pause_all(self) -> None:
        """Set aside what runs: nothing is left running, and all of it can be taken up again.

        So is what an earlier driver, which was killed, has left running and this one has not come
        to.
        """
        for trial in self._interrupted:
            if self.study.trial(trial.number).state is TrialState.RUNNING:
                self.study.pause(trial.number, TrialAttributes())
                self._observers.paused(trial.number)
        for number in list(self._running):
            self.pause(number)

    def pause(self, number: int) -> None:
        """Keep a running trial for a later driver, as far as it is."""
        running = self._running.pop(number)
        self.study.pause(number, TrialAttributes(seconds=running.spent))
        self._interrupted.append(self.study.trial(number))
        self._observers.paused(number)

    def requeue(self, number: int) -> None:
        """Have a running trial handed out once more: its process is gone."""
        running = self._running.pop(number)
        self.study.annotate(number, TrialAttributes(seconds=running.spent))
        self._interrupted.append(self.study.trial(number))

    def next(self) -> StartedTrial | None:
        """Draw candidates until one passes the screens, and start it.

        Returns:
            The trial; None if none was found in this time slice (ask again) or the search has
            come to its end (see ``is_finished``).

        Raises:
            BadInputError: the space function failed.
        """
        self.check_budget()
        until = time.monotonic() + TIME_SLICE
        while not self.is_finished:
            if self._interrupted:
                return self._resume(self._interrupted.popleft())
            trial = self.study.ask(explore=self._rejected_in_a_row >= EXPLORE_AFTER)
            started = self._judge(trial)
            if started is not None:
                return started
            if self._rejected_in_a_row >= GIVE_UP_AFTER:
                self.exhausted = True
            if time.monotonic() >= until:
                break
        return None

    def _resume(self, trial: FrozenTrial) -> StartedTrial:
        """Go on with a trial that an earlier driver has begun."""
        started = self.rebuild(trial)
        record = TrialRecord.of(trial)
        running = RunningTrial(started, record.device_fraction)
        running.stored = frozenset(trial.intermediate_values)
        running.seconds_kept = record.seconds
        self._running[trial.number] = running
        self._drawn.setdefault(started.candidate.digest, trial.number)
        self.study.resume(trial.number)
        self._observers.started(started)
        return started

    def rebuild(self, trial: FrozenTrial) -> StartedTrial:
        """Return what was told of a trial when it was started."""
        params = dict(trial.params)
        return self._describe(trial.number, params, self._space.rebuild(params))

    def _describe(self, number: int, params: dict[str, Any], candidate: Candidate) -> StartedTrial:
        return StartedTrial(
            number=number,
            params=params,
            # The digest decides, so a candidate trains alike in every search with this seed.
            seed=(int(candidate.digest[:8], 16) ^ self._seed) & 0x7FFFFFFF,
            candidate=candidate,
            costs=candidate.costs,
            border=find_border(candidate.architecture, self._rule),
        )

    def _judge(self, trial: optuna.Trial) -> StartedTrial | None:
        """Reject or start a freshly drawn trial."""
        try:
            candidate = self._space.draw(trial)
        except InvalidCandidateError as error:
            self._reject(trial, reject_invalid(error), TrialAttributes())
            return None
        self._space.check_output(candidate)
        rejection = judge(candidate, self._screens)
        if rejection is not None:
            self._reject(trial, rejection, _attributes(candidate))
        elif self._duplicates and candidate.digest in self._drawn:
            self._reject_duplicate(trial, self._drawn[candidate.digest])
        else:
            self._rejected_in_a_row = 0
            return self._start(trial, candidate)
        return None

    def _reject(
        self, trial: optuna.Trial, rejection: Rejection, attributes: TrialAttributes
    ) -> None:
        self.study.reject(
            trial,
            rejection.reason,
            rejection.violation,
            TrialAttributes(**attributes, detail=rejection.detail),
        )
        self._count_rejection(trial.number, rejection)

    def _count_rejection(self, number: int, rejection: Rejection) -> None:
        self._rejected_in_a_row += 1
        self._observers.rejected(number, rejection)

    def _reject_duplicate(self, trial: optuna.Trial, original: int) -> None:
        """Give a duplicate the verdict of its original instead of training it again.

        Told as infeasible, a duplicate of a good candidate would drive the sampler away from it.
        While the original is still training the duplicate fails, which samplers ignore.
        """
        rejection = Rejection("duplicate", 1.0, f"the same as trial {original}")
        known = self.study.trial(original)
        attributes = TrialAttributes(
            rejected=rejection.reason, detail=rejection.detail, duplicate_of=original
        )
        if known.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self.study.close(
                trial,
                known.state,
                attributes,
                values=known.values,
                intermediate=known.intermediate_values,
                constraints=known.constraints,
            )
        else:
            self.study.close(trial, TrialState.FAIL, attributes)
        self._count_rejection(trial.number, rejection)

    def _start(self, trial: optuna.Trial, candidate: Candidate) -> StartedTrial:
        started = self._describe(trial.number, dict(trial.params), candidate)
        device_fraction = self._device_fraction(candidate)
        attributes = TrialAttributes(
            **_attributes(candidate), beyond=started.border.beyond, share=device_fraction
        )
        self.study.start(trial, attributes)
        self._started += 1
        self._running[trial.number] = RunningTrial(started, device_fraction)
        self._drawn.setdefault(candidate.digest, trial.number)
        self._observers.started(started)
        return started

    def report(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Record what an epoch of a running trial gave; a repeated or late one is ignored."""
        running = self._running[number]
        if epoch <= running.epoch:
            return
        running.history[epoch] = dict(metrics)
        if epoch not in running.stored:
            # The accuracy of a network whose loss is no number is that of a guess, not a result.
            losses = [value for name, value in metrics.items() if name.endswith("_loss")]
            objective = metrics[OBJECTIVE] if all(map(math.isfinite, losses)) else math.nan
            self.study.report(number, epoch, objective)
            if self._asha is not None:
                self._asha.report(number, epoch, objective)
        if running.seconds - running.seconds_kept >= KEEP_EVERY:
            running.seconds_kept = running.seconds
            self.study.annotate(number, TrialAttributes(seconds=running.seconds))
        self._observers.reported(number, epoch, running.history[epoch])

    def decide(self, number: int) -> Decision:
        """Tell what is to become of a running trial after the epoch that it reported last."""
        running = self._running[number]
        if running.epoch >= self._epochs:
            return Decision.CONTINUE
        # Those from a checkpoint, too, unless an earlier driver has decided on them.
        new = running.history.keys() - running.stored
        if self._asha is not None and any(self._asha.should_stop(number, each) for each in new):
            return Decision.STOP
        self.check_budget()
        return Decision.PAUSE if self.is_stopping else Decision.CONTINUE

    def finish(
        self, number: int, cause: str = "", *, violation: float = 0.0, stopped: str = ""
    ) -> None:
        """End a running trial.

        Complete after its last epoch, else stopped early; failed if it has a cause, or if its
        last value is no number.

        Args:
            number: of the trial.
            cause: why it failed.
            violation: over 0 where it failed for want of memory: by how much, relative to what
                there was. Such a candidate is infeasible, and not tried again.
            stopped: why it gave itself up.
        """
        running = self._running.pop(number)
        self._ended_seconds += running.device_seconds
        costs, missing = self._costs(running)
        cause = cause or missing
        state = TrialState.COMPLETE if running.epoch >= self._epochs else TrialState.PRUNED
        attributes = running.attributes
        if cause:
            state = TrialState.FAIL
            attributes["cause"] = cause
        elif stopped and state is TrialState.PRUNED:
            attributes["stopped"] = stopped
        constraints = told_constraints(
            state, objectives=len(self.study.objectives), violation=violation, stopped=stopped
        )
        self.study.finish(number, state, attributes, costs=costs, constraints=constraints)
        ended = TrialRecord.of(self.study.trial(number))
        if "memory" not in constraints:
            self._count_failures(ended.outcome, cause)
        if ended.outcome is TrialState.FAIL and not constraints:
            # What failed otherwise may be drawn and tried again.
            self._drawn.pop(running.trial.candidate.digest, None)
        self._observers.finished(number, ended.outcome, ended.reason)

    def _costs(self, running: RunningTrial) -> tuple[list[float], str]:
        """Return the values of the objectives beyond accuracy, and what is wrong with them."""
        try:
            return cost_values(self.study.objectives, running.trial.costs, running.metrics), ""
        except KeyError as error:
            return [], f"the trial did not report {error.args[0]}" if running.epoch else ""

    def _count_failures(self, state: TrialState, cause: str) -> None:
        """Give up if nothing but failures came; a loss that diverged is the candidate's fault."""
        if state is not TrialState.FAIL:
            self._failed_from_start = None
        elif cause and self._failed_from_start is not None:
            self._failed_from_start += 1
            if self._failed_from_start >= HOPELESS_AFTER:
                self.hopeless = cause


def _attributes(candidate: Candidate) -> TrialAttributes:
    """Return what the study stores of a candidate beside its parameters."""
    attributes = TrialAttributes(digest=candidate.digest)
    with suppress(CollapsedLayerError):
        costs = candidate.costs
        attributes["params"], attributes["macs"] = costs.params, costs.macs
    return attributes
