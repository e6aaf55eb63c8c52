"""The lock that lets one driver at a time run a search, whatever holds it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol

from spaces.errors import BadInputError


class DriverLock(Protocol):
    """The right to run a search.

    Three means implement it: `search.study.file_lock.DriverFileLock` for drivers on one machine,
    `search.study.postgres.PostgresLock` for a study on a server, and
    `search.backup.bucket_lock.BucketLock` for a search in a bucket. Only the last can be lost while
    it is held; it also calls back then.
    """

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            BadInputError: another driver holds it; names that driver.
        """

    def release(self) -> None:
        """Release the lock; does nothing if this object does not hold it."""

    def holder(self) -> str | None:
        """Return who holds the lock, as in "by process 7 on gpu-1 since ..", or None if it is free.

        Changes nothing, and may be asked by anyone.
        """


@contextmanager
def held(lock: DriverLock) -> Iterator[None]:
    """Hold a lock inside the block.

    Raises:
        BadInputError: another driver holds it.
    """
    lock.acquire()
    try:
        yield
    finally:
        lock.release()


def refusal(
    name: str,
    holder: str,
    *,
    activity: str = "it",
    remedy: str = "wait for it, or stop it first",
) -> BadInputError:
    """Return the error for a second driver.

    Args:
        name: of the search.
        holder: as `DriverLock.holder` returns it.
        activity: what the holder is running: the search ("it") or a part of it.
        remedy: what the second driver can do.
    """
    return BadInputError("NAME", name, f"{activity} is being run {holder}", remedy)
