"""Reads from a study what a surrogate learns from, once per trial."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from itertools import islice

from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from search.loop.sampling.proposals import Proposal, Proposer
from search.study.records import TrialRecord


class Standing(Enum):
    """What is known of a trial."""

    RUNNING = auto()
    """It has no value yet."""
    FINISHED = auto()
    """It has its final values."""
    STOPPED = auto()
    """It stopped early; its curve tells what it might have reached."""
    INFEASIBLE = auto()
    """It violates a constraint, such as the memory of a GPU: worse than every other trial."""
    IGNORED = auto()
    """It failed, was rejected, repeats another trial, or is a candidate of another space."""


@dataclass
class Observation:
    """A trial as the surrogate sees it.

    Attributes:
        number: of the trial.
        proposal: its candidate.
        standing: what is known of it.
        values: of the objectives, all to be maximised; empty while it runs, minus infinity where it
            is infeasible.
        curve: value of the first objective by epoch, to be maximised.
        source: name of the other task that it was trained on; empty for this one.
        inherited: whether another search trained it.
        epoch_seconds: device time of an epoch; 0 if it is unknown.
    """

    number: int
    proposal: Proposal
    standing: Standing = Standing.RUNNING
    values: tuple[float, ...] = ()
    curve: Mapping[int, float] = field(default_factory=dict)
    source: str = ""
    inherited: bool = False
    epoch_seconds: float = 0.0


class History:
    """The trials of a study, read as they change.

    Args:
        proposer: describes the candidates of trials.
    """

    def __init__(self, proposer: Proposer) -> None:
        self.observations: dict[int, Observation] = {}
        """By number, without those that taught nothing."""
        self.used: dict[str, int] = {}
        """First trial of each digest that was given out; a failed candidate may fail again."""
        self.inherited = 0
        """Number of trials at the start of the study that other searches trained."""
        self._proposer = proposer
        self._planned: dict[int, Proposal] = {}
        self._read = 0
        self._open: set[int] = set()

    def plan(self, number: int, proposal: Proposal) -> None:
        """Remember the candidate of a trial that has drawn no parameters yet."""
        self._planned[number] = proposal

    def update(
        self, trials: Sequence[FrozenTrial], directions: Sequence[StudyDirection], current: int
    ) -> None:
        """Read what has changed.

        Args:
            trials: of the study, ordered by number.
            directions: of the objectives.
            current: number of the trial that is being drawn, which is left out.
        """
        signs = [1.0 if each is StudyDirection.MAXIMIZE else -1.0 for each in directions]
        self._open.update(range(self._read, len(trials)))
        self._read = len(trials)
        for number in sorted(self._open):
            trial = trials[number]
            if number == current or (trial.state is TrialState.WAITING and not trial.params):
                continue
            self._read_trial(trial, signs)
            if trial.state.is_finished():
                self._open.discard(number)
                self._planned.pop(number, None)

    def between(self, first: int, end: int) -> list[Observation]:
        """Return the observations of trials from a number up to, but without, another one."""
        found = map(self.observations.get, range(first, end))
        return [each for each in found if each is not None]

    def ended(self, at_most: int) -> int:
        """Count the trials with a value, up to a number."""
        values = (1 for each in self.observations.values() if each.standing is not Standing.RUNNING)
        return sum(islice(values, at_most))

    def _read_trial(self, trial: FrozenTrial, signs: Sequence[float]) -> None:
        record = TrialRecord.of(trial)
        if record.is_inherited and self.inherited == trial.number:
            self.inherited += 1
        known = self.observations.get(trial.number)
        if known is None:
            known = self._first_seen(trial, record)
            if known is None:
                return
        known.standing, known.values = _standing(trial, record, signs)
        known.curve = {
            epoch: signs[0] * value
            for epoch, value in trial.intermediate_values.items()
            if math.isfinite(value)
        }
        if record.epochs and not record.is_inherited:
            known.epoch_seconds = record.device_seconds / record.epochs
        if known.standing is Standing.IGNORED:
            del self.observations[trial.number]

    def _first_seen(self, trial: FrozenTrial, record: TrialRecord) -> Observation | None:
        if record.is_rejected:
            return None
        planned = self._planned.get(trial.number)
        if planned is not None and trial.params and trial.params != planned.params:
            planned = None
        if planned is None and trial.params:
            planned = self._proposer.describe(trial.params, record.digest)
        if planned is None:
            return None
        if not record.is_inherited:
            self.used.setdefault(planned.digest, trial.number)
        self.observations[trial.number] = Observation(
            trial.number,
            planned,
            source="" if record.same_task else record.inherited_from,
            inherited=record.is_inherited,
        )
        return self.observations[trial.number]


def _standing(
    trial: FrozenTrial, record: TrialRecord, signs: Sequence[float]
) -> tuple[Standing, tuple[float, ...]]:
    if not trial.state.is_finished():
        return Standing.RUNNING, ()
    if record.is_infeasible:
        return Standing.INFEASIBLE, (-math.inf,) * len(signs)
    if record.outcome is TrialState.FAIL:
        return Standing.IGNORED, ()
    values = tuple(sign * value for sign, value in zip(signs, record.values, strict=False))
    if record.outcome is TrialState.PRUNED:
        # Optuna keeps no value of a pruned trial; its last report takes its place.
        reported = trial.intermediate_values
        if not values and reported:
            values = (signs[0] * reported[max(reported)],)
        usable = len(values) == len(signs) and all(map(math.isfinite, values))
        return (Standing.STOPPED, values) if usable else (Standing.IGNORED, ())
    return Standing.FINISHED, values
