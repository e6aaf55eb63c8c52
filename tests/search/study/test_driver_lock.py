"""What every driver lock promises, whatever holds it: a file, a Postgres server, or a bucket."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.s3 import open_bucket
from search.backup.bucket_lock import BucketLock
from search.study.driver_lock import DriverLock, held
from search.study.file_lock import DriverFileLock
from search.study.postgres import PostgresLock
from search.urls import engine_url
from spaces.errors import BadInputError
from tests.postgres import Postgres, running

ROOT = Path(__file__).resolve().parents[3]
MEANS = ("file", "postgres", "bucket")

HOLDER = """
import sys, time
from tests.search.study.test_driver_lock import make_lock

lock = make_lock(*sys.argv[1:])
lock.acquire()
print("held", flush=True)
time.sleep(600)
"""

Make = Callable[[str], DriverLock]


def make_lock(means: str, place: str, name: str) -> DriverLock:
    """Return a lock on a search in a place of its means."""
    if means == "file":
        return DriverFileLock(Path(place) / f"{name}.lock", name)
    if means == "postgres":
        return PostgresLock(engine_url(place), name)
    return BucketLock(open_bucket(place).within(name), name)


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    """Return a server that runs."""
    with running() as server:
        yield server


@pytest.fixture(params=MEANS)
def means(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def place(means: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Return where the locks of a test are."""
    if means == "file":
        return str(tmp_path)
    if means == "postgres":
        return str(request.getfixturevalue("server").url())
    return str(request.getfixturevalue("s3_place"))


@pytest.fixture
def make(means: str, place: str) -> Iterator[Make]:
    """Return a function that makes locks on a search, which are released at the end."""
    made: list[DriverLock] = []

    def make(name: str) -> DriverLock:
        made.append(make_lock(means, place, name))
        return made[-1]

    yield make
    for lock in made:
        lock.release()


def test_second_driver_is_refused_with_process_of_first(make: Make) -> None:
    make("refused").acquire()
    with pytest.raises(BadInputError) as caught:
        make("refused").acquire()
    assert (caught.value.field, caught.value.value) == ("NAME", "refused")
    first = f"it is being run by process {os.getpid()} on {socket.gethostname()[:30]}"
    assert caught.value.problem.startswith(first)
    assert " since 20" in caught.value.problem
    assert caught.value.remedy.startswith("wait for it, or stop it first")


def test_refused_driver_leaves_the_lock_with_its_holder(make: Make) -> None:
    make("kept").acquire()
    refused = make("kept")
    with pytest.raises(BadInputError):
        refused.acquire()
    refused.release()
    with pytest.raises(BadInputError):
        make("kept").acquire()


def test_holder_is_named_only_while_lock_is_held(make: Make) -> None:
    lock, onlooker = make("named"), make("named")
    assert onlooker.holder() is None
    lock.acquire()
    for each in (onlooker, lock):
        found = each.holder()
        assert found is not None
        assert found.startswith(f"by process {os.getpid()} on ")
    lock.release()
    assert onlooker.holder() is None


def test_released_lock_is_free(make: Make) -> None:
    first = make("released")
    first.acquire()
    first.release()
    first.release()
    second = make("released")
    second.acquire()
    first.release()
    assert second.holder() is not None


def test_release_without_acquire_does_nothing(make: Make) -> None:
    make("never").release()
    make("never").acquire()


def test_searches_lock_independently(make: Make) -> None:
    make("one").acquire()
    make("another").acquire()


def test_error_inside_held_releases_the_lock(make: Make) -> None:
    lock = make("failed")

    def fail() -> None:
        with held(lock):
            assert lock.holder() is not None
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        fail()
    assert lock.holder() is None


def test_lock_of_killed_driver_is_free(means: str, place: str, make: Make) -> None:
    command = [sys.executable, "-c", HOLDER, means, place, "killed"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as driver:
        try:
            assert driver.stdout is not None
            assert driver.stdout.readline() == "held\n"
            with pytest.raises(BadInputError, match=f"by process {driver.pid} on "):
                make("killed").acquire()
        finally:
            os.kill(driver.pid, signal.SIGKILL)
    make("killed").acquire()
