"""Allows one driver at a time for each search on a machine.

The system releases the lock when its holder dies. The lock file says who holds it, which the
`filelock` library does not offer.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from spaces.errors import BadInputError

_TRIES, _PAUSE = 5, 0.1


@contextmanager
def hold(path: Path, name: str, what: str = "it") -> Iterator[None]:
    """Hold the lock of a search.

    Args:
        path: the lock file, which names its holder.
        name: of the search.
        what: subject of the error message: what the holder is running.

    Raises:
        BadInputError: another driver holds it; the message names the driver.
    """
    with path.open("a+", encoding="utf-8") as file:
        # `is_held` takes the lock for a moment, too.
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(_PAUSE)
        else:
            problem = f"{what} is being run {_holder(path)}"
            raise BadInputError("NAME", name, problem, "wait for it, or stop it first")
        file.seek(0)
        file.truncate()
        since = datetime.now(UTC).isoformat(timespec="seconds")
        json.dump({"host": socket.gethostname(), "pid": os.getpid(), "since": since}, file)
        file.flush()
        yield


def is_held(path: Path) -> bool:
    """Tell whether a driver is running the search."""
    try:
        with path.open("r", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            return False
    except OSError:
        return False


def _holder(path: Path) -> str:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        return f"by process {found['pid']} on {found['host']} since {found['since']}"
    except (OSError, ValueError, KeyError, TypeError):
        return "by another process"
