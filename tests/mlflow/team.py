"""A team's tracking server, started by `serve_team.py` with real Postgres and a real S3 server."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import requests

from tests.ports import free_port
from tests.postgres import PASSWORD, USER, Postgres
from tests.search.users import Result, descendants

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "mlflow" / "serve_team.py"
USERS = ROOT / "mlflow" / "users.py"
NAME = "mlflow.example.com"
TIMEOUT = 200.0

KEY = "key-of-the-server-5e0f"
ADMIN = 'administrator $ "word"'
S3_SECRET = "secret-of-the-bucket-91ab"
SECRETS = (PASSWORD, KEY, ADMIN, S3_SECRET)
BUCKET = "team"

# Ends a server with the tests, even if they are killed.
WITH_US = ("setpriv", "--pdeathsig", "TERM")

BARE = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("MLFLOW_", "AWS_", "PG", "BORDERLINE_", "RAY_"))
}
"""The environment of a user without settings."""


@contextlib.contextmanager
def s3_server(log: Path) -> Iterator[str]:
    """Run an S3-compatible server with one bucket; return its address."""
    port = free_port()
    with log.open("wb") as out:
        process = subprocess.Popen(
            [*WITH_US, sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
            stdout=out,
            stderr=out,
            env=BARE,
        )
    try:
        wait_until_answered(f"http://127.0.0.1:{port}/moto-api/", process)
        bucket(f"http://127.0.0.1:{port}").create_bucket(Bucket=BUCKET)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def bucket(endpoint: str) -> Any:
    """Return a client of the S3 server."""
    return boto3.client(
        "s3",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="server",
        aws_secret_access_key=S3_SECRET,
    )


def wait_until_answered(address: str, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while True:
        with contextlib.suppress(requests.RequestException):
            requests.get(address, timeout=10).raise_for_status()
            return
        assert process.poll() is None, "it has ended"
        assert time.monotonic() < deadline, "it does not answer"
        time.sleep(0.1)


class Team:
    """A server that can be stopped and started.

    Args:
        folder: folder of its environment file and log.
        postgres: a running server, which gets the two databases.
        endpoint: address of the S3 server.
    """

    def __init__(self, folder: Path, postgres: Postgres, endpoint: str) -> None:
        for database in ("mlflow", "mlflow_auth"):
            postgres.execute(f"CREATE DATABASE {database}")
        self.port = free_port()
        self.uri = f"http://127.0.0.1:{self.port}"
        self.log = folder / "server.log"
        self.file = folder / "team.env"
        self.settings = {
            "MLFLOW_SERVER_ALLOWED_HOSTS": NAME,
            "MLFLOW_ARTIFACTS_DESTINATION": f"s3://{BUCKET}/mlflow",
            "PGHOST": "127.0.0.1",
            "PGPORT": str(postgres.port),
            "PGUSER": USER,
            "PGPASSWORD": PASSWORD,
            "MLFLOW_FLASK_SERVER_SECRET_KEY": KEY,
            "MLFLOW_AUTH_ADMIN_PASSWORD": ADMIN,
            "AWS_ACCESS_KEY_ID": "server",
            "AWS_SECRET_ACCESS_KEY": S3_SECRET,
            "AWS_REGION": "us-east-1",
            "AWS_ENDPOINT_URL": endpoint,
            "MLFLOW_PORT": str(self.port),
            "MLFLOW_WORKERS": "2",
        }
        write_settings(self.file, self.settings)
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the server and wait until it answers."""
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                [*WITH_US, sys.executable, SCRIPT, self.file],
                cwd=self.file.parent,
                env=BARE,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        try:
            wait_until_answered(f"{self.uri}/health", self.process)
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.log.read_text()}") from None

    def stop(self) -> None:
        """Stop the server as a service manager does."""
        if self.process is not None:
            self.process.send_signal(signal.SIGTERM)
            try:
                assert self.process.wait(60) == 0
            finally:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self.process.pid, signal.SIGKILL)
                self.process = None

    def commands(self) -> dict[int, str]:
        """Return the command lines of the server in the process list."""
        assert self.process is not None
        own = Path(f"/proc/{self.process.pid}/cmdline").read_text().replace("\0", " ")
        return descendants(self.process.pid) | {self.process.pid: own}

    def ask(
        self,
        path: str = "/",
        user: str | None = None,
        password: str = "",
        body: object = None,
        **headers: str,
    ) -> tuple[int, str, dict[str, str]]:
        """Send a request; return status, text and headers of the answer."""
        answer = requests.request(
            "GET" if body is None else "POST",
            self.uri + path,
            auth=None if user is None else (user, password),
            json=body,
            headers=headers,
            timeout=60,
        )
        return answer.status_code, answer.text, dict(answer.headers)

    def users(self, *arguments: str, secret: str = "", **variables: str) -> Result:
        """Run `users.py` as the administrator."""
        own = {"MLFLOW_TRACKING_URI": self.uri, "MLFLOW_TRACKING_PASSWORD": ADMIN}
        return subprocess.run(
            [sys.executable, USERS, *arguments],
            env=BARE | own | variables,
            input=secret + "\n",
            capture_output=True,
            text=True,
            timeout=TIMEOUT,
            check=False,
        )


def write_settings(path: Path, settings: dict[str, str]) -> None:
    """Write an environment file that only the user can read."""
    path.touch(mode=0o600)
    path.write_text("".join(f"{name}='{value}'\n" for name, value in settings.items()))


def listening(pids: set[int]) -> set[str]:
    """Return the TCP addresses `host:port` on which processes listen."""
    inodes = set()
    for pid in pids:
        with contextlib.suppress(OSError):
            for descriptor in Path(f"/proc/{pid}/fd").iterdir():
                with contextlib.suppress(OSError):
                    inodes.add(os.readlink(descriptor).removeprefix("socket:[").rstrip("]"))
    found = set()
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]:
            fields = line.split()
            if fields[3] == "0A" and fields[9] in inodes:
                address, _, port = fields[1].partition(":")
                words = [bytes.fromhex(address[i : i + 8])[::-1] for i in range(0, len(address), 8)]
                family = socket.AF_INET if table == "tcp" else socket.AF_INET6
                found.add(f"{socket.inet_ntop(family, b''.join(words))}:{int(port, 16)}")
    return found
