"""The connection to Ray: a private one on this machine, or a cluster with its token."""

from __future__ import annotations

import logging
import os
import re
import secrets
import signal
import socket
import subprocess
import sys
import threading
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext, suppress
from pathlib import Path

import ray
from ray.exceptions import AuthenticationError

from search.backend.ray_folder import temporary_folder
from search.formatting import root_cause
from search.private_apis import (
    job_with_path,
    ray_on_loopback,
    ray_start_timeout,
    ray_without_services,
)
from spaces.errors import BadInputError

CONNECT_TIMEOUT = 10.0
"""Seconds within which the machine at an address must accept a connection."""
_ANSWER_TIMEOUT = 60.0
_START_TIMEOUT = 180.0
"""Seconds within which a private Ray must start; a busy machine takes minutes."""
_TOKEN_MODE, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"
_REMEDY = (
    "copy the cluster's token to ~/.ray/auth_token, or name its file in RAY_AUTH_TOKEN_PATH, and "
    "export RAY_AUTH_MODE=token"
)


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to Ray inside the block.

    Args:
        address: HOST:PORT of a cluster, ``auto`` for the one on this machine, or ``local`` to start
            a private one that only this machine can reach.

    Raises:
        BadInputError: no cluster answers at the address, or it rejects the token; or Ray does not
            start here.
    """
    # The search prints progress and failures itself.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # The journal replaces Tune's loggers; nothing is restored from Tune's snapshots.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    # The search handles signals itself.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        stack.enter_context(temporary_folder() if address == "local" else nullcontext())
        if address == "local":
            _start()
        else:
            _join(address)
        if threading.current_thread() is threading.main_thread():
            # Ray's handler exits at once, before the search can record its end.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        finally:
            ray.shutdown()


def _start() -> None:
    """Start a private Ray.

    Raises:
        BadInputError: Ray does not start, for example because of a variable in the environment.
    """
    if not _has_token():
        # Ray would store a permanent token in a file that others may read.
        os.environ[_TOKEN] = secrets.token_hex(32)
    # Ray would start a Python process per CPU for tasks. Each trial has a process of its own.
    os.environ.setdefault("RAY_prestart_worker_first_driver", "0")
    try:
        with ray_on_loopback(), ray_without_services(), ray_start_timeout(_START_TIMEOUT):
            _init("local")
    except Exception as error:
        ray.shutdown()
        problem = f"Ray does not start ({type(error).__name__}: {root_cause(error)})"
        remedy = "fix the cause, and check the variables RAY_* of the environment"
        raise BadInputError("--address", "local", problem, remedy) from error


def _join(address: str) -> None:
    """Join a running cluster.

    Raises:
        BadInputError: see `connected`.
    """
    if os.environ.get(_TOKEN_MODE, "").lower() == "token" and not _has_token():
        problem = "RAY_AUTH_MODE requires a token, but there is none"
        raise BadInputError("--address", address, problem, _REMEDY)
    _check_port(address)
    _check_answer(address)
    try:
        _init(address)
    except (AuthenticationError, ConnectionError, RuntimeError, ValueError, SystemExit) as error:
        raise _nobody_answers(address, str(error)) from error


def _init(address: str) -> None:
    ray.init(
        address=address,
        include_dashboard=False if address == "local" else None,
        logging_level=logging.ERROR,
        log_to_driver=False,
        job_config=job_with_path([str(Path(__file__).resolve().parents[2])]),
    )


def _has_token() -> bool:
    """Tell whether Ray finds a token."""
    named = any(os.environ.get(name) for name in (_TOKEN, "RAY_AUTH_TOKEN_PATH"))
    with suppress(OSError, RuntimeError):
        return named or (Path.home() / ".ray" / "auth_token").stat().st_size > 0
    return named


def _check_port(address: str) -> None:
    """Refuse an address without a listener, for which Ray would wait two minutes."""
    found = re.fullmatch(r"(?P<host>[^/\s]+):(?P<port>\d{1,5})", address)
    if found is None:
        return  # Ray checks other kinds of addresses.
    host = found["host"].strip("[]")
    try:
        with socket.create_connection((host, int(found["port"])), timeout=CONNECT_TIMEOUT):
            pass
    except (OSError, OverflowError) as error:
        raise _nobody_answers(address, getattr(error, "strerror", None) or str(error)) from error


def _check_answer(address: str) -> None:
    """Refuse an address without a Ray cluster that accepts the token.

    A child process asks, because Ray prints some failures and exits the process on others. It does
    not import from the current folder (-P), which may contain a user's ``random.py``.
    """
    command = [
        sys.executable,
        "-P",
        "-m",
        "ray.scripts.scripts",
        "health-check",
        "--address",
        address,
    ]
    environment = dict(os.environ)
    if address == "auto" and _has_token():
        environment.setdefault(_TOKEN_MODE, "token")  # As Ray does, on this machine alone.
    try:
        asked = subprocess.run(  # noqa: S603 - Ray's own, with an address as its one argument
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            timeout=_ANSWER_TIMEOUT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        problem = f"it accepts connections, but does not answer within {_ANSWER_TIMEOUT:.0f}s"
        raise _nobody_answers(address, problem) from error
    if asked.returncode == 0:
        return
    if "AuthenticationError" in asked.stdout:
        sent = environment.get(_TOKEN_MODE, "").lower() == "token"
        problem = (
            "this cluster does not accept the token" if sent else "this cluster requires a token"
        )
        raise BadInputError("--address", address, problem, _REMEDY)
    lines = [line.strip() for line in asked.stdout.splitlines() if line.strip()]
    raise _nobody_answers(address, lines[-1] if lines else "no answer")


def _nobody_answers(address: str, cause: str) -> BadInputError:
    problem = f"no Ray cluster answers ({cause})"
    return BadInputError("--address", address, problem, "start a cluster, or leave out the address")
