"""Making the local MLflow store: a database file that is complete before anything opens it."""

from __future__ import annotations

import sqlite3
import uuid
from contextlib import closing
from pathlib import Path
from urllib.parse import unquote

from filelock import FileLock
from mlflow import MlflowClient

from search.urls import sqlite_uri


def prepare(tracking_uri: str) -> None:
    """Make sure that a database file can be opened; create it, complete, where there is none.

    Other stores need nothing.

    Raises:
        OSError: the file cannot be written.
        sqlite3.Error: the file is no database.
    """
    if not tracking_uri.startswith("sqlite:///"):
        return
    database = Path(unquote(tracking_uri.removeprefix("sqlite:///").partition("?")[0]))
    if not database.name or database.name == ":memory:":
        return
    if not database.exists():
        _build_aside(database)
    # MLflow would try for a minute and a half before it says what is wrong.
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


def _build_aside(database: Path) -> None:
    """Create an MLflow database under another name and move it into place whole.

    MLflow's migrations are no transaction: a process that is ended among them leaves a file that
    MLflow refuses for good, and two that run them at once get in each other's way.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        for left in database.parent.glob(f".{database.name}.new-*"):
            left.unlink()
        # MLflow keeps connections by name for as long as the process lives: never use one twice.
        aside = database.with_name(f".{database.name}.new-{uuid.uuid4().hex}")
        MlflowClient(sqlite_uri(aside))
        aside.replace(database)
