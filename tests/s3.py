"""A real S3 protocol server for tests, and a gate before it that can be shut.

The server is moto's, in its own process, on loopback. It ends with the test process. The gate
forwards requests, or lets them fail as real requests fail.
"""

from __future__ import annotations

import http.client
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import boto3

from tests.ports import free_port

BUCKET = "searches"
REGION = "eu-central-1"
# Ends the server when its standard input closes, that is, when the test process ends.
WATCHED = '"$@" & server=$!; read -r _; kill -KILL $server; wait'


def settings(url: str) -> dict[str, str]:
    """Return the environment variables of a client of a server."""
    return {
        "AWS_ENDPOINT_URL_S3": url,
        "AWS_ACCESS_KEY_ID": "someone",
        "AWS_SECRET_ACCESS_KEY": "correct-horse-battery",
        "AWS_REGION": REGION,
        "AWS_DEFAULT_REGION": REGION,
        # Use neither the developer's AWS files nor a cloud machine's metadata service.
        "AWS_CONFIG_FILE": os.devnull,
        "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        "AWS_EC2_METADATA_DISABLED": "true",
    }


def client(url: str, service: str = "s3") -> Any:
    """Return a client of a server that is not the project's own."""
    return boto3.session.Session().client(
        service,
        endpoint_url=url,
        region_name=REGION,
        aws_access_key_id="someone",
        aws_secret_access_key="correct-horse-battery",
    )


class Server:
    """An S3 server with an empty bucket, `BUCKET`."""

    def __init__(self) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            ["sh", "-c", WATCHED, "sh", sys.executable, "-m", "moto.server", "-p", str(self.port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 120
        while True:
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                break
            assert time.monotonic() < deadline, "the S3 server does not start"
            time.sleep(0.1)
        self.make(BUCKET)

    def make(self, bucket: str) -> None:
        """Make a bucket."""
        where = {"LocationConstraint": REGION}
        client(self.url).create_bucket(Bucket=bucket, CreateBucketConfiguration=where)

    def keys(self, prefix: str = "", bucket: str = BUCKET) -> list[str]:
        """Return the keys of all objects below a prefix."""
        pages = client(self.url).get_paginator("list_objects_v2")
        return [
            each["Key"]
            for page in pages.paginate(Bucket=bucket, Prefix=prefix)
            for each in page.get("Contents", ())
        ]

    @property
    def pid(self) -> int:
        """Id of the server's own process."""
        children = f"/proc/{self._process.pid}/task/{self._process.pid}/children"
        with open(children, encoding="ascii") as file:
            return int(file.read().split()[0])

    def enforce_rights(self) -> None:
        """Grant, from now on, what a user's policies do."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request("POST", "/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
        assert connection.getresponse().status == 200
        connection.close()

    def stop(self) -> None:
        """Kill the server; what it held is gone."""
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process.wait(60)


@contextmanager
def running() -> Iterator[Server]:
    """Start a server, and stop it at the end."""
    server = Server()
    try:
        yield server
    finally:
        server.stop()


Answer = tuple[int, str]
"""Status and error code."""


class Gate:
    """What lies between a user and an S3 server: a port that can be shut.

    Attributes:
        asked: method and path of every request that came.
        answer: returns, for a method and a path, the error to answer with instead; None to pass
            the request on.
    """

    def __init__(self, server: Server) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.asked: list[tuple[str, str]] = []
        self.answer: Callable[[str, str], Answer | None] = lambda method, path: None
        self._behind = server.port
        self._listener: ThreadingHTTPServer | None = None
        self.open()

    def reset(self) -> None:
        """Forget what was asked, and let everything through."""
        self.answer = lambda method, path: None
        self.open()
        self.asked.clear()

    def open(self) -> None:
        """Let requests through."""
        if self._listener is not None:
            return
        gate = self

        class Handler(_Handler):
            behind = gate._behind

            def outcome(self) -> Answer | None:
                path = self.path.partition("?")[0]
                gate.asked.append((self.command, path))
                return gate.answer(self.command, path)

        self._listener = _Listener(("127.0.0.1", self.port), Handler)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,))
        self._thread.start()

    def shut(self) -> None:
        """Refuse connections."""
        if self._listener is not None:
            self._listener.shutdown()
            self._thread.join()
            self._listener.server_close()
            self._listener = None

    def slow_down(self, method: str, path: str) -> Answer | None:
        """Answer as a bucket of which too much is asked."""
        return 503, "SlowDown"

    def deny(self, method: str, path: str) -> Answer | None:
        """Answer as to someone without rights."""
        return 403, "AccessDenied"

    def count(self, method: str, part: str = "") -> int:
        """Return how many requests of a kind came."""
        return sum(each == method and part in path for each, path in self.asked)


class _Listener(ThreadingHTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64


class _Handler(BaseHTTPRequestHandler):
    # Of older ones a client that asks whether to send its content waits a second for an answer.
    protocol_version = "HTTP/1.1"
    behind = 0

    def outcome(self) -> Answer | None:
        raise NotImplementedError

    def _pass_on(self) -> None:
        body = self._body()
        outcome = self.outcome()
        if outcome is not None:
            self._refuse(*outcome)
            return
        connection = http.client.HTTPConnection("127.0.0.1", self.behind, timeout=60)
        try:
            connection.putrequest(
                self.command, self.path, skip_host=True, skip_accept_encoding=True
            )
            for name, value in self.headers.items():
                if name.lower() not in ("connection", "expect", "transfer-encoding"):
                    connection.putheader(name, value)
            connection.putheader("Connection", "close")
            connection.endheaders(body)
            answer = connection.getresponse()
            content = answer.read()
            self.send_response_only(answer.status)
            for name, value in answer.getheaders():
                if name.lower() not in ("connection", "transfer-encoding"):
                    self.send_header(name, value)
            self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(content)
        except OSError:
            self.close_connection = True
        finally:
            connection.close()

    def _body(self) -> bytes:
        return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    def _refuse(self, status: int, code: str) -> None:
        text = f"<?xml version='1.0'?><Error><Code>{code}</Code><Message>no</Message></Error>"
        content = b"" if self.command == "HEAD" else text.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _pass_on  # noqa: N815

    def handle_expect_100(self) -> bool:
        self.send_response_only(100)
        self.end_headers()
        return True

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def gate_before(server: Server) -> Iterator[Gate]:
    """Put a gate before a server."""
    gate = Gate(server)
    try:
        yield gate
    finally:
        gate.shut()
