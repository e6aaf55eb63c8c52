"""The thin layer between Ray Tune and the study: hands trials out, records what they report."""

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
from trainables.metrics import OBJECTIVE, EpochMetrics
from trainables.trial import FAILURE, HISTORY, STOPPED, UNKEPT, VIOLATION

_ADVICE = " Some common causes include"
"""What Ray goes on with after it has said how a process ended."""


class StudySearcher(Searcher):
    """Hands the trials of a study to Ray Tune and brings back what they report.

    Args:
        trials: the search.
        gpu_fraction: says which share of a GPU the training of a candidate asks for.
        retries: how often a trial begins again that Tune gives up before its own retries are used.
        say: called with a line that is meant for people.

    Attributes:
        error: what went wrong while drawing or recording, if anything. Raised inside of Tune it
            would take down the trials that are running; so the search is ended, and the caller
            raises it.
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
            # One that is in training may have to begin again.
            waits = self._numbers and not self._trials.is_stopping
            ended = self.error is not None or (self._trials.is_finished and not waits)
            return str(Searcher.FINISHED) if ended else None
        self._numbers[trial_id] = started.number
        return {
            "number": started.number,
            "params": started.params,
            "seed": started.seed,
            "gpus": self._gpu_fraction(started.candidate),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch, and those before it where the trial goes on from a checkpoint."""
        if FAILURE in result:
            return  # It ended without one; on_trial_complete tells why.
        if UNKEPT in result and not self._warned:
            self._warned = True
            self._say(
                f"checkpoints cannot be kept ({result[UNKEPT]}); trials go on, but one whose "
                "process is lost begins anew"
            )
        with self._guarded():
            for report in [*result.get(HISTORY, []), result]:
                self._trials.report(self._numbers[trial_id], EpochMetrics.from_dict(report))

    def should_continue(self, trial_id: str, result: dict[str, Any]) -> bool:
        """Record an epoch, and tell whether the trial goes on after it."""
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
        """Tell whether no trial is to be started any more, not even one that has been suggested."""
        with self._guarded():
            self._trials.check_budget()
        return self.error is not None or self._trials.is_stopping

    def withdraw(self, trial_id: str) -> None:
        """Have a trial that has not been started set aside when Tune says that it is complete."""
        self._paused.add(trial_id)

    def record_failure(self, trial_id: str, cause: str, *, early: bool = False) -> None:
        """Remember what the process of a trial failed with, should it be for the last time.

        Args:
            trial_id: Tune's.
            cause: in a line.
            early: should it be, Tune gives the trial up with retries left: it does where a process
                dies while it changes from one trial to the next.
        """
        self._causes[trial_id] = cause
        if early and trial_id in self._numbers:
            number = self._numbers[trial_id]
            self._say(f"trial {number} has lost its process and begins again: {cause}")
        (self._given_up_early.add if early else self._given_up_early.discard)(trial_id)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial.

        The result on which the scheduler stopped a trial comes only here.
        """
        if trial_id not in self._numbers:
            return  # Tune tells of trials, too, for which there was no candidate.
        if result and "epoch" in result:
            self.on_trial_result(trial_id, result)
        number = self._numbers.pop(trial_id)
        cause = self._causes.pop(trial_id, "its process is gone")
        early = trial_id in self._given_up_early
        self._given_up_early.discard(trial_id)
        if self.error is not None:
            return  # What cannot be recorded stays as it is recorded, to be taken up again.
        told = result or {}
        with self._guarded():
            if error and early and self._may_requeue(number):
                self._trials.requeue(number)
            elif error:
                self._trials.finish(number, f"its process failed again and again: {cause}")
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
        """Tell whether a trial that Tune has given up early is handed to it once more."""
        self._requeued[number] += 1
        return self._requeued[number] <= self._retries

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        """Keep what goes wrong for later: an error here would take down what is running."""
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
