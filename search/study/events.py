"""The events of a search and who observes them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from search.console import warn
from search.study.records import Rejection
from spaces.border import BorderAnalysis
from spaces.candidate import Candidate
from spaces.costs import Costs
from trainables.epoch_metrics import EpochMetrics


@dataclass(frozen=True)
class StartedTrial:
    """A candidate that passed the screens and starts training.

    Attributes:
        number: of the trial in the study.
        params: from which the space rebuilds the candidate.
        digest: of the candidate when it was drawn. A worker refuses to train another one.
        seed: of its training; the same for the same candidate in any search of that seed.
        candidate: architecture and recipe.
        costs: of the architecture.
        border: its receptive fields and border layer, by the rule of the screen.
    """

    number: int
    params: dict[str, Any]
    digest: str
    seed: int
    candidate: Candidate
    costs: Costs
    border: BorderAnalysis


class Observer:
    """Receives the events of a search; each method does nothing until overridden.

    Attributes:
        is_vital: an error of this observer ends the search; one of another observer only drops it.
    """

    is_vital = False

    def rejected(self, number: int, rejection: Rejection) -> None:
        """A candidate was rejected."""

    def started(self, trial: StartedTrial) -> None:
        """A trial started, or resumed, training."""

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """A trial finished an epoch."""

    def paused(self, number: int) -> None:
        """A trial was interrupted; a later driver can resume it."""

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """A trial ended.

        Args:
            number: of the trial.
            outcome: COMPLETE, PRUNED (stopped early) or FAIL.
            reason: why it failed or stopped itself; empty where the scheduler stopped it.
        """


class Observers(Observer):
    """Passes each event to several observers.

    Args:
        observers: receive each event in this order.
        then: calls its argument once everything written so far is safe in the study.
    """

    def __init__(
        self, observers: Sequence[Observer], then: Callable[[Callable[[], None]], None]
    ) -> None:
        self._observers = list(observers)
        self._then = then

    def rejected(self, number: int, rejection: Rejection) -> None:
        """Pass the event on."""
        self._pass_on(lambda observer: observer.rejected(number, rejection))

    def started(self, trial: StartedTrial) -> None:
        """Pass the event on."""
        self._pass_on(lambda observer: observer.started(trial))

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Pass the event on."""
        self._pass_on(lambda observer: observer.reported(number, metrics))

    def paused(self, number: int) -> None:
        """Pass the event on."""
        self._pass_on(lambda observer: observer.paused(number))

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """Pass the event on."""
        self._pass_on(lambda observer: observer.finished(number, outcome, reason))

    def _pass_on(self, event: Callable[[Observer], None]) -> None:
        self._then(lambda: self._call_each(event))

    def _call_each(self, event: Callable[[Observer], None]) -> None:
        for observer in list(self._observers):
            try:
                event(observer)
            except BaseException as error:
                if observer.is_vital:
                    raise
                # An observer must not end the search: its pipe may be closed, its disk full.
                self._observers.remove(observer)
                line = f"{type(observer).__name__} has stopped: {type(error).__name__}: {error}"
                warn(line)
