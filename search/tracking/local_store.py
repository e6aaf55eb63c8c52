"""Creates the local MLflow store: a database file that is complete before anything opens it."""

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
    """Create a missing database file and check that it opens; do nothing for another store.

    Raises:
        OSError: the file cannot be written.
        sqlite3.Error: the file is not a database.
    """
    if not tracking_uri.startswith("sqlite:///"):
        return
    database = Path(unquote(tracking_uri.removeprefix("sqlite:///").partition("?")[0]))
    if not database.name or database.name == ":memory:":
        return
    if not database.exists():
        _build_aside(database)
    # MLflow itself would retry for a minute and a half before it reports an error.
    with closing(sqlite3.connect(database)) as connection:
        connection.execute("PRAGMA schema_version")


def _build_aside(database: Path) -> None:
    """Create an MLflow database under another name and move it into place whole.

    MLflow's migrations are not a transaction. A process killed during them leaves a file that
    MLflow refuses for good, and two processes that run them at once break each other.
    """
    database.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(database.with_name(f".{database.name}.lock")):
        if database.exists():
            return
        for left in database.parent.glob(f".{database.name}.new-*"):
            left.unlink()
        # MLflow caches connections by name for the whole process: never use a name twice.
        aside = database.with_name(f".{database.name}.new-{uuid.uuid4().hex}")
        MlflowClient(sqlite_uri(aside))
        aside.replace(database)
