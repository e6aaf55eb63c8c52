"""The durable copy of a study, written in order by a thread of its own.

Writing a candidate takes ten milliseconds or more. Neither Ray's event loop nor the next draw waits
for it. Writes, and the events that observers receive after them, keep their order: a crash can lose
the last moments, but observers never receive an event that the database lacks.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import optuna
import sqlalchemy
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from search.console import warn
from search.experiment.objectives import ACCURACY, Objective, directions
from search.formatting import root_cause
from search.private_apis import trial_id
from search.study.storages import name_taken, open_storage

TIMEOUT = 120.0
"""Seconds that a server may be unavailable before the search fails."""
IDENTITY = "search"
"""Attribute of a study: identity of the search that it belongs to."""
_BACKLOG = 1000
"""Number of queued writes beyond which the search waits for the database."""
_PAUSE = 1.0


class Database:
    """Writes the trials of one study to a database.

    Args:
        location: an sqlite file, created where absent, or the URL of a database server.
        name: of the study.
        objectives: of the study.
        resume: use the study if it exists; see `load`.
        identity: of the search; a study of another search is refused.

    Raises:
        BadInputError: the database holds a study of that name already or cannot be reached, or,
            on a server, another driver is writing that study.
    """

    def __init__(
        self,
        location: Path | str,
        name: str,
        *,
        objectives: Sequence[Objective] = ACCURACY,
        resume: bool = False,
        identity: str = "",
    ) -> None:
        self._timeout = 0.0 if isinstance(location, Path) else TIMEOUT
        self._storage = open_storage(location, name)
        try:
            self._study = self._open_study(location, name, objectives, resume, identity)
        except BaseException:
            self._storage.engine.dispose()
            raise
        self._ids: dict[int, int] = {}
        self._error: BaseException | None = None
        self._queue: Queue[Callable[[], None] | None] = Queue(_BACKLOG)
        self._thread = threading.Thread(target=self._write, name="study-writer", daemon=True)
        self._thread.start()

    def _open_study(
        self,
        location: Path | str,
        name: str,
        objectives: Sequence[Objective],
        resume: bool,
        identity: str,
    ) -> int:
        try:
            study: int = self._storage.create_new_study(directions(objectives), name)
        except optuna.exceptions.DuplicatedStudyError:
            if not resume:
                raise name_taken(location, name) from None
            study = self._storage.get_study_id_from_name(name)
        else:
            if identity:
                self._storage.set_study_user_attr(study, IDENTITY, identity)
        found = self._storage.get_study_user_attrs(study).get(IDENTITY)
        if identity and found and found != identity:
            raise name_taken(location, name)
        return study

    def load(self) -> list[FrozenTrial]:
        """Return the stored trials, ordered by number. Call it before any write."""
        trials = self._storage.get_all_trials(self._study, deepcopy=False)
        self._ids = {trial.number: trial_id(trial) for trial in trials}
        return trials

    def enter(self, trial: FrozenTrial) -> None:
        """Write a new trial; call it in the order of the trials' numbers."""

        def write() -> None:
            self._ids[trial.number] = self._storage.create_new_trial(self._study, trial)

        self.then(write)

    def report(self, number: int, step: int, value: float) -> None:
        """Write an intermediate value of a running trial."""
        self.then(
            lambda: self._storage.set_trial_intermediate_value(self._ids[number], step, value)
        )

    def annotate(self, number: int, attributes: Mapping[str, Any]) -> None:
        """Write attributes of a running trial."""
        self.then(lambda: self._set_attributes(number, attributes))

    def _set_attributes(self, number: int, attributes: Mapping[str, Any]) -> None:
        for key, attribute in attributes.items():
            self._storage.set_trial_user_attr(self._ids[number], key, attribute)

    def set_state(self, number: int, state: TrialState) -> None:
        """Write that a trial is paused (WAITING) or resumed (RUNNING)."""
        self.then(lambda: self._set_state(number, state))

    def _set_state(self, number: int, state: TrialState) -> None:
        self._storage.set_trial_state_values(self._ids[number], state)

    def finish(
        self,
        number: int,
        state: TrialState,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        system_attributes: Mapping[str, Any],
    ) -> None:
        """Write the end of a running trial."""

        def write() -> None:
            trial_id = self._ids[number]
            self._set_attributes(number, attributes)
            for key, attribute in system_attributes.items():
                self._storage.set_trial_system_attr(trial_id, key, attribute)
            self._storage.set_trial_state_values(trial_id, state, values)

        self.then(write)

    def then(self, call: Callable[[], None]) -> None:
        """Call a function once all earlier writes are in the database.

        Raises:
            Exception: the error of an earlier write; nothing is written after a failure.
        """
        self._raise()
        self._queue.put(call)

    def flush(self) -> None:
        """Wait for all writes; raises the errors that ``then`` raises."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Finish the queued writes and end the thread."""
        if self._thread.is_alive():
            self._queue.put(None)
            self._thread.join()
            self._storage.engine.dispose()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _write(self) -> None:
        while (call := self._queue.get()) is not None:
            try:
                # After a failure later writes would leave gaps.
                if self._error is None:
                    self._retry(call)
            except BaseException as error:
                # Catches all errors: without the thread, `flush` would wait for ever.
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _retry(self, call: Callable[[], None]) -> None:
        """Call a function; repeat it until a timeout while a server is unavailable.

        Repeating is safe: a write that the server did before its answer was lost is not done twice.
        """
        until: float | None = None
        while True:
            try:
                call()
            except UpdateFinishedTrialError:
                if until is None:
                    raise
            except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
                now = time.monotonic()
                if until is None:
                    until = now + self._timeout
                    if now < until:
                        warn(f"the database does not answer ({root_cause(error)}); waiting for it")
                if now >= until:
                    raise
                time.sleep(_PAUSE)
                continue
            if until is not None:
                warn("the database answers again")
            return
