"""A real tracking server for tests: on this machine alone, to be stopped and started."""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import signal
import sqlite3
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

from tests.ports import free_port

PROJECT = Path(__file__).resolve().parents[2]
TIMEOUT = 120.0


def wait_for(condition: Callable[[], object], what: str) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, f"in vain: {what}"
        time.sleep(0.05)


class Server:
    """A real tracking server, as `serve.sh` starts it, that can be stopped and started.

    Args:
        home: whose local store it serves.
        empty: a store without runs that takes the place of the one there; None leaves that.
    """

    def __init__(self, home: Path, empty: Path | None = None) -> None:
        self.home = home
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self._empty = empty
        self._process: subprocess.Popen[bytes] | None = None
        if empty is not None:
            self.empty()

    def start(self) -> None:
        if self._process is not None:
            return
        with (self.home / "server.log").open("ab") as log:
            self._process = subprocess.Popen(
                ["sh", str(PROJECT / "mlflow" / "serve.sh"), "--port", str(self.port)],
                env=os.environ | {"BORDERLINE_HOME": str(self.home)},
                cwd=self.home,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        wait_for(self._answers, (self.home / "server.log").read_text())

    def stop(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None
            wait_for(lambda: not self._answers(), "the server ends")

    def empty(self) -> None:
        assert self._process is None
        assert self._empty is not None
        for file in self.home.glob("mlflow.db*"):
            file.unlink()
        shutil.copy(self._empty, self.home / "mlflow.db")

    def runs(self) -> int:
        with contextlib.closing(sqlite3.connect(self.home / "mlflow.db")) as database:
            return int(database.execute("SELECT count(*) FROM runs").fetchone()[0])

    def _answers(self) -> bool:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=2)
        with contextlib.closing(connection):
            try:
                connection.request("GET", "/health")
                return connection.getresponse().status == 200
            except OSError:
                return False
