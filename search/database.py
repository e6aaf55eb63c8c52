"""The durable copy of a study, written in order by a thread of its own.

One candidate takes a database ten milliseconds and more, which neither Ray's event loop nor the
next draw should wait for. What is written, and what is told to observers after it, keeps its
order: a crash can lose the last moments, but nothing is ever reported that the database lacks.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from queue import Queue
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from search.destination import sqlite_uri
from search.objectives import ACCURACY, Objective, directions
from spaces.errors import BadInputError

_BACKLOG = 1000
"""Writes that may wait; beyond that the search waits for the database."""


class Database:
    """Writes the trials of one study to a database.

    Args:
        path: an sqlite file, created where absent.
        name: of the study.
        objectives: of the study.

    Raises:
        BadInputError: the database holds a study of that name already.
    """

    def __init__(
        self, path: Path, name: str, *, objectives: Sequence[Objective] = ACCURACY
    ) -> None:
        self._storage = _open(path)
        try:
            self._study = self._storage.create_new_study(directions(objectives), name)
        except optuna.exceptions.DuplicatedStudyError:
            problem = f"{path} already holds a study of that name"
            raise BadInputError("name", name, problem, "choose another name") from None
        self._ids: dict[int, int] = {}
        self._error: BaseException | None = None
        self._queue: Queue[Callable[[], None] | None] = Queue(_BACKLOG)
        self._thread = threading.Thread(target=self._write, name="study-writer", daemon=True)
        self._thread.start()

    def enter(self, trial: FrozenTrial) -> None:
        """Write a trial as it is now; trials must come in the order of their numbers."""

        def write() -> None:
            self._ids[trial.number] = self._storage.create_new_trial(self._study, trial)

        self.then(write)

    def report(self, number: int, step: int, value: float) -> None:
        """Write an intermediate value of a running trial."""
        self.then(
            lambda: self._storage.set_trial_intermediate_value(self._ids[number], step, value)
        )

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
            for key, attribute in attributes.items():
                self._storage.set_trial_user_attr(trial_id, key, attribute)
            for key, attribute in system_attributes.items():
                self._storage.set_trial_system_attr(trial_id, key, attribute)
            self._storage.set_trial_state_values(trial_id, state, values)

        self.then(write)

    def then(self, call: Callable[[], None]) -> None:
        """Do something once all that came before is in the database.

        Raises:
            Exception: what an earlier write failed with; nothing is written after a failure.
        """
        self._raise()
        self._queue.put(call)

    def flush(self) -> None:
        """Wait until everything is in the database; see ``then`` for errors."""
        self._queue.join()
        self._raise()

    def close(self) -> None:
        """Write what waits and end the thread."""
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
                    call()
            except BaseException as error:
                # Also what would end the thread: nobody could wait for its writes any more.
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()


def read_trials(path: Path, name: str) -> list[FrozenTrial]:
    """Return the trials of a stored study, also while a search is writing it.

    Raises:
        BadInputError: there is no such study.
    """
    try:
        if not path.is_file():
            raise KeyError(name)
        storage = _open(path)
        try:
            return storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
        finally:
            storage.engine.dispose()
    except sqlalchemy.exc.DatabaseError as error:
        problem = f"{path} cannot be read ({error.__cause__ or error})"
        raise BadInputError("NAME", name, problem, "restore it, or name another search") from None
    except KeyError:
        problem = f"there is no study in {path}"
        raise BadInputError("NAME", name, problem, "name a search that has run") from None


class _OneWriterStorage(RDBStorage):
    """Optuna's storage without the two look-ups that it makes before it writes a parameter.

    They guard against other writers of the same trial and against a parameter that has changed its
    kind, which the study in memory has refused already; they make up most of the time that a trial
    takes. Where Optuna comes to write parameters in another way, that way is taken instead.
    """

    def _set_trial_param_without_commit(
        self,
        session: Any,
        trial_id: int,
        param_name: str,
        param_value_internal: float,
        distribution: BaseDistribution,
        previous_distribution: BaseDistribution | None = None,
    ) -> None:
        session.add(
            models.TrialParamModel(
                trial_id=trial_id,
                param_name=param_name,
                param_value=param_value_internal,
                distribution_json=distribution_to_json(distribution),
            )
        )


def _open(path: Path) -> RDBStorage:
    """Open an sqlite storage in which readers and the one writer do not wait for each other."""
    storage = _OneWriterStorage(sqlite_uri(path), engine_kwargs={"connect_args": {"timeout": 60}})

    def set_pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log a power cut can lose the last transactions, never the database.
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(storage.engine, "connect", set_pragmas)
    # Connections made while the tables were created do not have them yet.
    storage.engine.dispose()
    return storage
