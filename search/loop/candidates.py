"""Draws candidates and rejects those that are not trained."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.trial import FrozenTrial

from search.loop.duplicates import Duplicates
from search.loop.screens import Screen, judge, reject_invalid
from search.study.events import Observer, StartedTrial
from search.study.records import Rejection, TrialAttributes, TrialRecord, Workload, truncation_of
from search.study.savings import RejectionTimes
from search.study.study import Study
from spaces.architecture import CollapsedLayerError
from spaces.border import Rule, find_border
from spaces.candidate import Candidate, CandidateSpace
from spaces.errors import InvalidCandidateError

EXPLORE_AFTER = 20
"""Rejections in a row after which draws are random, until one is accepted."""
GIVE_UP_AFTER = 2000
"""Rejections in a row after which the space counts as exhausted."""


@dataclass(frozen=True)
class AcceptedTrial:
    """A drawn trial that may be trained, and the candidate that it describes."""

    drawn: optuna.Trial
    started: StartedTrial


class Candidates:
    """Draws candidates from a space until one is accepted.

    Args:
        study: draws the parameters and stores the rejections.
        space: makes a candidate of them.
        screens: reject candidates.
        duplicates: the trained candidates, which are rejected; None trains them again.
        times: estimates the time that each rejection saves.
        observer: is told of rejections.
        seed: of the search.
        rule: finds the border layer that is recorded with every trial, screened or not.
    """

    def __init__(
        self,
        study: Study,
        space: CandidateSpace,
        screens: Sequence[Screen],
        duplicates: Duplicates | None,
        times: RejectionTimes,
        observer: Observer,
        *,
        seed: int,
        rule: Rule,
    ) -> None:
        self._study = study
        self._space = space
        self._screens = screens
        self._duplicates = duplicates
        self._times = times
        self._observer = observer
        self._seed = seed
        self._rule = rule
        self._rejected_in_a_row = 0

    @property
    def exhausted(self) -> bool:
        """Tell whether the space seems to hold no further acceptable candidate."""
        # The sampler that models the network draws without a trial, so it knows before.
        known = bool(getattr(self._study.sampler, "exhausted", False))
        return self._rejected_in_a_row >= (1 if known else GIVE_UP_AFTER)

    def draw(self) -> AcceptedTrial | None:
        """Draw one candidate; return None if it was rejected.

        Raises:
            BadInputError: the space function failed, or depends on more than its parameters.
        """
        trial = self._study.ask(explore=self._rejected_in_a_row >= EXPLORE_AFTER)
        try:
            candidate = self._space.draw(trial)
        except InvalidCandidateError as error:
            self._reject(trial, reject_invalid(error), TrialAttributes())
            return None
        self._space.check_output(candidate)
        rejection = judge(candidate, self._screens)
        if rejection is not None:
            self._reject(trial, rejection, attributes_of(candidate))
            return None
        original = self._duplicates.original(candidate.digest) if self._duplicates else None
        if self._duplicates and original is not None:
            self._count(trial, self._duplicates.reject(trial, original))
            return None
        params = dict(trial.params)
        self._space.check_rebuild(params, candidate)
        self._rejected_in_a_row = 0
        return AcceptedTrial(trial, self._describe(trial.number, params, candidate))

    def rebuild(self, trial: FrozenTrial) -> StartedTrial:
        """Return the description with which a trial was started.

        The candidate may have another digest than the trial if the space was edited since.
        """
        params = dict(trial.params)
        digest = TrialRecord.of(trial).digest
        return self._describe(trial.number, params, self._space.rebuild(params), digest)

    def check_result(self, trial: FrozenTrial) -> None:
        """Check that the space still draws the network that a trial trained.

        Raises:
            BadInputError: it draws another one.
        """
        self._space.rebuild(trial.params, TrialRecord.of(trial).digest)

    def _describe(
        self, number: int, params: dict[str, Any], candidate: Candidate, digest: str = ""
    ) -> StartedTrial:
        digest = digest or candidate.digest
        return StartedTrial(
            number=number,
            params=params,
            digest=digest,
            # The digest decides, so a candidate trains alike in every search with this seed.
            seed=training_seed(digest, self._seed),
            candidate=candidate,
            costs=candidate.costs,
            border=find_border(candidate.architecture, self._rule),
        )

    def _reject(
        self, trial: optuna.Trial, rejection: Rejection, attributes: TrialAttributes
    ) -> None:
        attributes = TrialAttributes(
            **attributes, **self._saved(attributes), detail=rejection.detail
        )
        self._study.reject(trial, rejection.reason, rejection.violation, attributes)
        self._count(trial, rejection)

    def _saved(self, attributes: TrialAttributes) -> TrialAttributes:
        """Return the time that a rejection saves, if it is known already."""
        workload = Workload.of(attributes)
        saved = None if workload is None else self._times.estimate(workload)
        if saved is None:
            return TrialAttributes()
        if saved.high is None:
            return TrialAttributes(saved_low=saved.low)
        return TrialAttributes(saved_low=saved.low, saved_high=saved.high)

    def _count(self, trial: optuna.Trial, rejection: Rejection) -> None:
        self._rejected_in_a_row += 1
        self._observer.rejected(trial.number, rejection)


def attributes_of(candidate: Candidate) -> TrialAttributes:
    """Return what the study stores of a candidate beside its parameters."""
    attributes = TrialAttributes(digest=candidate.digest, **truncation_of(candidate))
    with suppress(CollapsedLayerError):
        costs = candidate.costs
        attributes["params"], attributes["macs"] = costs.params, costs.macs
        attributes["activation_bytes"] = costs.activation_bytes
        attributes["layers"] = len(candidate.architecture.layers)
        attributes["batch_size"] = candidate.recipe.batch_size
    return attributes


def training_seed(digest: str, seed: int) -> int:
    """Return the seed of a trial's training.

    Args:
        digest: of the candidate.
        seed: of the search.
    """
    return (int(digest[:8], 16) ^ seed) & 0x7FFFFFFF
