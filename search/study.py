"""The study: an Optuna study in memory, every change of which goes on to a database.

Sampling from memory costs a tenth of sampling from a database, and a candidate that is drawn,
judged and told arrives there as one write instead of one per parameter. The driver is the only
writer, so both hold the same trials under the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import optuna
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage
from optuna.trial import FrozenTrial, TrialState

from search.database import Database

# A line for every trial told would drown the progress of the search.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """Draws trials and keeps what became of them.

    Args:
        name: of the study.
        sampler: draws the parameters.
        seed: of the draws that explore (see ``ask``).
        database: the durable copy; None keeps the study in memory only.
    """

    def __init__(
        self, name: str, sampler: BaseSampler, *, seed: int = 0, database: Database | None = None
    ) -> None:
        self._storage = InMemoryStorage()
        self._memory = optuna.create_study(
            study_name=name, storage=self._storage, sampler=sampler, direction="maximize"
        )
        self._sampler = sampler
        self._explorer = RandomSampler(seed=seed)
        self._database = database

    def enqueue(self, params: Mapping[str, Any]) -> None:
        """Have a later ``ask`` draw these parameters; what they leave open is sampled.

        Only before the first ``ask``: numbers are given in the order of drawing.
        """
        self._memory.enqueue_trial(dict(params))

    def ask(self, *, explore: bool = False) -> optuna.Trial:
        """Draw a new trial; with ``explore`` at random, whatever the sampler."""
        self._memory.sampler = self._explorer if explore else self._sampler
        return self._memory.ask()

    def reject(
        self, trial: optuna.Trial, reason: str, violation: float, attributes: Mapping[str, Any]
    ) -> None:
        """Tell a drawn trial as infeasible and enter it."""
        trial.set_constraint(reason, violation)
        self.close(trial, TrialState.PRUNED, None, {}, {"rejected": reason, **attributes})

    def close(
        self,
        trial: optuna.Trial,
        state: TrialState,
        value: float | None,
        intermediate: Mapping[int, float],
        attributes: Mapping[str, Any],
    ) -> None:
        """Tell a drawn trial that is not to be trained, and enter it."""
        self._set_attributes(trial._trial_id, attributes)
        for step, reported in intermediate.items():
            self._storage.set_trial_intermediate_value(trial._trial_id, step, reported)
        self._end(trial._trial_id, state, value if state is TrialState.COMPLETE else None)
        self._enter(trial.number)

    def start(self, trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
        """Enter a drawn trial as running."""
        self._set_attributes(trial._trial_id, attributes)
        self._enter(trial.number)

    def report(self, number: int, step: int, value: float) -> None:
        """Record an intermediate value of a running trial."""
        self._storage.set_trial_intermediate_value(self._id(number), step, value)
        if self._database is not None:
            self._database.report(number, step, value)

    def finish(self, number: int, state: TrialState, attributes: Mapping[str, Any]) -> None:
        """End a running trial; its value is its last intermediate value.

        A trial that never reported a number cannot be complete or pruned; it fails.
        """
        intermediate = self.trial(number).intermediate_values
        value: float | None = intermediate[max(intermediate)] if intermediate else None
        if state is TrialState.FAIL or value is None or not math.isfinite(value):
            state, value = TrialState.FAIL, None
        self._set_attributes(self._id(number), attributes)
        self._end(self._id(number), state, value)
        if self._database is not None:
            self._database.finish(number, state, value, attributes)

    def then(self, call: Callable[[], None]) -> None:
        """Do something once all that came before is safe: in the database, where there is one."""
        if self._database is None:
            call()
        else:
            self._database.then(call)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial."""
        return self._storage.get_trial(self._id(number))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers."""
        return self._memory.get_trials(deepcopy=False)

    def _enter(self, number: int) -> None:
        if self._database is not None:
            self._database.enter(self.trial(number))

    def _set_attributes(self, trial_id: int, attributes: Mapping[str, Any]) -> None:
        for key, attribute in attributes.items():
            self._storage.set_trial_user_attr(trial_id, key, attribute)

    def _end(self, trial_id: int, state: TrialState, value: float | None) -> None:
        """End a trial in memory: what ``optuna.Study.tell`` does, without its deep copies."""
        values = None if value is None else [value]
        trial = self._storage.get_trial(trial_id)
        self._sampler.after_trial(self._memory, trial, state, values)
        self._storage.set_trial_state_values(trial_id, state, values)

    def _id(self, number: int) -> int:
        return self._storage.get_trial_id_from_study_id_trial_number(self._memory._study_id, number)
