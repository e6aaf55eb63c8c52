"""A folder of finished entries, each made once however many processes ask for it at once."""

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
    """Return the cache folder: as given, or as BORDERLINE_CACHE says, or the user's own."""
    if given is not None:
        return given.expanduser().absolute()
    if configured := os.environ.get(VARIABLE):
        return Path(configured).expanduser().absolute()
    return platformdirs.user_cache_path("borderline")


def fetch(
    root: Path, key: str, read: Callable[[Path], Entry | None], make: Callable[[Path], None]
) -> Entry:
    """Return an entry, making it first where it is missing.

    An entry appears whole or not at all: it is made in a folder beside and then renamed. What a
    killed process left of it is removed when the entry is next made.

    Args:
        root: the cache folder; created where missing.
        key: name of the entry.
        read: opens the finished folder; None where it is missing or damaged.
        make: fills an empty folder. Other processes that want the same entry wait for it.

    Raises:
        BadInputError: the cache folder cannot be used.
    """
    entries = root / _ENTRIES
    finished = entries / key
    with usable(root):
        # Without the lock, so that a cache shared read-only can be used.
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
    """Return the cache folder that an entry's folder lies in."""
    return entry.parents[1]


@contextmanager
def usable(root: Path) -> Iterator[None]:
    """Turn a failure of the cache's disk into advice on where else the cache may be."""
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
    """Hold a lock file; the kernel lets go of it when a process dies, however it dies.

    Args:
        root: the cache folder.
        path: of the file, which is there only while someone holds it.

    Raises:
        BadInputError: the cache folder cannot be used.
    """
    with usable(root):
        descriptor = _lock(path)
    try:
        yield
    finally:
        # While still held: a process that waits on the removed file sees that it was removed.
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
