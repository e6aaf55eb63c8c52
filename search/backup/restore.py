"""A fresh head in place of a lost one: brings the snapshot of a search from its bucket."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from search.backup.backup import as_bad_input
from search.backup.bucket_lock import find_holder
from search.backup.snapshots import EXPERIMENT, JOURNAL, STUDY, is_copied
from search.console import note
from search.experiment.folder import Home, SearchFolder
from search.formatting import root_cause
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore


def restore(home: Home, name: str, storage: str) -> SearchFolder | None:
    """Restore the folder of a search from its last snapshot.

    Args:
        home: where the folder is made; it must not hold a search of that name.
        name: of the search.
        storage: ``s3://bucket/prefix``, in which searches lie by name.

    Returns:
        The folder; None where the storage holds no search of that name.

    Raises:
        BadInputError: a driver is running the search, or the storage cannot be used.
    """
    folder = home.folder(name)
    if folder.path.exists() and not folder.is_unfinished():
        problem = f"{folder.path} is in the way, and no search"
        raise BadInputError("NAME", name, problem, "move it away")
    # Costs half a second, which only those pay who have a bucket.
    from cluster.s3 import open_bucket  # noqa: PLC0415

    store = open_bucket(storage).within(name)
    with as_bad_input(storage):
        try:
            experiment = store.read(EXPERIMENT)
        except FileNotFoundError:
            return None
        holder = find_holder(store, name)
        aside = home.path / f".{name}.restored.{os.getpid()}"
        try:
            aside.mkdir(parents=True)
            _fill(SearchFolder(aside), store)
            if holder is not None:
                SearchFolder(aside).add_driver(holder.token)
            # The bucket may have been copied to where it is called otherwise.
            document = yaml.safe_load(experiment) | {"storage": storage}
            # Last, since by it a folder is known as a search.
            SearchFolder(aside).write_experiment(yaml.safe_dump(document, sort_keys=False))
            if folder.path.exists():
                shutil.rmtree(folder.path)
            aside.rename(folder.path)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return folder


def restore_missing(home: Home, name: str, storage: str | None) -> None:
    """Restore a search that is not here from where it is kept, if that is known and it is there.

    Raises:
        BadInputError: see `restore`.
    """
    if storage is None or home.folder(name).experiment.exists():
        return
    try:
        restored = restore(home, name, storage)
    except OSError as error:
        problem = f"cannot take the search from {storage} ({root_cause(error)})"
        raise BadInputError("--home", home.path, problem, "make room, or name another") from error
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
    """Put a journal together, as far as its parts follow each other."""
    with path.open("wb") as file:
        for entry in sorted(store.entries(), key=lambda entry: entry.name):
            if int(entry.name) != file.tell():
                return
            file.write(store.read(entry.name))
