"""Allows one driver at a time for each study on a Postgres server.

A driver holds an advisory lock of the server on the connection through which it writes, so every
write happens under the lock. The server releases the lock when the connection ends, so a driver
that died blocks nobody.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import uuid
from contextlib import closing
from typing import Any

import sqlalchemy

from spaces.errors import BadInputError

_LONGEST = 63
"""Length in bytes to which Postgres cuts the name of a connection."""
_TRIES, _PAUSE = 10, 0.2


class PostgresLock:
    """Takes the lock of a study on each new connection to the database.

    Args:
        name: of the study.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        begin, end = f"borderline {os.getpid()}@", f" {uuid.uuid4().hex[:8]}"
        host = socket.gethostname().encode("ascii", "replace").decode()
        self._called = begin + host[: _LONGEST - len(begin) - len(end)] + end

    def __call__(self, connection: Any, _: object = None) -> None:
        """Take the lock for the lifetime of a connection.

        Raises:
            BadInputError: another driver holds it; the message names the driver.
        """
        try:
            self._take(connection)
        except BadInputError:
            raise
        except Exception as error:
            # SQLAlchemy raises this error for a broken connection.
            raise sqlalchemy.exc.OperationalError("lock", None, error) from error

    def _take(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", (self._called,))
            # Lets the server notice within a minute that the machine of a driver is gone.
            for setting, value in (("idle", 15), ("interval", 15), ("count", 3)):
                cursor.execute(f"SET tcp_keepalives_{setting} = {value}")
            for _ in range(_TRIES):
                cursor.execute("SELECT pg_try_advisory_lock(%s)", (_key(self._name),))
                if cursor.fetchone()[0]:
                    connection.commit()
                    return
                if not self._end_own(cursor):
                    break
                time.sleep(_PAUSE)
            who = _holder(cursor, self._name) or "by another process"
        connection.rollback()
        problem = f"it is being run {who}"
        raise BadInputError("NAME", self._name, problem, "wait for it, or stop it first")

    def _end_own(self, cursor: Any) -> bool:
        """End an earlier connection of this driver that the server still believes to be alive."""
        cursor.execute(_HOLDERS, (_key(self._name),))
        found = cursor.fetchone()
        if found is None:
            return True  # It has just been released.
        if found[1] != self._called:
            return False
        cursor.execute("SELECT pg_terminate_backend(%s)", (found[0],))
        return True


def find_holder(engine: sqlalchemy.Engine, name: str) -> str | None:
    """Return in words which process is running a study; None if none is."""
    with engine.connect() as connection, closing(connection.connection.cursor()) as cursor:
        return _holder(cursor, name)


_HOLDERS = """
    SELECT activity.pid, activity.application_name, activity.backend_start
    FROM pg_locks AS locks JOIN pg_stat_activity AS activity ON activity.pid = locks.pid
    WHERE locks.locktype = 'advisory' AND locks.granted AND locks.objsubid = 1
        AND locks.database = (SELECT oid FROM pg_database WHERE datname = current_database())
        AND ((locks.classid::bigint << 32) | locks.objid::bigint) = %s
"""


def _holder(cursor: Any, name: str) -> str | None:
    cursor.execute(_HOLDERS, (_key(name),))
    found = cursor.fetchone()
    if found is None:
        return None
    _, called, since = found
    match = re.match(r"borderline (\d+)@(\S*)", called or "")
    if match is None:
        return "by another process"
    began = since.astimezone().isoformat(timespec="seconds") if since else "?"
    return f"by process {match[1]} on {match[2]} since {began}"


def _key(name: str) -> int:
    digest = hashlib.blake2b(f"borderline/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
