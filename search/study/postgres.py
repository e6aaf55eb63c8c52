"""The driver lock of a study on a Postgres server.

The lock is an advisory lock of the server, held on the one connection that the driver writes
through: every write happens while the lock is held. The server releases it with the connection, so
a dead driver blocks nobody.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
import time
import uuid
from collections.abc import Mapping
from contextlib import closing
from typing import Any

import sqlalchemy

from search.study.driver_lock import refusal
from spaces.errors import BadInputError

_LONGEST = 63
"""Bytes that Postgres keeps of a connection's name."""
_TRIES, _PAUSE = 10, 0.2


class PostgresLock:
    """See `search.study.driver_lock.DriverLock`.

    Args:
        url: of the server.
        name: of the study.
        settings: of `sqlalchemy.create_engine`.

    Attributes:
        engine: to write the study with. It has one connection. If that breaks, the engine makes a
            new one, which takes the lock again or raises BadInputError.
    """

    def __init__(
        self, url: sqlalchemy.URL, name: str, settings: Mapping[str, Any] | None = None
    ) -> None:
        self._url = url
        self._name = name
        self._settings = dict(settings or {})
        begin, end = f"borderline {os.getpid()}@", f" {uuid.uuid4().hex[:8]}"
        host = socket.gethostname().encode("ascii", "replace").decode()
        self._connection_name = begin + host[: _LONGEST - len(begin) - len(end)] + end
        self.engine = sqlalchemy.create_engine(url, pool_size=1, max_overflow=0, **self._settings)
        sqlalchemy.event.listen(self.engine, "connect", self._on_connect)

    def acquire(self) -> None:
        """See `search.study.driver_lock.DriverLock`."""
        try:
            self.engine.connect().close()
        except BaseException:
            self.engine.dispose()
            raise

    def release(self) -> None:
        """See `search.study.driver_lock.DriverLock`."""
        self.engine.dispose()

    def holder(self) -> str | None:
        """See `search.study.driver_lock.DriverLock`."""
        engine = sqlalchemy.create_engine(self._url, **self._settings)
        try:
            with engine.connect() as connection, closing(connection.connection.cursor()) as cursor:
                return _holder(cursor, self._name)
        finally:
            engine.dispose()

    def _on_connect(self, connection: Any, _: object) -> None:
        """Take the lock for the lifetime of a connection.

        Raises:
            BadInputError: another driver holds it.
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
            cursor.execute(
                "SELECT set_config('application_name', %s, false)", (self._connection_name,)
            )
            # The server notices within a minute that the machine of a driver is gone.
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
            holder = _holder(cursor, self._name) or "by another process"
        connection.rollback()
        raise refusal(self._name, holder)

    def _end_own(self, cursor: Any) -> bool:
        """End an earlier connection of this lock that broke without the server noticing."""
        cursor.execute(_HOLDERS, (_key(self._name),))
        found = cursor.fetchone()
        if found is None:
            return True  # Released just now.
        if found[1] != self._connection_name:
            return False
        cursor.execute("SELECT pg_terminate_backend(%s)", (found[0],))
        return True


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
    _, connection_name, since = found
    match = re.match(r"borderline (\d+)@(\S*)", connection_name or "")
    if match is None:
        return "by another process"
    began = since.astimezone().isoformat(timespec="seconds") if since else "?"
    return f"by process {match[1]} on {match[2]} since {began}"


def _key(name: str) -> int:
    digest = hashlib.blake2b(f"borderline/{name}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)
