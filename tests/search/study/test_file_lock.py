"""The file lock of a search, between real processes."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from search.study.file_lock import DriverFileLock, hold
from spaces.errors import BadInputError

ROOT = Path(__file__).resolve().parents[3]

HOLDER = """
import sys, time
from pathlib import Path
from search.study.file_lock import hold

with hold(Path(sys.argv[1]), "mine"):
    print("held", flush=True)
    time.sleep(600)
"""


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Hold the lock in another process until it is killed."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, path], cwd=ROOT, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "driver.lock"


def test_a_second_driver_is_refused_with_the_name_of_the_first(path: Path) -> None:
    before = datetime.now(UTC).replace(microsecond=0)
    with another_process(path) as holder:
        with pytest.raises(BadInputError) as caught, hold(path, "mine"):
            pytest.fail("both hold it")
        assert (caught.value.field, caught.value.value) == ("NAME", "mine")
        found = re.fullmatch(
            r"it is being run by process (\d+) on (\S+) since (\S+)", caught.value.problem
        )
        assert found is not None
        assert (int(found[1]), found[2]) == (holder.pid, socket.gethostname())
        assert before <= datetime.fromisoformat(found[3]) <= datetime.now(UTC)
        # The refused driver has not overwritten the file.
        assert json.loads(path.read_text(encoding="utf-8"))["pid"] == holder.pid


def test_a_killed_driver_releases_its_lock_at_once(path: Path) -> None:
    with another_process(path) as holder:
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        assert not DriverFileLock(path, "mine").holder()
        with hold(path, "mine"):
            assert json.loads(path.read_text(encoding="utf-8"))["pid"] == os.getpid()


def test_asking_whether_the_lock_is_held_changes_nothing(path: Path) -> None:
    assert not DriverFileLock(path, "mine").holder()
    assert not path.exists()
    with another_process(path):
        before = path.read_bytes()
        assert DriverFileLock(path, "mine").holder()
        assert path.read_bytes() == before
    assert not DriverFileLock(path, "mine").holder()


def test_the_lock_excludes_the_same_process_too(path: Path) -> None:
    with hold(path, "mine"):
        assert DriverFileLock(path, "mine").holder()
        with pytest.raises(BadInputError, match=f"process {os.getpid()} on"), hold(path, "mine"):
            pytest.fail("both hold it")
    assert not DriverFileLock(path, "mine").holder()
    with hold(path, "mine"):
        pass


def test_an_error_releases_the_lock(path: Path) -> None:
    with pytest.raises(RuntimeError, match="inside"), hold(path, "mine"):
        raise RuntimeError("inside")
    assert not DriverFileLock(path, "mine").holder()


@pytest.mark.parametrize("left", ["", "{", "[]", '{"host": "a"}'])
def test_an_unnamed_holder_is_called_another_process(path: Path, left: str) -> None:
    with another_process(path):
        path.write_text(left, encoding="utf-8")
        problem = "it is being run by another process"
        with pytest.raises(BadInputError, match=problem), hold(path, "mine"):
            pytest.fail("both hold it")
