"""Restores the snapshot of a search from its bucket, for a new head in place of a lost one."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from search.backup.backup import as_bad_input
from search.backup.bucket_lock import last_driver
from search.backup.snapshots import EXPERIMENT, JOURNAL, STUDY, is_copied
from search.console import note
from search.experiment.folder import Home, SearchFolder
from search.experiment.schema import Experiment
from search.experiment.yaml_text import read_yaml, write_yaml
from search.formatting import root_cause
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore


def restore(home: Home, name: str, storage: str) -> SearchFolder | None:
    """Restore the folder of a search from its last snapshot.

    Args:
        home: receives the folder; must not hold a search of that name.
        name: of the search.
        storage: ``s3://bucket/prefix``; searches are below it by name.

    Returns:
        The folder; None if the storage holds no search of that name.

    Raises:
        BadInputError: a driver is running the search, or the storage cannot be used.
    """
    folder = home.folder(name)
    if folder.path.exists() and not folder.is_unfinished():
        problem = f"{folder.path} exists, but is not a search"
        raise BadInputError("NAME", name, problem, "move it away")
    # The import takes half a second, and only a search with a bucket needs it.
    from cluster.s3 import open_bucket  # noqa: PLC0415

    store = open_bucket(storage).within(name)
    with as_bad_input(storage):
        try:
            experiment = store.read(EXPERIMENT)
        except FileNotFoundError:
            return None
        driver = last_driver(store, name)
        aside = home.path / f".{name}.restored.{os.getpid()}"
        try:
            aside.mkdir(parents=True)
            _fill(SearchFolder(aside), store)
            if driver is not None:
                SearchFolder(aside).add_driver(driver.token)
            # The bucket may be a copy under another name.
            text = with_storage(experiment, storage)
            # Last, because this file marks a folder as a search.
            SearchFolder(aside).write_experiment(text)
            if folder.path.exists():
                shutil.rmtree(folder.path)
            aside.rename(folder.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def with_storage(experiment: bytes, storage: str) -> str:
    """Return a stored experiment whose storage is this one.

    Raises:
        BadInputError: it is damaged.
    """
    try:
        document = read_yaml(experiment.decode(), Experiment)
    except ValueError:
        document = None
    if not isinstance(document, dict):
        problem = f"its {EXPERIMENT} is damaged"
        raise BadInputError("storage", storage, problem, "restore an earlier version of the object")
    return write_yaml(document | {"storage": storage})


def restore_missing(home: Home, name: str, storage: str | None) -> None:
    """Restore a search without a local folder from its backup, if it has one.

    Raises:
        BadInputError: see `restore`.
    """
    if storage is None or home.folder(name).experiment.exists():
        return
    try:
        restored = restore(home, name, storage)
    except OSError as error:
        problem = f"cannot restore the search from {storage} ({root_cause(error)})"
        remedy = "free disk space, or name another folder"
        raise BadInputError("--home", home.path, problem, remedy) from error
    if restored is not None:
        note(f"search {name}: restored from {storage}")


def _fill(folder: SearchFolder, store: BucketStore) -> None:
    for entry in store.entries():
        if entry.name == STUDY or (is_copied(entry.name) and entry.name != EXPERIMENT):
            path = folder.path / entry.name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(store.read(entry.name))
    _join_journal(folder.journal, store.within(JOURNAL.rstrip("/")))


def _join_journal(path: Path, store: BucketStore) -> None:
    """Join the parts of a journal up to the first gap."""
    with path.open("wb") as file:
        for entry in sorted(store.entries(), key=lambda entry: entry.name):
            if int(entry.name) != file.tell():
                return
            file.write(store.read(entry.name))
