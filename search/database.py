"""The durable copy of a study, written in order by a thread of its own.

One candidate takes a database ten milliseconds and more, which neither Ray's event loop nor the
next draw should wait for. What is written, and what is told to observers after it, keeps its
order: a crash can lose the last moments, but nothing is ever reported that the database lacks.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import Queue
from typing import Any

import optuna
import sqlalchemy
from optuna.distributions import BaseDistribution, distribution_to_json
from optuna.exceptions import StorageInternalError, UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.storages._rdb import models
from optuna.trial import FrozenTrial, TrialState

from search.destination import sqlite_uri
from search.objectives import ACCURACY, Objective, directions
from search.server import Claim, engine_url, find_holder, parse_url, shown_url
from spaces.errors import BadInputError

PATIENCE = 120.0
"""Seconds that a server may be away before the search ends for want of it."""
IDENTITY = "search"
"""Attribute of a study: the search that it belongs to."""
_BACKLOG = 1000
"""Writes that may wait; beyond that the search waits for the database."""
_PAUSE = 1.0
_CONNECT = {"connect_timeout": 10}


class Database:
    """Writes the trials of one study to a database.

    Args:
        location: an sqlite file, created where absent, or the URL of a database server.
        name: of the study.
        objectives: of the study.
        resume: go on with the study if it is there already; see `load`.
        identity: of the search; a study of another search is not gone on with.

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
        self._patience = 0.0 if isinstance(location, Path) else PATIENCE
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
                raise _taken(location, name) from None
            study = self._storage.get_study_id_from_name(name)
        else:
            if identity:
                self._storage.set_study_user_attr(study, IDENTITY, identity)
        found = self._storage.get_study_user_attrs(study).get(IDENTITY)
        if identity and found and found != identity:
            raise _taken(location, name)
        return study

    def load(self) -> list[FrozenTrial]:
        """Return the trials that are there, in the order of their numbers; before any write."""
        trials = self._storage.get_all_trials(self._study, deepcopy=False)
        self._ids = {trial.number: trial._trial_id for trial in trials}
        return trials

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

    def set_state(self, number: int, state: TrialState) -> None:
        """Write that a trial is set aside (WAITING), or taken up again (RUNNING)."""
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
                    self._insist(call)
            except BaseException as error:
                # Also what would end the thread: nobody could wait for its writes any more.
                self._error = error
            finally:
                self._queue.task_done()
        self._queue.task_done()

    def _insist(self, call: Callable[[], None]) -> None:
        """Do something, again and again for a while where a server is away.

        Each write may be repeated: what the server had done, though its answer got lost, is not
        done twice.
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
                    until = now + self._patience
                    if now < until:
                        _say(f"the database does not answer ({_cause(error)}); waiting for it")
                if now >= until:
                    raise
                time.sleep(_PAUSE)
                continue
            if until is not None:
                _say("the database answers again")
            return


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        print(f"search.py: {line}", file=sys.stderr)  # noqa: T201


def check_server(url: str, name: str, *, new: bool) -> None:
    """Check, before anything is written here, that a server will take a study.

    Raises:
        BadInputError: it cannot be reached, another driver is running the study, or a new one has a
            name that is taken.
    """
    storage = open_storage(url, name)
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return
    finally:
        storage.engine.dispose()
    if new:
        raise _taken(url, name)


def is_written(url: str, name: str) -> bool:
    """Tell whether a driver, on whatever machine, is running a study on a server.

    Raises:
        BadInputError: the server cannot be reached.
    """
    try:
        engine = sqlalchemy.create_engine(engine_url(url), connect_args=_CONNECT)
        try:
            return find_holder(engine, name) is not None
        finally:
            engine.dispose()
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _unreadable(url, error) from None


def read_trials(location: Path | str, name: str) -> list[FrozenTrial]:
    """Return the trials of a stored study, also while a search is writing it.

    Raises:
        BadInputError: there is no such study.
    """
    if isinstance(location, Path) and not location.is_file():
        raise _no_study(location, name)
    storage = open_storage(location)
    try:
        return storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    except KeyError:
        raise _no_study(location, name) from None
    except sqlalchemy.exc.DatabaseError as error:
        raise _unreadable(location, error) from None
    finally:
        storage.engine.dispose()


def shown(location: Path | str) -> str:
    """Return where a study lies, without the password."""
    if isinstance(location, Path):
        return str(location)
    return shown_url(parse_url(location))


def _taken(location: Path | str, name: str) -> BadInputError:
    problem = f"{shown(location)} already holds a study of that name"
    return BadInputError("name", name, problem, "choose another name")


def _no_study(location: Path | str, name: str) -> BadInputError:
    problem = f"there is no study in {shown(location)}"
    return BadInputError("NAME", name, problem, "name a search that has run")


def _cause(error: BaseException) -> str:
    """Return what went wrong, at its root, in one line."""
    while error.__cause__ is not None:
        error = error.__cause__
    return " ".join(str(error).split())


def _unreadable(location: Path | str, error: Exception) -> BadInputError:
    cause = _cause(error)
    if isinstance(location, Path):
        problem, remedy = f"cannot be read ({cause})", "restore it, or name another search"
        return BadInputError("study", location, problem, remedy)
    remedy = "see that the server runs and lets you in; PGPASSWORD may hold the password"
    if isinstance(error, ImportError):
        remedy = "install its driver: pip install psycopg2-binary"
    return BadInputError("database", shown(location), f"cannot be used ({cause})", remedy)


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


class _ServerStorage(_OneWriterStorage):
    """The storage on a server, whose answer that a trial was entered may get lost."""

    def _get_prepared_new_trial(
        self, study_id: int, template_trial: FrozenTrial | None, session: Any
    ) -> models.TrialModel:
        if template_trial is not None:
            found: models.TrialModel | None = (
                session.query(models.TrialModel)
                .filter_by(study_id=study_id, number=template_trial.number)
                .one_or_none()
            )
            if found is not None:
                return found
        return super()._get_prepared_new_trial(study_id, template_trial, session)


def open_storage(location: Path | str, claimed: str | None = None) -> RDBStorage:
    """Open the storage of studies at a place.

    Args:
        location: an sqlite file, or the URL of a Postgres server such as ``postgresql://host/name``.
        claimed: the study that is to be written; on a server no other driver may write it as long
            as the storage is open.

    Raises:
        BadInputError: it cannot be reached, or another driver writes the study.
    """
    try:
        if isinstance(location, Path):
            return _open_file(location)
        return _open_server(engine_url(location), claimed)
    except (ImportError, StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _unreadable(location, error) from None


def _open_server(url: sqlalchemy.URL, claimed: str | None) -> RDBStorage:
    text = _template(url.render_as_string(hide_password=False))
    # A connection that the server has closed meanwhile is replaced before it is used.
    settings: dict[str, Any] = {"pool_pre_ping": True, "connect_args": _CONNECT}
    try:
        storage = _ServerStorage(text, engine_kwargs=settings)
    except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError):
        # Someone else has made the tables just now.
        storage = _ServerStorage(text, engine_kwargs=settings)
    if claimed is not None:
        storage.engine.dispose()
        storage.remove_session()
        # The one connection that there is holds the claim.
        storage.engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, **settings)
        sqlalchemy.event.listen(storage.engine, "connect", Claim(claimed))
        storage.scoped_session.configure(bind=storage.engine)
        try:
            storage.engine.connect().close()
        except BaseException:
            storage.engine.dispose()
            raise
    return storage


def _template(url: str) -> str:
    """Return an address as Optuna takes it, which fills in what stands in braces."""
    return url.replace("{", "{{").replace("}", "}}")


def _open_file(path: Path) -> RDBStorage:
    """Open an sqlite storage in which readers and the one writer do not wait for each other."""
    url = _template(sqlite_uri(path))
    storage = _OneWriterStorage(url, engine_kwargs={"connect_args": {"timeout": 60}})

    def set_pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log a power cut can lose the last transactions, never the database.
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(storage.engine, "connect", set_pragmas)
    # Connections made while the tables were created do not have them yet.
    storage.engine.dispose()
    return storage
