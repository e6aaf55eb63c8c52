"""Where files lie that outlive a machine: a folder, or a prefix of an S3 bucket.

What is written is there whole or not at all, whichever it is. The stores know nothing of what they
hold.
"""

from __future__ import annotations

import os
import shutil
import uuid
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

SCHEME = "s3://"
_ASIDE = ".part"


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
    def patience(self) -> float:
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


def open_store(location: Path | str) -> Store:
    """Return the store at a location; nothing is looked at or made yet.

    Args:
        location: a folder, or ``s3://bucket/prefix``.

    Raises:
        ValueError: it is no such location.
    """
    if isinstance(location, str) and is_bucket(location):
        # Costs half a second, which only those pay who have a bucket.
        from cluster.s3 import open_bucket  # noqa: PLC0415

        return open_bucket(location)
    return FolderStore(Path(location))


@dataclass(frozen=True)
class FolderStore:
    """A folder, which is made when the first content is written."""

    path: Path

    @property
    def location(self) -> str:
        """See `Store`."""
        return str(self.path)

    @property
    def patience(self) -> float:
        """See `Store`."""
        return 0.0

    def within(self, name: str) -> FolderStore:
        """See `Store`."""
        return FolderStore(self.path / name)

    def exists(self) -> bool:
        """See `Store`."""
        return self.path.is_dir()

    def entries(self) -> list[Entry]:
        """See `Store`."""
        found = []
        for folder, _, files in os.walk(self.path):
            for file in files:
                if file.startswith(".") and file.endswith(_ASIDE):
                    continue  # Being written, or left by who was killed while writing.
                path = Path(folder, file)
                with suppress(FileNotFoundError):
                    status = path.stat()
                    name = path.relative_to(self.path).as_posix()
                    found.append(Entry(name, status.st_size, f"{status.st_mtime_ns}"))
        return sorted(found, key=lambda entry: entry.name)

    def names(self) -> list[str]:
        """See `Store`."""
        return sorted(path.name for path in self.path.iterdir()) if self.path.is_dir() else []

    def read(self, name: str) -> bytes:
        """See `Store`."""
        return (self.path / name).read_bytes()

    def write(self, name: str, content: bytes | memoryview) -> None:
        """See `Store`."""
        path = self.path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        aside = path.parent / f".{uuid.uuid4().hex}{_ASIDE}"
        try:
            # Not forced to the disk: whoever must know tells by a digest what a power cut tears.
            aside.write_bytes(content)
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise

    def remove(self, name: str) -> None:
        """See `Store`."""
        (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See `Store`."""
        shutil.rmtree(self.path, ignore_errors=True)


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
