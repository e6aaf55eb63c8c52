"""Ports for servers that tests start by themselves."""

from __future__ import annotations

import contextlib
import secrets
import socket


def free_port() -> int:
    """Return a free port outside the range that the system assigns."""
    while True:
        # Below the ephemeral range.
        port = 20_000 + secrets.randbelow(12_000)
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.bind(("127.0.0.1", port))
            return port
