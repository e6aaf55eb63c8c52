"""Runs a command in a process of its own, for no longer than a limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

GRACE_SECONDS = 10.0
"""After the limit a command has so long to end by itself before it is killed."""
MARGIN_SECONDS = GRACE_SECONDS + 5.0
"""So long before its own limit a command ends what it has started: it still has to tell of it."""


def run_limited(
    command: Sequence[str],
    seconds: float,
    *,
    output: IO[str] | None = None,
    errors: IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
    interrupt: signal.Signals = signal.SIGTERM,
) -> int | None:
    """Run a command, and end it and whatever it has started after so many seconds.

    Args:
        command: program and arguments.
        seconds: the limit.
        output: where its standard output goes; None to ours.
        errors: where its standard error goes; None to ours.
        environment: its environment variables; None for ours.
        interrupt: what tells it that its time is over.

    Returns:
        The exit code, negative for a signal; None where the limit was reached.
    """
    process = subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=errors,
        env=environment,
        start_new_session=True,
    )
    try:
        return process.wait(max(0.0, seconds))
    except subprocess.TimeoutExpired:
        return None
    finally:
        # Also what a command leaves behind that has ended by itself.
        for number in (interrupt, signal.SIGKILL):
            _signal(process, number)
            with suppress(subprocess.TimeoutExpired):
                # A process that waits for a broken driver cannot be killed.
                process.wait(GRACE_SECONDS)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
