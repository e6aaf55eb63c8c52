"""Runs a command in its own process with a time limit."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import IO

GRACE_SECONDS = 10.0
"""Seconds after the limit in which a command can end by itself before it is killed."""
MARGIN_SECONDS = GRACE_SECONDS + 5.0
"""Seconds before its own limit at which a command ends its children, to report on them."""


def run_limited(
    command: Sequence[str],
    seconds: float,
    *,
    output: IO[str] | None = None,
    errors: IO[str] | None = None,
    environment: Mapping[str, str] | None = None,
    interrupt: signal.Signals = signal.SIGTERM,
) -> int | None:
    """Run a command; after a time limit end it and all processes that it has started.

    Args:
        command: program and arguments.
        seconds: the time limit.
        output: target of its standard output; None for ours.
        errors: target of its standard error; None for ours.
        environment: its environment variables; None for ours.
        interrupt: signal at the time limit.

    Returns:
        The exit code, negative for a signal; None at the time limit.
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
        # Also ends processes that a finished command leaves behind.
        end_group(process, interrupt)


def end_group(process: subprocess.Popen[bytes], interrupt: signal.Signals = signal.SIGTERM) -> None:
    """End a process that leads a session, and all processes that it has started."""
    for number in (interrupt, signal.SIGKILL):
        _signal(process, number)
        with suppress(subprocess.TimeoutExpired):
            # A process that waits for a broken driver cannot be killed.
            process.wait(GRACE_SECONDS)


def _signal(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)
