"""The driver lock on one machine: a file, whose lock the system releases when its holder dies."""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from contextlib import AbstractContextManager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import TextIO

from search.study.driver_lock import held, refusal

_TRIES, _PAUSE = 5, 0.1


class DriverFileLock:
    """See `search.study.driver_lock.DriverLock`.

    `filelock.FileLock` would not do: who holds the lock is written into the file, and `holder` asks
    with a shared lock that changes nothing.

    Args:
        path: of the file, which the lock creates.
        name: of the search.
        activity: see `search.study.driver_lock.refusal`.
    """

    def __init__(self, path: Path, name: str, activity: str = "it") -> None:
        self._path = path
        self._name = name
        self._activity = activity
        self._file: TextIO | None = None

    def acquire(self) -> None:
        """See `search.study.driver_lock.DriverLock`."""
        file = self._path.open("a+", encoding="utf-8")
        try:
            self._lock(file)
            file.seek(0)
            file.truncate()
            since = datetime.now(UTC).isoformat(timespec="seconds")
            json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
            file.flush()
        except BaseException:
            with suppress(OSError):  # A full disk fails again on close.
                file.close()
            raise
        self._file = file

    def _lock(self, file: TextIO) -> None:
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)  # `holder` takes the lock for a moment, too.
            else:
                return
        raise refusal(self._name, _read_holder(self._path), activity=self._activity)

    def release(self) -> None:
        """See `search.study.driver_lock.DriverLock`."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def holder(self) -> str | None:
        """See `search.study.driver_lock.DriverLock`."""
        try:
            with self._path.open("r", encoding="utf-8") as file:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return _read_holder(self._path)
        except OSError:
            return None  # Without a file there is no holder.
        return None


def hold(path: Path, name: str, activity: str = "it") -> AbstractContextManager[None]:
    """Hold a `DriverFileLock` inside a block.

    Raises:
        BadInputError: another driver holds it.
    """
    return held(DriverFileLock(path, name, activity))


def _read_holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"by process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"
