"""The claim on a search in a bucket: one driver at a time, across machines."""

from __future__ import annotations

import dataclasses
import os
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from cluster.s3 import BucketStore, open_bucket
from search.backup import bucket_lock as module
from search.backup.bucket_lock import LOCK_FILE, BucketLock, Holder, TakenOverError, last_driver
from spaces.errors import BadInputError
from tests import s3


@pytest.fixture
def store(s3_place: str) -> BucketStore:
    return open_bucket(s3_place)


@pytest.fixture
def lock(store: BucketStore) -> Iterator[Callable[..., BucketLock]]:
    """Return a function that makes claims and releases them after the test."""
    made: list[BucketLock] = []

    def make(**options: float) -> BucketLock:
        made.append(BucketLock(store, "pets", **options))
        return made[-1]

    yield make
    for each in made:
        each.release()


def elsewhere(store: BucketStore, **changes: object) -> Holder:
    """Write the claim of a driver on another machine."""
    holder = dataclasses.replace(Holder.here(), host="far", machine="another", **changes)
    store.write(LOCK_FILE, holder.to_json())
    return holder


def test_refusal_names_driver_and_its_last_heartbeat(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    lock().acquire()
    with pytest.raises(BadInputError) as raised:
        lock().acquire()
    line = str(raised.value)
    assert line.startswith(f"NAME = pets: it is being run by process {os.getpid()} on ")
    assert "since 20" in line
    assert "last sign of life" in line
    with pytest.raises(BadInputError, match="it is being run by process"):
        last_driver(store, "pets")


def test_released_claim_is_taken_by_next_driver(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    first, second = lock(), lock()
    first.acquire()
    first.release()
    holder = last_driver(store, "pets")
    assert holder is not None
    assert (holder.token, holder.released) == (first.token, True)
    second.acquire({first.token})
    first.release()  # Releasing again has no effect.
    with pytest.raises(BadInputError, match="is being run"):
        last_driver(store, "pets")


def test_released_lock_writes_no_heartbeat(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    held = lock()
    held.acquire()
    held.release()
    with pytest.raises(TakenOverError):
        held.renew()
    holder = last_driver(store, "pets")
    assert holder is not None
    assert holder.released


def test_claim_of_dead_local_process_is_taken_at_once(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    lost = dataclasses.replace(Holder.here(), pid=2**22 + 1)  # No process can have this id.
    store.write(LOCK_FILE, lost.to_json())
    lock().acquire({lost.token})


def test_claim_of_another_machine_is_taken_once_stale(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    lost = elsewhere(store, pid=2**22 + 1)
    with pytest.raises(BadInputError, match="on far since"):
        lock().acquire({lost.token})
    time.sleep(2.1)
    lock(stale=1.0).acquire({lost.token})


def test_wrong_clock_does_not_make_a_claim_stale(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    elsewhere(store, since="1999-01-01T00:00:00+00:00", heartbeat="1999-01-01T00:00:00+00:00")
    with pytest.raises(BadInputError, match="on far since 1999"):
        lock().acquire()


def test_running_driver_writes_heartbeats(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    lock(heartbeat=0.1).acquire()
    before = store.entry(LOCK_FILE).version
    deadline = time.monotonic() + 60
    while store.entry(LOCK_FILE).version == before:
        assert time.monotonic() < deadline
        time.sleep(0.1)


def test_folder_of_search_continued_elsewhere_is_refused(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    elsewhere(store, released=True)
    with pytest.raises(BadInputError) as raised:
        lock().acquire({"the token of a driver before"})
    assert raised.value.problem.startswith(f"far has continued it in {store.location} since ")
    assert "move its local folder away" in raised.value.remedy


def test_replaced_driver_is_told_and_yields(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    held = lock(heartbeat=0.1)
    lost = threading.Event()
    told: list[str] = []

    def note(host: str) -> None:
        told.append(host)
        lost.set()

    held.on_lost(note)
    held.acquire()
    winner = elsewhere(store)
    assert lost.wait(60)
    assert told == ["far"]
    with pytest.raises(TakenOverError):
        held.renew()
    held.release()
    assert Holder.parse(store.read(LOCK_FILE)) == winner


def test_repeated_heartbeat_is_not_another_driver(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    held = lock(heartbeat=1000.0)
    held.acquire()
    # The client repeated a request that had already succeeded.
    store.write(LOCK_FILE, store.read(LOCK_FILE) + b"\n")
    held.renew()
    held.renew()


def test_unavailable_storage_keeps_the_claim(
    s3_gate: s3.Gate, store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    held = lock(heartbeat=0.1)
    held.acquire()
    s3_gate.answer = s3_gate.deny
    time.sleep(0.5)
    s3_gate.answer = lambda method, path: None
    held.renew()


def test_one_of_many_concurrent_drivers_gets_the_claim(
    store: BucketStore, lock: Callable[..., BucketLock]
) -> None:
    locks = [lock() for _ in range(4)]
    got: list[BucketLock] = []
    refused: list[BadInputError] = []

    def acquire(each: BucketLock) -> None:
        try:
            each.acquire()
        except BadInputError as error:
            refused.append(error)
        else:
            got.append(each)

    threads = [threading.Thread(target=acquire, args=(each,)) for each in locks]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert (len(got), len(refused)) == (1, 3)
    holder = Holder.parse(store.read(LOCK_FILE))
    assert holder is not None
    assert holder.token == got[0].token


@pytest.mark.parametrize("content", [b"", b"[]", b'{"token": 1}', b"\xff"])
def test_unreadable_claim_blocks_nobody(
    store: BucketStore, lock: Callable[..., BucketLock], content: bytes
) -> None:
    store.write(LOCK_FILE, content)
    assert last_driver(store, "pets") is None
    lock().acquire()


def test_driver_counts_as_gone_after_several_missed_heartbeats() -> None:
    assert module.STALE >= 3 * module.HEARTBEAT
