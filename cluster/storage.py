"""Where files lie that outlive a machine: a folder, or a prefix of an S3 bucket.

What is written is there whole or not at all, whichever it is. The stores know nothing of what they
hold.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SCHEME = "s3://"


class StorageError(OSError):
    """A storage that cannot be used, in one plain line.

    Args:
        location: of the storage, as the user wrote it.
        problem: why it cannot be used.
        remedy: what to do about it.
        passing: it may work again by itself, so that it is worth trying again.
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
    """What a store holds under a name.

    Attributes:
        name: relative to the store, with ``/`` between parts.
        size: in bytes.
        version: changes whenever the content does.
    """

    name: str
    size: int
    version: str


class Store(Protocol):
    """A place for named contents.

    Every call raises OSError where the place cannot be used; of a bucket it is a `StorageError`.
    """

    @property
    def location(self) -> str:
        """Where it is, as the user would write it."""

    @property
    def timeout(self) -> float:
        """Seconds that a call may take beyond the transfer itself where the place is away."""

    def within(self, name: str) -> Store:
        """Return the store of all that lies below a name."""

    def exists(self) -> bool:
        """Tell whether anything lies here, or did."""

    def entries(self) -> list[Entry]:
        """Return all that lies here and below, by name."""

    def names(self) -> list[str]:
        """Return the first part of the name of each, once."""

    def read(self, name: str) -> bytes:
        """Return a content.

        Raises:
            FileNotFoundError: there is none of that name.
        """

    def write(self, name: str, content: bytes | memoryview) -> None:
        """Write a content, whole or not at all, in place of what has that name."""

    def remove(self, name: str) -> None:
        """Remove a content; that there is none is no error."""

    def clear(self) -> None:
        """Remove all that lies here and below."""


def is_bucket(location: Path | str) -> bool:
    """Tell whether a location is an S3 bucket, with or without a prefix."""
    return isinstance(location, str) and location.startswith(SCHEME)


def below(location: Path | str, *names: str) -> Path | str:
    """Return the location of what lies below another."""
    if isinstance(location, Path):
        return location.joinpath(*names)
    return "/".join([location.rstrip("/"), *names])


def probe(store: Store) -> None:
    """Check that a place can be listed, written, read and cleared, and leave it as it was.

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
        raise StorageError(store.location, "what is written comes back changed", "use another")
