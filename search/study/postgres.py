"""One driver at a time for each study on a Postgres server.

A driver holds an advisory lock of the server on the very connection that it writes through: what it
writes, it writes while it holds the lock. The server lets go of the lock with the connection, so
that of a driver that died stands in nobody's way.
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
"""Bytes that Postgres keeps of a connection's name."""
_TRIES, _PAUSE = 10, 0.2


class PostgresLock:
    """The right to write a study, on every connection that the driver of a database makes.

    Args:
        name: of the study.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        begin, end = f"borderline {os.getpid()}@", f" {uuid.uuid4().hex[:8]}"
        host = socket.gethostname().encode("ascii", "replace").decode()
        self._called = begin + host[: _LONGEST - len(begin) - len(end)] + end

    def __call__(self, connection: Any, _: object = None) -> None:
        """Take the lock for as long as a connection lives.

        Raises:
            BadInputError: another driver holds it; says which.
        """
        try:
            self._take(connection)
        except BadInputError:
            raise
        except Exception as error:
            # As SQLAlchemy raises it wherever else a connection breaks.
            raise sqlalchemy.exc.OperationalError("lock", None, error) from error

    def _take(self, connection: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SELECT set_config('application_name', %s, false)", (self._called,))
            # The server is to notice within a minute when the machine of a driver is gone.
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
        """End a connection before this one that the server has not noticed to be dead."""
        cursor.execute(_HOLDERS, (_key(self._name),))
        found = cursor.fetchone()
        if found is None:
            return True  # It has been let go of just now.
        if found[1] != self._called:
            return False
        cursor.execute("SELECT pg_terminate_backend(%s)", (found[0],))
        return True


def find_holder(engine: sqlalchemy.Engine, name: str) -> str | None:
    """Return by whom a study is being run, in words; None where nobody runs it."""
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
