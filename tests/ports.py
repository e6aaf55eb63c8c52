"""Ports for servers that tests start by themselves."""

from __future__ import annotations

import contextlib
import secrets
import socket


def free_port() -> int:
    """Return a port that nobody listens at, nor is given one by the system meanwhile."""
    while True:
        # Below those that the system hands out.
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
