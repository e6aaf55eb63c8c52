"""The study: an Optuna study in memory that passes every change on to a database.

Sampling from memory takes a tenth of the time of sampling from a database. A rejected candidate
becomes one write instead of one per parameter. The driver is the only writer, so memory and
database hold the same trials under the same numbers.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState, create_trial

from search.experiment.objectives import ACCURACY, Objective, directions
from search.private_apis import study_id, trial_id
from search.study.database import Database
from search.study.records import TrialAttributes, told_state

# Optuna's line for every trial would hide the progress of the search.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """Draws trials and stores their results.

    Args:
        name: of the study.
        sampler: draws the parameters.
        seed: of random draws (see ``ask``).
        objectives: of the search; the values of a trial have this order.
        database: the durable copy, with the same objectives; None keeps the study in memory only.
    """

    def __init__(
        self,
        name: str,
        sampler: BaseSampler,
        *,
        seed: int = 0,
        objectives: Sequence[Objective] = ACCURACY,
        database: Database | None = None,
    ) -> None:
        self.objectives = tuple(objectives)
        self._storage = InMemoryStorage()
        self._memory = optuna.create_study(
            study_name=name,
            storage=self._storage,
            sampler=sampler,
            directions=directions(objectives),
        )
        self._study_id = study_id(self._memory)
        self._sampler = sampler
        self._explorer = RandomSampler(seed=seed)
        self._database = database

    @property
    def sampler(self) -> BaseSampler:
        """The sampler that draws the parameters."""
        return self._sampler

    def restore(self, trials: Sequence[FrozenTrial]) -> None:
        """Fill an empty study with the trials of the database, under the same numbers.

        A paused trial counts as running, because it will be resumed.
        """
        for trial in trials:
            known = copy.copy(trial)
            if known.state is TrialState.WAITING:
                # Optuna would hand a waiting trial out as a new one.
                known.state = TrialState.RUNNING
            self._storage.create_new_trial(self._study_id, template_trial=known)

    def add(self, trial: FrozenTrial) -> None:
        """Add a trial that ended in another search; the sampler learns from it."""
        number = self._storage.get_n_trials(self._study_id)
        self._storage.create_new_trial(self._study_id, template_trial=trial)
        self._enter(number)

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Have a later ``ask`` draw these parameters; missing ones are sampled.

        Call it before the first ``ask``: trials are numbered in the order of drawing.
        """
        self._memory.enqueue_trial(dict(params))

    def ask(self, *, explore: bool = False) -> optuna.Trial:
        """Draw a new trial from the sampler, or at random with ``explore``."""
        self._memory.sampler = self._explorer if explore else self._sampler
        return self._memory.ask()

    def reject(
        self, trial: optuna.Trial, reason: str, violation: float, attributes: TrialAttributes
    ) -> None:
        """Tell the sampler that a drawn trial is infeasible, and store it."""
        self.close(
            trial,
            TrialState.PRUNED,
            TrialAttributes(rejected=reason, **attributes),
            constraints={reason: violation},
        )

    def close(
        self,
        trial: optuna.Trial,
        state: TrialState,
        attributes: TrialAttributes,
        *,
        values: Sequence[float] | None = None,
        intermediate: Mapping[int, float] | None = None,
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """End a drawn trial without training, and store it."""
        self._set_attributes(trial_id(trial), attributes, _encoded(constraints))
        for step, reported in (intermediate or {}).items():
            self._storage.set_trial_intermediate_value(trial_id(trial), step, reported)
        self._end(trial_id(trial), state, values if state is TrialState.COMPLETE else None)
        self._enter(trial.number)

    def start(self, trial: optuna.Trial, attributes: TrialAttributes) -> None:
        """Store a drawn trial as running."""
        self._set_attributes(trial_id(trial), attributes, {})
        self._enter(trial.number)

    def report(self, number: int, step: int, value: float) -> None:
        """Store an intermediate value of a running trial."""
        self._storage.set_trial_intermediate_value(self._id(number), step, value)
        if self._database is not None:
            self._database.report(number, step, value)

    def annotate(self, number: int, attributes: TrialAttributes) -> None:
        """Store attributes of a running trial."""
        self._set_attributes(self._id(number), attributes, {})
        if self._database is not None:
            self._database.annotate(number, attributes)

    def pause(self, number: int, attributes: TrialAttributes) -> None:
        """Store a running trial as WAITING for a later driver. Draw no further trial then."""
        self._set_attributes(self._id(number), attributes, {})
        self._storage.set_trial_state_values(self._id(number), TrialState.WAITING)
        if self._database is not None:
            self._database.finish(number, TrialState.WAITING, None, attributes, {})

    def resume(self, number: int) -> None:
        """Store an interrupted trial as running."""
        if self._database is not None:
            self._database.set_state(number, TrialState.RUNNING)

    def finish(
        self,
        number: int,
        state: TrialState,
        attributes: TrialAttributes,
        *,
        costs: Sequence[float] = (),
        constraints: Mapping[str, float] | None = None,
    ) -> None:
        """End a running trial; its value is its last intermediate value.

        A trial that never reported a number cannot be complete or pruned; it fails. The sampler is
        told `search.study.records.told_state` of what happened.

        Args:
            number: of the trial.
            state: what happened: COMPLETE, PRUNED (stopped early) or FAIL.
            attributes: of the training.
            costs: values of the objectives beyond the first.
            constraints: violation by name of the constraint; the sampler avoids such candidates.
        """
        intermediate = self.trial(number).intermediate_values
        values: list[float] | None = None
        if state is not TrialState.FAIL and intermediate:
            values = [intermediate[max(intermediate)], *costs]
        if values is None or not all(map(math.isfinite, values)):
            state, values = TrialState.FAIL, None
        told = told_state(state, objectives=len(self.objectives), is_infeasible=bool(constraints))
        # A driver killed while writing another ending may have left its verdict.
        if told is not state or "verdict" in self.trial(number).user_attrs:
            attributes = TrialAttributes(**attributes, verdict=state.name.lower())
        encoded = _encoded(constraints)
        self._set_attributes(self._id(number), attributes, encoded)
        self._end(self._id(number), told, values)
        if self._database is not None:
            self._database.finish(number, told, values, attributes, encoded)

    def then(self, call: Callable[[], None]) -> None:
        """Call a function once everything written so far is in the database, if there is one."""
        if self._database is None:
            call()
        else:
            self._database.then(call)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial."""
        return self._storage.get_trial(self._id(number))

    def trials(self) -> list[FrozenTrial]:
        """Return all drawn trials, ordered by number."""
        trials = self._memory.get_trials(deepcopy=False)
        # An enqueued trial is WAITING too, but has no attributes yet.
        return [each for each in trials if each.state is not TrialState.WAITING or each.user_attrs]

    def _enter(self, number: int) -> None:
        if self._database is not None:
            self._database.enter(self.trial(number))

    def _set_attributes(
        self, trial_id: int, attributes: TrialAttributes, constraints: Mapping[str, Any]
    ) -> None:
        for key, attribute in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, attribute)
        for key, constraint in constraints.items():
            self._storage.set_trial_system_attr(trial_id, key, constraint)

    def _end(self, trial_id: int, state: TrialState, values: Sequence[float] | None) -> None:
        """End a trial in memory as ``optuna.Study.tell`` does, but without its deep copies."""
        trial = self._storage.get_trial(trial_id)
        self._sampler.after_trial(self._memory, trial, state, values)
        self._storage.set_trial_state_values(trial_id, state, values)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._study_id, number)


def _encoded(constraints: Mapping[str, float] | None) -> dict[str, Any]:
    """Return the system attributes as which Optuna stores constraints.

    ``optuna.Trial.set_constraint`` needs the trial object that was drawn.
    """
    if not constraints:
        return {}
    return create_trial(state=TrialState.FAIL, constraints=dict(constraints)).system_attrs
