"""Defines the interface of storage that outlives a machine: a folder or a prefix in S3.

Writes are atomic. Stores know nothing about their contents.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SCHEME = "s3://"


class StorageError(OSError):
    """Storage cannot be used; the message is one line.

    Args:
        location: location of the storage, as given by the user.
        problem: why it cannot be used.
        remedy: what to do.
        passing: whether the problem may pass, so that a retry makes sense.
    """

    def __init__(self, location: str, problem: str, remedy: str, *, passing: bool = False) -> None:
        self.location = location
        self.problem = problem
        self.remedy = remedy
        self.passing = passing
        super().__init__(f"{location}: {problem}; {remedy}")

    def __reduce__(self) -> tuple[object, ...]:
        return _rebuild, (self.location, self.problem, self.remedy, self.passing)


def _rebuild(location: str, problem: str, remedy: str, passing: bool) -> StorageError:
    return StorageError(location, problem, remedy, passing=passing)


@dataclass(frozen=True, slots=True)
class Entry:
    """A file or object of a store.

    Attributes:
        name: name relative to the store, with ``/`` between parts.
        size: size in bytes.
        version: changes whenever the content changes.
    """

    name: str
    size: int
    version: str


class Store(Protocol):
    """A folder or bucket prefix with named contents.

    Every call raises OSError if the place cannot be used; for a bucket a `StorageError`.
    """

    @property
    def location(self) -> str:
        """Location as written by users."""

    @property
    def timeout(self) -> float:
        """Maximum delay of a call by unavailable storage, in seconds."""

    def within(self, name: str) -> Store:
        """Return the store of everything below a name."""

    def exists(self) -> bool:
        """Tell whether the place exists."""

    def entries(self) -> list[Entry]:
        """Return all entries, recursively, sorted by name."""

    def names(self) -> list[str]:
        """Return the distinct first parts of all names, sorted."""

    def read(self, name: str) -> bytes:
        """Return the content of an entry.

        Raises:
            FileNotFoundError: the entry does not exist.
        """

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write or replace an entry atomically."""

    def remove(self, name: str) -> None:
        """Remove an entry if it exists."""

    def clear(self) -> None:
        """Remove all entries."""


def is_bucket(location: Path | str) -> bool:
    """Tell whether a location is an S3 bucket, with or without a prefix."""
    return isinstance(location, str) and location.startswith(SCHEME)


def below(location: Path | str, *names: str) -> Path | str:
    """Return the location below another."""
    if isinstance(location, Path):
        return location.joinpath(*names)
    return "/".join([location.rstrip("/"), *names])


def probe(store: Store) -> None:
    """Check that a store can be listed, written, read and cleaned up.

    Raises:
        OSError: it cannot.
    """
    name, content = f".probe-{uuid.uuid4().hex}", b"Can this be written, read and removed?"
    store.names()
    store.write(name, content)
    try:
        back = store.read(name)
    finally:
        store.remove(name)
    if back != content:
        raise StorageError(
            store.location, "it returns other content than was written", "use another"
        )
