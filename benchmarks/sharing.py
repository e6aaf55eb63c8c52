"""Trainings that share a device, each in its own process, with and without MPS."""

from __future__ import annotations

import argparse
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from harness import Figure, Table, Values, last_error, one_line

LOOPS = Path(__file__).parent / "loops.py"
MPS = Path(__file__).parent.parent / "cluster" / "mps.sh"
HANG_SECONDS = 60
"""Extra seconds after which a training counts as hung and is killed."""
MPS_SECONDS = 30
"""Seconds after which a command to the MPS server counts as hung."""
STOP_SECONDS = 5
"""Seconds after which the command that stops the server counts as hung."""


def measure_sharing(table: Table, given: argparse.Namespace, *, on_gpu: bool) -> None:
    """Compare several simultaneous trainings with one alone.

    The last row is the best number of trainings, also if the process is stopped before its end.
    """
    if on_gpu:
        # One alone comes first. Time may run out, so those with most to gain follow.
        counts: tuple[int, ...] = (1, 8, 4, 2) if given.quick else (1, 2, 4, 8, 16)
    else:
        counts = tuple(n for n in (1, 2, 4, 8, 16) if n <= (os.cpu_count() or 1))
    measured: dict[str, float] = {}
    alone: list[float] = []

    def together(name: str, count: int, environment: Mapping[str, str]) -> Values:
        value = train_together(given, count, environment, on_gpu=on_gpu)
        if count == 1:
            alone.append(value)
        if not alone:
            raise RuntimeError("one training alone could not be measured")
        measured[name] = value
        return value, alone[0], value / alone[0]

    def measure(kind: str, environment: Mapping[str, str], counts: Sequence[int]) -> None:
        for count in counts:
            name = f"{kind}: {count} trainings of the small net at a time"
            work = partial(together, name, count, environment)
            table.measure(f"{name}; against one alone", "-", "images/s", work)

    if not on_gpu:
        measure("processor", os.environ, counts)
        return
    try:
        measure("GPU", os.environ, counts)
        # One alone gains nothing from MPS.
        _measure_with_mps(table, partial(measure, counts=counts[1:]))
    finally:
        if len(measured) > 1:
            best = max(measured, key=lambda name: measured[name])
            ours = measured[best]
            figure = f"best is {best}; against one alone"
            table.add(Figure(figure, ours, alone[0], ours / alone[0], "ratio >= 3", "images/s"))


def _measure_with_mps(table: Table, measure: Callable[[str, Mapping[str, str]], None]) -> None:
    if shutil.which("nvidia-cuda-mps-control") is None:
        print("MPS is not installed here: its rows are omitted", flush=True)
        return
    try:
        with mps_server() as environment:
            measure("GPU, MPS", environment)
    except (OSError, RuntimeError, subprocess.SubprocessError) as error:
        figure = "GPU, MPS: trainings of the small net at a time; against one alone"
        table.fail(figure, "-", "images/s", one_line(error))


@contextmanager
def mps_server() -> Iterator[Mapping[str, str]]:
    """Run a separate MPS server, and yield the environment of its clients.

    Raises:
        RuntimeError: the server does not start.
        subprocess.TimeoutExpired: the server hangs.
    """
    with tempfile.TemporaryDirectory(prefix="mps-", ignore_cleanup_errors=True) as folder:
        own = {**os.environ, "BORDERLINE_MPS": folder}

        def ask(
            command: str, output: int | None = None, timeout: float = MPS_SECONDS
        ) -> subprocess.CompletedProcess[str]:
            return subprocess.run(
                ["sh", str(MPS), command],
                env=own,
                stdout=output,
                text=True,
                timeout=timeout,
                check=False,
            )

        try:
            # The server keeps running, and would keep a pipe open.
            if ask("start", subprocess.DEVNULL).returncode != 0:
                raise RuntimeError("the MPS server does not start")
            status = ask("status", subprocess.PIPE)
            if status.returncode != 0:
                raise RuntimeError("the MPS server does not answer")
            # Each line is: export NAME="value".
            words = shlex.split(status.stdout)
            yield own | dict(word.split("=", 1) for word in words if "=" in word)
        finally:
            try:
                # The process that ends this one does not wait long.
                ask("stop", subprocess.DEVNULL, STOP_SECONDS)
            except subprocess.TimeoutExpired:
                print("the MPS server does not end", file=sys.stderr, flush=True)


def train_together(
    given: argparse.Namespace, count: int, environment: Mapping[str, str], *, on_gpu: bool
) -> float:
    """Return the total images per second of a number of processes.

    Raises:
        RuntimeError: a training failed or hung; the message is its printed error.
    """
    options: dict[str, Any] = {
        "data": given.data,
        "device": "cuda" if on_gpu else "cpu",
        "subset": 0.1 if on_gpu else 0.01,
        "net": "small",
        "batch": 128,
        "threads": max(1, (os.cpu_count() or 1) // count),
        "share": 1 / count if on_gpu and count > 1 else 0.0,
        "seconds": 3 if given.quick else 10,
    }
    command = [sys.executable, str(LOOPS), "shared", json.dumps(options)]
    with tempfile.TemporaryFile("w+") as errors:
        running: list[subprocess.Popen[str]] = []

        def kill_all() -> None:
            for process in running:
                process.kill()

        watchdog = threading.Timer(HANG_SECONDS + options["seconds"], kill_all)
        watchdog.start()
        try:
            for _ in range(count):
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    stderr=errors,
                    text=True,
                    env=environment,
                )
                running.append(process)
            for process in running:
                assert process.stdout is not None
                if process.stdout.readline().strip() != "ready":
                    raise RuntimeError("a training did not start")
            for process in running:
                assert process.stdin is not None
                process.stdin.write("go\n")
                process.stdin.flush()
            return sum(float(process.communicate()[0]) for process in running)
        except (OSError, RuntimeError, ValueError) as error:
            # A failed process writes its error at its end.
            kill_all()
            for process in running:
                process.wait()
            errors.seek(0)
            raise RuntimeError(f"{count} at a time: {last_error(errors.read())}") from error
        finally:
            watchdog.cancel()
            kill_all()
            for process in running:
                process.communicate()
