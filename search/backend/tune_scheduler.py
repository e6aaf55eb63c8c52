"""Starts and stops the trials of Ray Tune by the decisions of the study."""

from __future__ import annotations

from typing import Any

from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from search.backend.tune_searcher import StudySearcher, last_line
from search.private_apis import unstage_trial


class StudyScheduler(FIFOScheduler):
    """Starts Tune's trials in order, and stops them by the decisions of the study.

    Args:
        searcher: knows the trials.
    """

    def __init__(self, searcher: StudySearcher) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._searcher = searcher

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        """Choose the next waiting trial; once the search stops, pause all of them.

        Otherwise they would start on freed resources, or wait for a node that never comes.
        """
        if not self._searcher.is_stopping():
            return super().choose_trial_to_run(tune_controller)
        for trial in tune_controller.get_trials():
            if trial.status == "PENDING":
                self._searcher.withdraw(trial.trial_id)
                unstage_trial(tune_controller, trial)
                tune_controller.stop_trial(trial)
        return None

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        """Decide after each epoch."""
        should_continue = self._searcher.should_continue(trial.trial_id, result)
        return str(TrialScheduler.CONTINUE if should_continue else TrialScheduler.STOP)

    def on_trial_error(self, tune_controller: Any, trial: Any) -> None:
        """Store the cause: the searcher is told only that there was an error."""
        early = trial.should_recover()
        self._searcher.record_failure(trial.trial_id, last_line(trial), early=early)
