"""A real Postgres server for tests: on this machine alone, and gone when the test process is."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy

from search.urls import engine_url
from tests.requirements import lack

PASSWORD = "correct horse battery"
USER = "borderline"
# Postgres refuses to run as root; its package brings a user of its own.
AS_USER: dict[str, Any] = (
    {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
)
# Ends the server when its input does: with whoever holds the other end.
WATCHED = '"$1" -D "$2" & read -r _; kill -"${3:-INT}" $!; wait'


def find_binaries() -> Path | None:
    """Return the folder of the newest server that is installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3])
    )
    if found:
        return found[-1].parent
    known = shutil.which("initdb")
    return Path(known).parent if known else None


class Postgres:
    """A server that can be stopped and started; clients have to know a password."""

    def __init__(self, folder: Path, binaries: Path) -> None:
        self._binaries = binaries
        self._data = folder / "data"
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port: int = probe.getsockname()[1]
        secret = folder / "password"
        secret.write_text(PASSWORD)
        if AS_USER:
            for path in (folder, secret):
                shutil.chown(path, "postgres", "postgres")
        options = ("--auth=scram-sha-256", f"--pwfile={secret}", "--no-sync", "-E", "UTF8")
        subprocess.run(
            [binaries / "initdb", "-D", self._data, "-U", USER, *options],
            check=True,
            capture_output=True,
            cwd=folder,
            **AS_USER,
        )
        with (self._data / "postgresql.conf").open("a") as file:
            file.write(
                f"listen_addresses = '127.0.0.1'\nport = {self.port}\n"
                "unix_socket_directories = ''\nfsync = off\n"
            )

    def url(self, database: str = "postgres", *, password: bool = True) -> str:
        """Return the address of a database."""
        return sqlalchemy.URL.create(
            "postgresql",
            USER,
            PASSWORD if password else None,
            "127.0.0.1",
            self.port,
            database,
        ).render_as_string(hide_password=False)

    def start(self) -> None:
        """Start, and wait until it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", "-c", WATCHED, "sh", self._binaries / "postgres", self._data],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self._data.parent,
                **AS_USER,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                self.execute("SELECT 1")
            except sqlalchemy.exc.OperationalError:
                assert time.monotonic() < deadline, self._log.read_text()
                time.sleep(0.1)
            else:
                return

    def stop(self) -> None:
        """End all connections and the server, as for maintenance."""
        if self._process is not None:
            assert self._process.stdin is not None
            self._process.stdin.close()
            self._process.wait(60)
            self._process = None

    def execute(self, statement: str, database: str = "postgres") -> list[Any]:
        """Return what a statement gives, as its rows."""
        engine = sqlalchemy.create_engine(
            engine_url(self.url(database)), isolation_level="AUTOCOMMIT"
        )
        try:
            with engine.connect() as connection:
                result = connection.execute(sqlalchemy.text(statement))
                return list(result.all()) if result.returns_rows else []
        finally:
            engine.dispose()


@contextmanager
def running() -> Iterator[Postgres]:
    """Make a server in a folder of its own, and remove both at the end."""
    binaries = find_binaries()
    if binaries is None:
        lack("the Debian package postgresql")
    folder = Path(tempfile.mkdtemp(prefix="postgres-"))
    try:
        server = Postgres(folder, binaries)
        try:
            server.start()
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)
