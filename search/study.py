"""The study: an Optuna study in memory, every change of which is written through to a database.

Sampling from memory costs a tenth of sampling from a database, and a candidate that is drawn,
judged and told arrives in the database as one transaction instead of one per parameter. The
driver is the only writer, so both always hold the same trials under the same numbers.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import optuna
import sqlalchemy
from optuna.samplers import BaseSampler, RandomSampler
from optuna.storages import InMemoryStorage, RDBStorage
from optuna.trial import FrozenTrial, TrialState

from spaces.errors import BadInputError

# A line for every trial told would drown the progress of the search.
optuna.logging.set_verbosity(optuna.logging.WARNING)


class Study:
    """Draws trials and keeps what became of them.

    Args:
        name: of the study.
        sampler: draws the parameters.
        seed: of the draws that explore (see ``ask``).
        database: an sqlite file, created where absent; None keeps the study in memory only.

    Raises:
        BadInputError: the database holds a study of that name already.
    """

    def __init__(
        self, name: str, sampler: BaseSampler, *, seed: int = 0, database: Path | None = None
    ) -> None:
        self._memory_storage = InMemoryStorage()
        self._memory = optuna.create_study(
            study_name=name, storage=self._memory_storage, sampler=sampler, direction="maximize"
        )
        self._sampler = sampler
        self._explorer = RandomSampler(seed=seed)
        self._durable: RDBStorage | None = None
        self._durable_ids: dict[int, int] = {}
        if database is not None:
            self._durable = _open(database)
            try:
                study = optuna.create_study(
                    study_name=name, storage=self._durable, direction="maximize"
                )
            except optuna.exceptions.DuplicatedStudyError:
                problem = f"{database} already holds a study of that name"
                raise BadInputError("name", name, problem, "choose another name") from None
            self._durable_study = self._durable.get_study_id_from_name(study.study_name)

    def ask(self, *, explore: bool = False) -> optuna.Trial:
        """Draw a new trial; with ``explore`` at random, whatever the sampler."""
        self._memory.sampler = self._explorer if explore else self._sampler
        return self._memory.ask()

    def enter(self, number: int) -> None:
        """Write a drawn trial to the database, as it is now; once, in the order of drawing."""
        if self._durable is not None:
            self._durable_ids[number] = self._durable.create_new_trial(
                self._durable_study, template_trial=self.trial(number)
            )

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
        storage, trial_id = self._memory_storage, trial._trial_id
        for key, attribute in attributes.items():
            storage.set_trial_user_attr(trial_id, key, attribute)
        for step, reported in intermediate.items():
            storage.set_trial_intermediate_value(trial_id, step, reported)
        self._memory.tell(
            trial.number, value if state is TrialState.COMPLETE else None, state=state
        )
        self.enter(trial.number)

    def start(self, trial: optuna.Trial, attributes: Mapping[str, Any]) -> None:
        """Enter a drawn trial as running."""
        for key, attribute in attributes.items():
            self._memory_storage.set_trial_user_attr(trial._trial_id, key, attribute)
        self.enter(trial.number)

    def report(self, number: int, step: int, value: float) -> None:
        """Record an intermediate value of a running trial."""
        for storage, trial_id in self._copies(number):
            storage.set_trial_intermediate_value(trial_id, step, value)

    def finish(self, number: int, state: TrialState, attributes: Mapping[str, Any]) -> None:
        """End a running trial; its value is its last intermediate value.

        A trial that never reported a number cannot be complete or pruned; it fails.
        """
        intermediate = self.trial(number).intermediate_values
        value = intermediate[max(intermediate)] if intermediate else math.nan
        if not math.isfinite(value):
            state = TrialState.FAIL
        for storage, trial_id in self._copies(number):
            for key, attribute in attributes.items():
                storage.set_trial_user_attr(trial_id, key, attribute)
            values = None if state is TrialState.FAIL else [value]
            storage.set_trial_state_values(trial_id, state, values)

    def trial(self, number: int) -> FrozenTrial:
        """Return one trial."""
        return self._memory_storage.get_trial(self._memory_id(number))

    def trials(self) -> list[FrozenTrial]:
        """Return all trials in the order of their numbers."""
        return self._memory.get_trials(deepcopy=False)

    def _memory_id(self, number: int) -> int:
        return self._memory_storage.get_trial_id_from_study_id_trial_number(
            self._memory._study_id, number
        )

    def _copies(self, number: int) -> Iterable[tuple[optuna.storages.BaseStorage, int]]:
        yield self._memory_storage, self._memory_id(number)
        if self._durable is not None:
            yield self._durable, self._durable_ids[number]


def read_trials(database: Path, name: str) -> list[FrozenTrial]:
    """Return the trials of a stored study, also while a search is writing it.

    Raises:
        BadInputError: there is no such study.
    """
    try:
        if not database.is_file():
            raise KeyError(name)
        study = optuna.load_study(study_name=name, storage=_open(database))
    except KeyError:
        problem = f"there is no study in {database}"
        raise BadInputError("NAME", name, problem, "name a search that has run") from None
    return study.get_trials(deepcopy=False)


def _open(database: Path) -> RDBStorage:
    """Open an sqlite storage in which readers and the one writer do not wait for each other."""
    storage = RDBStorage(f"sqlite:///{database}", engine_kwargs={"connect_args": {"timeout": 60}})

    def set_pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log a power cut can lose the last transactions, never the database.
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(storage.engine, "connect", set_pragmas)
    # Connections made while the tables were created do not have them yet.
    storage.engine.dispose()
    return storage
