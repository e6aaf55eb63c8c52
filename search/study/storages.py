"""Where studies lie: opening an sqlite file or a Postgres server, and reading what is there.

What cannot be opened or read is one plain line that names it, never with a password.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import sqlalchemy
from optuna.exceptions import StorageInternalError
from optuna.storages import RDBStorage
from optuna.trial import FrozenTrial

from search.formatting import root_cause
from search.private_apis import one_writer_storage, server_storage
from search.study.postgres import PostgresLock, find_holder
from search.urls import engine_url, parse_url, shown_url, sqlite_uri
from spaces.errors import BadInputError

_CONNECT = {"connect_timeout": 10}


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
        raise name_taken(url, name)


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


def name_taken(location: Path | str, name: str) -> BadInputError:
    """Return the refusal of a new study under a name that another one has."""
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
    remedy = "see that the server runs and lets you in; PGPASSWORD may hold the password"
    if isinstance(error, ImportError):
        remedy = "install its driver: pip install psycopg2-binary"
    return BadInputError("database", shown(location), f"cannot be used ({cause})", remedy)


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
        storage = server_storage()(text, engine_kwargs=settings)
    except (sqlalchemy.exc.ProgrammingError, sqlalchemy.exc.IntegrityError):
        # Someone else has made the tables just now.
        storage = server_storage()(text, engine_kwargs=settings)
    if claimed is not None:
        storage.engine.dispose()
        storage.remove_session()
        # The one connection that there is holds the claim.
        storage.engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, **settings)
        sqlalchemy.event.listen(storage.engine, "connect", PostgresLock(claimed))
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
    storage = one_writer_storage()(url, engine_kwargs={"connect_args": {"timeout": 60}})

    def set_pragmas(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")
        # With a write-ahead log a power cut can lose the last transactions, never the database.
        connection.execute("PRAGMA synchronous=NORMAL")

    sqlalchemy.event.listen(storage.engine, "connect", set_pragmas)
    # Connections made while the tables were created do not have them yet.
    storage.engine.dispose()
    return storage
