"""A cache folder whose entries are created once, even by concurrent processes."""

import fcntl
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import platformdirs

from spaces.errors import BadInputError
from trainables.images.errors import cause

VARIABLE = "BORDERLINE_CACHE"

_ENTRIES = "decoded"

Entry = TypeVar("Entry")


def cache_root(given: Path | None = None) -> Path:
    """Return the cache folder: as given, else BORDERLINE_CACHE, else the user's cache folder."""
    if given is not None:
        return given.expanduser().absolute()
    if configured := os.environ.get(VARIABLE):
        return Path(configured).expanduser().absolute()
    return platformdirs.user_cache_path("borderline")


def fetch(
    root: Path, key: str, read: Callable[[Path], Entry | None], make: Callable[[Path], None]
) -> Entry:
    """Return an entry, creating it if it is missing.

    Entries appear atomically: they are created in a temporary folder, which is then renamed. The
    remains of a killed process are removed when the entry is next created.

    Args:
        root: the cache folder; created if missing.
        key: name of the entry.
        read: opens a finished folder; returns None if it is missing or damaged.
        make: fills an empty folder, while other processes wait for the same entry.

    Raises:
        BadInputError: the cache folder cannot be used.
    """
    entries = root / _ENTRIES
    finished = entries / key
    with usable(root):
        # Without the lock, so that a read-only cache works.
        if (entry := read(finished)) is not None:
            return entry
        entries.mkdir(parents=True, exist_ok=True)
    with locked(root, entries / f"{key}.lock"):
        unfinished = entries / f"{key}.partial"
        with usable(root):
            if (entry := read(finished)) is not None:
                return entry
            _remove(unfinished)
            _remove(finished)
            unfinished.mkdir()
        try:
            make(unfinished)
            with usable(root):
                unfinished.rename(finished)
        except BaseException:
            shutil.rmtree(unfinished, ignore_errors=True)
            raise
        if (entry := read(finished)) is None:
            raise RuntimeError(f"the entry {finished} cannot be read right after it was written")
        return entry


def root_of(entry: Path) -> Path:
    """Return the cache folder of an entry's folder."""
    return entry.parents[1]


@contextmanager
def usable(root: Path) -> Iterator[None]:
    """Convert a failure of the cache's disk to a `BadInputError` with a remedy."""
    try:
        yield
    except OSError as error:
        raise BadInputError(
            VARIABLE,
            root,
            f"the cache folder cannot be used ({error.strerror or cause(error)})",
            f"set {VARIABLE} to a folder that can be written and has room",
        ) from error


@contextmanager
def locked(root: Path, path: Path) -> Iterator[None]:
    """Hold a lock file; the kernel releases it when the process dies.

    Not `filelock`: the file is removed on release, so a cache holds no leftovers.

    Args:
        root: the cache folder.
        path: the lock file, which exists only while it is held.

    Raises:
        BadInputError: the cache folder cannot be used.
    """
    with usable(root):
        descriptor = _lock(path)
    try:
        yield
    finally:
        # Remove it while held: a waiting process notices that its file was removed.
        path.unlink(missing_ok=True)
        os.close(descriptor)


def _lock(path: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        except FileNotFoundError:
            pass
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)


def _remove(folder: Path) -> None:
    if folder.exists():
        shutil.rmtree(folder)
