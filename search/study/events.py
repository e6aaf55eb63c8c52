"""Who watches a search: what they are told, and what becomes of those that fail."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState

from search.study.records import Rejection
from spaces.border import BorderAnalysis
from spaces.candidate import Candidate
from spaces.costs import Costs


@dataclass(frozen=True)
class StartedTrial:
    """A candidate that passed the screens and is to be trained.

    Attributes:
        number: of the trial in the study.
        params: from which the space rebuilds the candidate.
        seed: of its training; the same for the same candidate in any search of that seed.
        candidate: architecture and recipe.
        costs: of the architecture.
        border: its receptive fields and border layer, by the rule of the screen.
    """

    number: int
    params: dict[str, Any]
    seed: int
    candidate: Candidate
    costs: Costs
    border: BorderAnalysis


class Observer:
    """Is told what happens; every method does nothing until overridden.

    Attributes:
        is_vital: the search must not go on without it; any other one may fail and be forgotten.
    """

    is_vital = False

    def rejected(self, number: int, rejection: Rejection) -> None:
        """A candidate was rejected."""

    def started(self, trial: StartedTrial) -> None:
        """A candidate was accepted and goes to training."""

    def reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """A trial has finished an epoch."""

    def paused(self, number: int) -> None:
        """A trial has been interrupted; a later driver takes it up again."""

    def finished(self, number: int, state: TrialState, cause: str) -> None:
        """A trial has ended.

        Args:
            number: of the trial.
            state: its verdict: COMPLETE, PRUNED (stopped early) or FAIL.
            cause: why it failed, or why it gave itself up; empty where the scheduler stopped it.
        """


class Observers:
    """Tells all observers of a search what happens.

    Args:
        observers: told in this order.
        then: calls what it is given once all that came before is safe in the study.
    """

    def __init__(
        self, observers: Sequence[Observer], then: Callable[[Callable[[], None]], None]
    ) -> None:
        self._observers = list(observers)
        self._then = then

    def notify(self, event: str, *arguments: Any) -> None:
        """Have a method of each observer called, in time."""
        self._then(lambda: self._tell(event, arguments))

    def _tell(self, event: str, arguments: Sequence[Any]) -> None:
        for observer in list(self._observers):
            try:
                getattr(observer, event)(*arguments)
            except BaseException as error:
                if observer.is_vital:
                    raise
                # Whoever watches a search must not end it: a closed pipe, a full disk.
                self._observers.remove(observer)
                line = f"{type(observer).__name__} has stopped: {type(error).__name__}: {error}"
                with suppress(OSError, ValueError):
                    print(f"search.py: {line}", file=sys.stderr)  # noqa: T201
