"""Decides whether failures end the search."""

from __future__ import annotations

from optuna.trial import TrialState

from search.study.records import TrialRecord

HOPELESS_AFTER = 5
"""Number of trials. If the first ones all fail, they have a common cause."""


class FailurePolicy:
    """Ends a search whose first trials all fail.

    A loss that diverged, or a network that does not fit into memory, is the candidate's fault and
    does not count.

    Attributes:
        hopeless: cause of the last failure, once the search cannot succeed; else empty.
    """

    def __init__(self) -> None:
        self.hopeless = ""
        self._has_succeeded = False
        self._failed = 0

    def restore(self, trial: TrialRecord) -> None:
        """Take account of a trial of an earlier driver; its failure may have been repaired."""
        self._has_succeeded |= trial.outcome is not TrialState.FAIL

    def ended(self, trial: TrialRecord) -> None:
        """Take account of a trial that ended."""
        self.restore(trial)
        if self._has_succeeded or not trial.cause or trial.is_infeasible:
            return
        self._failed += 1
        if self._failed >= HOPELESS_AFTER:
            self.hopeless = trial.cause
