"""Opens stores; implements the store in a folder (see `cluster.s3` for buckets)."""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cluster.files import PARTIAL_SUFFIX, write_atomically
from cluster.storage import Entry, Store, is_bucket


def open_store(location: Path | str) -> Store:
    """Return the store at a location without accessing it.

    Args:
        location: a folder, or ``s3://bucket/prefix``.

    Raises:
        ValueError: the location is invalid.
    """
    if isinstance(location, str) and is_bucket(location):
        # Importing boto3 takes half a second, so only buckets do it.
        from cluster.s3 import open_bucket  # noqa: PLC0415

        return open_bucket(location)
    return FolderStore(Path(location))


@dataclass(frozen=True)
class FolderStore:
    """A store in a folder, which is created at the first write."""

    path: Path

    @property
    def location(self) -> str:
        """See `Store`."""
        return str(self.path)

    @property
    def timeout(self) -> float:
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
                if file.startswith(".") and file.endswith(PARTIAL_SUFFIX):
                    continue  # Being written, or left by a killed process.
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
        write_atomically(path, content)

    def remove(self, name: str) -> None:
        """See `Store`."""
        (self.path / name).unlink(missing_ok=True)

    def clear(self) -> None:
        """See `Store`."""
        shutil.rmtree(self.path, ignore_errors=True)
