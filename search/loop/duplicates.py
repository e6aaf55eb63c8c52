"""Rejects candidates that the search trains, or has trained, already."""

from __future__ import annotations

import optuna
from optuna.trial import TrialState

from search.study.records import Rejection, TrialAttributes, TrialRecord
from search.study.study import Study


class Duplicates:
    """The trained candidates of a search, by digest.

    Args:
        study: holds the trials.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._numbers: dict[str, int] = {}

    def add(self, digest: str, number: int) -> None:
        """Remember the trial that trains a candidate; an earlier trial of it stays."""
        self._numbers.setdefault(digest, number)

    def ended(self, trial: TrialRecord) -> None:
        """Remember a trial that ended, or forget it: a failed candidate may be tried again.

        A candidate that ran out of memory would do so again; it is remembered.
        """
        if trial.outcome is not TrialState.FAIL or trial.is_infeasible:
            self.add(trial.digest, trial.number)
        elif self._numbers.get(trial.digest) == trial.number:
            del self._numbers[trial.digest]

    def original(self, digest: str) -> int | None:
        """Return the trial that trains, or trained, a candidate; None for a new one."""
        return self._numbers.get(digest)

    def reject(self, trial: optuna.Trial, original: int) -> Rejection:
        """Give a drawn duplicate the result of its original instead of training it again.

        Told as infeasible, a duplicate of a good candidate would drive the sampler away from it.
        While the original is still training, the duplicate fails, which samplers ignore.
        """
        rejection = Rejection("duplicate", 1.0, f"the same as trial {original}")
        attributes = TrialAttributes(
            rejected=rejection.reason, detail=rejection.detail, duplicate_of=original
        )
        known = self._study.trial(original)
        if known.state in (TrialState.COMPLETE, TrialState.PRUNED):
            self._study.close(
                trial,
                known.state,
                attributes,
                values=known.values,
                intermediate=known.intermediate_values,
                constraints=known.constraints,
            )
        else:
            self._study.close(trial, TrialState.FAIL, attributes)
        return rejection
