"""Opens the sqlite file or Postgres server of a study, and reads stored studies.

An error is one plain line that names the location without its password.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search.formatting import root_cause
from search.private_apis import one_writer_storage, server_storage
from search.study.postgres import PostgresLock
from search.urls import engine_url, parse_url, shown_url, sqlite_file_uri, sqlite_uri
from spaces.errors import BadInputError

_CONNECT = {"connect_timeout": 10}


def check_server(url: str, name: str, *, new: bool) -> None:
    """Check that a server accepts a study, before anything is written locally.

    Raises:
        BadInputError: the server cannot be reached, another driver is running the study, or the
            name of a new study is taken.
    """
    storage = open_storage(url, name)
    try:
        storage.get_study_id_from_name(name)
    except KeyError:
        return
    finally:
        storage.engine.dispose()
    if new:
        raise name_taken(url, name)


def is_written(url: str, name: str) -> bool:
    """Tell whether a driver on any machine is running a study on a server.

    Raises:
        BadInputError: the server cannot be reached.
    """
    try:
        lock = PostgresLock(engine_url(url), name, {"connect_args": _CONNECT})
        return lock.holder() is not None
    except (ImportError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _unreadable(url, error) from None


def read_trials(location: Path | str, name: str) -> list[FrozenTrial]:
    """Return the trials of a stored study; a driver may be writing it.

    Raises:
        BadInputError: there is no such study.
    """
    if isinstance(location, Path) and not location.is_file():
        raise _no_study(location, name)
    storage = _open_to_read(location)
    try:
        return storage.get_all_trials(storage.get_study_id_from_name(name), deepcopy=False)
    except KeyError:
        raise _no_study(location, name) from None
    except sqlalchemy.exc.DatabaseError as error:
        raise _unreadable(location, error) from None
    finally:
        storage.engine.dispose()


def _open_to_read(location: Path | str) -> RDBStorage:
    """Open the storage of studies, also for a user who may read it but not write.

    Raises:
        BadInputError: it cannot be read.
    """
    if not isinstance(location, Path) or _is_writable(location):
        return open_storage(location)
    # Without the log of a writer, sqlite would have to create it beside the database.
    log = location.with_name(f"{location.name}-wal")
    mode = "ro" if log.exists() else "ro&immutable=1"
    url = _template(f"{sqlite_file_uri(location)}?mode={mode}&uri=true")
    try:
        return one_writer_storage()(url, skip_table_creation=True)
    except (StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _unreadable(location, error) from None


def _is_writable(path: Path) -> bool:
    """Tell whether this user may write a file and others beside it, as sqlite does."""
    return all(os.access(each, os.W_OK, effective_ids=True) for each in (path, path.parent))


def shown(location: Path | str) -> str:
    """Return the location of a study without its password."""
    if isinstance(location, Path):
        return str(location)
    return shown_url(parse_url(location))


def name_taken(location: Path | str, name: str) -> BadInputError:
    """Return the error for a new study whose name is taken."""
    problem = f"{shown(location)} already holds a study of that name"
    return BadInputError("name", name, problem, "choose another name")


def _no_study(location: Path | str, name: str) -> BadInputError:
    problem = f"there is no study in {shown(location)}"
    return BadInputError("NAME", name, problem, "name a search that has run")


def _unreadable(location: Path | str, error: Exception) -> BadInputError:
    cause = root_cause(error)
    if isinstance(location, Path):
        problem, remedy = f"cannot be read ({cause})", "restore it, or name another search"
        return BadInputError("study", location, problem, remedy)
    remedy = "check that the server runs and accepts you; PGPASSWORD may hold the password"
    if isinstance(error, ImportError):
        remedy = "install its driver: pip install psycopg2-binary"
    return BadInputError("database", shown(location), f"cannot be used ({cause})", remedy)


def open_storage(location: Path | str, claimed: str | None = None) -> RDBStorage:
    """Open the storage of studies at a place.

    Args:
        location: an sqlite file, or the URL of a Postgres server such as ``postgresql://host/name``.
        claimed: the study to write; while the storage is open, a server refuses other drivers of
            this study.

    Raises:
        BadInputError: the location cannot be reached, or another driver is running the study.
    """
    try:
        if isinstance(location, Path):
            return _open_file(location)
        return _open_server(engine_url(location), claimed)
    except (ImportError, StorageInternalError, sqlalchemy.exc.SQLAlchemyError) as error:
        raise _unreadable(location, error) from None


def _open_server(url: sqlalchemy.URL, claimed: str | None) -> RDBStorage:
    text = _template(url.render_as_string(hide_password=False))
    # Replaces a connection that the server has closed before it is used.
    settings: dict[str, Any] = {"pool_pre_ping": True, "connect_args": _CONNECT}
    try:
        storage = server_storage()(text, engine_kwargs=settings)
    except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError):
        # Another process has just created the tables.
        storage = server_storage()(text, engine_kwargs=settings)
    if claimed is not None:
        storage.engine.dispose()
        storage.remove_session()
        lock = PostgresLock(url, claimed, settings)
        lock.acquire()
        # Disposing of the engine, as the database does in the end, releases the lock.
        storage.engine = lock.engine
        storage.scoped_session.configure(bind=lock.engine)
    return storage


def _template(url: str) -> str:
    """Escape an address for Optuna, which formats it with ``str.format``."""
    return url.replace("{", "{{").replace("}", "}}")


def _open_file(path: Path) -> RDBStorage:
    """Open an sqlite storage whose readers and single writer do not block each other."""
    url = _template(sqlite_uri(path))
    storage = one_writer_storage()(url, engine_kwargs={"connect_args": {"timeout": 60}})

    def set_pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log, a power cut can lose the last transactions, never the database.
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(storage.engine, "connect", set_pragmas)
    # Connections that created the tables lack these pragmas.
    storage.engine.dispose()
    return storage
