"""The thin layer between Ray Tune and the study: a Tune searcher."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ray.tune.search import Searcher

from search.objectives import LATENCIES
from search.trials import OBJECTIVE, Trials
from spaces.candidate import Candidate
from trainables.trial import FAILURE, STOPPED, VIOLATION

METRICS = (
    "train_loss",
    "train_accuracy",
    "validation_loss",
    "validation_accuracy",
    "epoch_seconds",
)
"""What every epoch reports."""
_MEASURED = tuple(LATENCIES.values())
"""What it reports where the search asks for it."""


class StudySearcher(Searcher):
    """Hands the trials of a study to Ray Tune and brings back what they report.

    Args:
        trials: the search.
        share: says which share of a GPU the training of a candidate asks for.

    Attributes:
        error: what went wrong while drawing, if anything. An exception out of ``suggest`` would
            take down the trials that are running; so the search is ended and the caller raises it.
    """

    def __init__(
        self, trials: Trials, share: Callable[[Candidate], float] = lambda candidate: 0.0
    ) -> None:
        super().__init__(metric=OBJECTIVE, mode="max")
        self.error: Exception | None = None
        self._trials = trials
        self._share = share
        self._numbers: dict[str, int] = {}

    def suggest(self, trial_id: str) -> Any:
        """Return the next trial's config, None for "not now", or FINISHED."""
        if self.error is not None:
            return str(Searcher.FINISHED)
        try:
            started = self._trials.next()
        except Exception as error:
            self.error = error
            return str(Searcher.FINISHED)
        if started is None:
            return str(Searcher.FINISHED) if self._trials.is_finished else None
        self._numbers[trial_id] = started.number
        return {
            "number": started.number,
            "params": started.params,
            "seed": started.seed,
            "gpus": self._share(started.candidate),
        }

    def on_trial_result(self, trial_id: str, result: dict[str, Any]) -> None:
        """Record an epoch."""
        if FAILURE in result:
            return  # It ended without one; on_trial_complete tells why.
        keys = [*METRICS, *(key for key in _MEASURED if key in result)]
        metrics = {key: float(result[key]) for key in keys}
        self._trials.report(self._numbers[trial_id], int(result["epoch"]), metrics)

    def on_trial_complete(
        self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False
    ) -> None:
        """Record the end of a trial.

        The result on which the scheduler stopped a trial comes only here.
        """
        if result and "epoch" in result:
            self.on_trial_result(trial_id, result)
        number = self._numbers.pop(trial_id)
        if error:
            self._trials.finish(number, "its process failed again and again")
            return
        told = result or {}
        self._trials.finish(
            number,
            str(told.get(FAILURE, "")),
            violation=float(told.get(VIOLATION, 0.0)),
            stopped=str(told.get(STOPPED, "")),
        )

    def __getstate__(self) -> dict[str, Any]:
        """Leave the study out of the snapshots that Tune makes of its searcher."""
        return {"_metric": self._metric, "_mode": self._mode}

    def save_to_dir(self, checkpoint_dir: str, session_str: str = "default") -> None:
        """Save nothing: the study in its database is what a search resumes from."""

    def save(self, checkpoint_path: str) -> None:
        """Save nothing, see ``save_to_dir``."""

    def restore(self, checkpoint_path: str) -> None:
        """Refuse: a search is resumed from its study."""
        raise RuntimeError("a search is resumed from its study, not from a snapshot of Ray Tune")
