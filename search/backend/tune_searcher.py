"""Connects Ray Tune with the study: hands out trials and records their reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from ray.tune.search import Searcher

from search.loop.trials import Decision, Trials
from search.private_apis import searcher_state
from search.study.events import StartedTrial
from spaces.candidate import Candidate
from spaces.errors import BadInputError
from trainables.epoch_metrics import (
    FAILURE,
    HISTORY,
    NODE_DATA,
    OBJECTIVE,
    STOPPED,
    UNSAVED,
    VIOLATION,
    EpochMetrics,
)

_ADVICE = " Some common causes include"
"""Text with which Ray continues after the cause of a dead process."""


class StudySearcher(Searcher):
    """Hands the trials of a study to Ray Tune and records what they report.

    Args:
        trials: the search.
        gpu_fraction: returns the fraction of a GPU that training a candidate requests.
        retries: how often a trial restarts if Tune abandons it before its own retries are used.
        say: prints a line for people.

    Attributes:
        error: the first error while drawing or recording, or the images on a node differ. Raised
            inside Tune it would kill running trials, so the search ends and the caller raises it.
    """

    def __init__(
        self,
        trials: Trials,
        gpu_fraction: Callable[[Candidate], float] = lambda candidate: 0.0,
        retries: int = 0,
        say: Callable[[str], None] = lambda line: None,
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self.error: Exception | None = None
        self._trials = trials
        self._gpu_fraction = gpu_fraction
        self._retries = retries
        self._say = say
        self._warned = False
        self._numbers: dict[str, int] = {}
        self._paused: set[str] = set()
        self._causes: dict[str, str] = {}
        self._given_up_early: set[str] = set()
        self._requeued: Counter[int] = Counter()

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's config, None for "not now", or FINISHED."""
        started: StartedTrial | None = None
        if self.error is None:
            with self._guarded():
                started = self._trials.next()
        if started is None:
            # A running trial may have to restart.
            waits = self._numbers and not self._trials.is_stopping
            ended = self.error is not None or (self._trials.is_finished and not waits)
            return str(Searcher.FINISHED) if ended else None
        self._numbers[trial_id] = started.number
        return {
            "number": started.number,
            "params": started.params,
            "digest": started.digest,
            "seed": started.seed,
            "gpus": self._gpu_fraction(started.candidate),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch, and the earlier ones if the trial resumed from a checkpoint."""
        if FAILURE in result:
            return  # It ended without an epoch; on_trial_complete records the cause.
        if UNSAVED in result and not self._warned:
            self._warned = True
            self._say(
                f"checkpoints cannot be written ({result[UNSAVED]}); trials continue, but one that "
                "loses its process restarts from the first epoch"
            )
        with self._guarded():
            for report in [*result.get(HISTORY, []), result]:
                self._trials.report(self._numbers[trial_id], EpochMetrics.from_dict(report))

    def should_continue(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record an epoch, and tell whether the trial continues."""
        self.on_trial_result(trial_id, result)
        decision = Decision.PAUSE
        if FAILURE in result or STOPPED in result:
            return True
        if self.error is None:
            with self._guarded():
                decision = self._trials.decide(self._numbers[trial_id])
        if decision is Decision.PAUSE:
            self._paused.add(trial_id)
        return decision is Decision.CONTINUE

    def is_stopping(self) -> bool:
        """Tell whether no further trial starts, not even one that was suggested already."""
        with self._guarded():
            self._trials.check_budget()
        return self.error is not None or self._trials.is_stopping

    def withdraw(self, trial_id: str) -> None:
        """Pause a trial that has not started, as soon as Tune reports it complete."""
        self._paused.add(trial_id)

    def record_failure(self, trial_id: str, cause: str, *, early: bool = False) -> None:
        """Remember why the process of a trial failed, in case Tune does not restart it.

        Args:
            trial_id: of Tune.
            cause: one line.
            early: whether Tune abandons the trial with retries left. It does so if a process dies
                while it changes from one trial to the next.
        """
        self._causes[trial_id] = cause
        if early and trial_id in self._numbers:
            number = self._numbers[trial_id]
            self._say(f"trial {number} lost its process and restarts: {cause}")
        (self._given_up_early.add if early else self._given_up_early.discard)(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial.

        The result on which the scheduler stopped a trial comes only here.
        """
        if trial_id not in self._numbers:
            return  # Tune also reports trials that received no candidate.
        if result and "epoch" in result:
            self.on_trial_result(trial_id, result)
        number = self._numbers.pop(trial_id)
        cause = self._causes.pop(trial_id, "its process is gone")
        early = trial_id in self._given_up_early
        self._given_up_early.discard(trial_id)
        told = result or {}
        if NODE_DATA in told:
            # Every trial on that node would fail, so the search ends.
            self.error = self.error or BadInputError(*told[NODE_DATA])
        if self.error is not None:
            return  # The trial stays as stored and can be resumed.
        with self._guarded():
            if error and early and self._may_requeue(number):
                self._trials.requeue(number)
            elif error:
                self._trials.finish(number, f"its process failed repeatedly: {cause}")
            elif trial_id in self._paused:
                self._trials.pause(number)
            else:
                self._trials.finish(
                    number,
                    str(told.get(FAILURE, "")),
                    violation=float(told.get(VIOLATION, 0.0)),
                    stopped=str(told.get(STOPPED, "")),
                )

    def _may_requeue(self, number: int) -> bool:
        """Tell whether to hand a trial that Tune abandoned early to it once more."""
        self._requeued[number] += 1
        return self._requeued[number] <= self._retries

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Store an error for later; raised here it would kill running trials."""
        try:
            yield
        except Exception as error:
            self.error = self.error or error

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study out of the snapshots that Tune makes of its searcher."""
        return searcher_state(self)

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the study in its database is what a search resumes from."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing, see ``save_to_dir``."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a search is resumed from its study."""
        raise RuntimeError("a search is resumed from its study, not from a snapshot of Ray Tune")


def last_line(trial: Any) -> str:
    """Return the last line of what a trial of Tune failed with, without Ray's general advice."""
    error = trial.get_error() or _written(trial)
    if error is None:
        return "its process is gone"
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1].partition(_ADVICE)[0] if lines else type(error).__name__


def _written(trial: Any) -> str | None:
    """Return what Tune wrote down of a failure and has not brought to its storage yet."""
    path = getattr(trial, "error_file", None)
    if path is None:
        return None
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
