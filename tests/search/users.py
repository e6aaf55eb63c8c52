"""A user at the command line, for tests of whole searches."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CALLED = f"python {ROOT / 'search.py'}"
"""How messages call the program in a folder of the user."""
TIMEOUT = 200.0

Result = subprocess.CompletedProcess[str]

SMALL: Mapping[str, Any] = {
    "data": "digits",
    "seed": 1,
    "space": {"depth": [1, 3], "features": [2, 6], "kernel": 3},
    "recipe": {"batch_size": 128},
    "epochs": 3,
    "sampler": "random",
    "scheduler": {"name": "none"},
    "budget": {"trials": 4},
    "resources": {"concurrent": 1, "cpus": 1},
    "finalists": {"count": 1, "seeds": 1},
}
"""A search of seconds."""


class User:
    """A user at the command line, who works in a folder.

    Args:
        folder: the working directory; searches lie in ``home`` below it.
        home: another folder for searches.
    """

    def __init__(self, folder: Path, home: Path | None = None) -> None:
        self.folder = folder
        self.home = home or folder / "home"
        self.program = ROOT / "search.py"
        self.environment = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith(("MLFLOW_", "BORDERLINE_", "RAY_", "PG"))
        } | {"BORDERLINE_CACHE": os.environ["BORDERLINE_CACHE"], "BORDERLINE_HOME": str(self.home)}

    def write(self, name: str, **fields: object) -> Path:
        """Write an experiment."""
        path = self.folder / f"{name}.yaml"
        path.write_text(yaml.safe_dump({**SMALL, **fields}))
        return path

    def start(self, *arguments: str | Path, **variables: str) -> subprocess.Popen[str]:
        """Start a command."""
        return subprocess.Popen(
            [sys.executable, self.program, *arguments],
            cwd=self.folder,
            env=self.environment | variables,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
        )

    def ask(self, *arguments: str | Path, **variables: str) -> Result:
        """Run a command to its end."""
        with self.start(*arguments, **variables) as process:
            return end_of(process)

    def journal(self, name: str) -> str:
        """Return the journal of a search so far."""
        path = self.home / name / "journal.jsonl"
        return path.read_text() if path.is_file() else ""


def end_of(process: subprocess.Popen[str]) -> Result:
    """Wait for a command and return its result; kill it after the timeout."""
    try:
        out, err = process.communicate(timeout=TIMEOUT)
    except subprocess.TimeoutExpired:
        os.kill(process.pid, signal.SIGKILL)
        out, err = process.communicate()
        raise AssertionError(f"the command does not end\n{out}\n{err}") from None
    return Result([], process.returncode, out, err)


def wait_for(condition: Callable[[], object], process: subprocess.Popen[str]) -> None:
    """Wait for a condition; fail if the command ends or the timeout passes first."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            raise AssertionError(f"the condition never held\n{process.communicate()}")
        time.sleep(0.05)


def descendants(pid: int) -> dict[int, str]:
    """Return the command line of every descendant of a process."""
    parents, commands = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                stat = (entry / "stat").read_text()
                commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ")
            except OSError:
                continue
            parents[int(entry.name)] = int(stat.rpartition(")")[2].split()[1])
    found: dict[int, str] = {}
    for each in parents:
        at = each
        while at in parents and at != pid:
            at = parents[at]
        if at == pid and each != pid:
            found[each] = commands[each]
    return found
