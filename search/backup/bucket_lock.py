"""One driver at a time for each search in a bucket: an object that says who it is.

The driver writes it again and again while it runs; one that has not been written for a while is of
a driver that is gone. It also says which driver was the last to write there, so that a folder that
another machine has gone on from is not taken for the search.
"""

from __future__ import annotations

import hashlib
import json
import os
import socket
import threading
import uuid
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from search.study.driver_lock import refusal
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from cluster.s3 import BucketStore

LOCK_FILE = "driver.json"
HEARTBEAT = 20.0
"""Seconds between two signs of life."""
STALE = 90.0
"""Seconds without one after which a driver is gone."""
_TRIES = 3


class TakenOverError(Exception):
    """Another driver has taken this one to be gone and goes on with the search."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> str:
    """Return what tells this machine, or container, from every other since it was started."""
    boot = Path("/proc/sys/kernel/random/boot_id")
    processes = Path("/proc/self/ns/pid")
    parts = [socket.gethostname()]
    if boot.is_file() and processes.exists():
        parts += [boot.read_text(encoding="utf-8").strip(), str(processes.stat().st_ino)]
    return hashlib.sha256(" ".join(parts).encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Holder:
    """The driver that a claim names.

    Attributes:
        token: of this driver alone.
        host: its machine, by name.
        machine: the same, told from another one of that name.
        pid: its process there.
        since: when it began.
        heartbeat: when it wrote the claim last, by its own clock.
        released: it has ended, and nobody runs the search.
    """

    token: str
    host: str
    machine: str
    pid: int
    since: str = field(default_factory=_now)
    heartbeat: str = field(default_factory=_now)
    released: bool = False

    @classmethod
    def here(cls) -> Holder:
        """Return this process as a driver."""
        return cls(uuid.uuid4().hex, socket.gethostname(), _machine(), os.getpid())

    @classmethod
    def parse(cls, content: bytes) -> Holder | None:
        """Return whom a claim names, None where that cannot be read."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """Return the content of the claim."""
        return json.dumps(asdict(self), indent=1).encode()

    def is_gone(self, age: float, stale: float = STALE) -> bool:
        """Tell whether the driver has ended, or is not there any more.

        Args:
            age: seconds since it wrote the claim.
            stale: seconds after which that says that it is gone.
        """
        if self.released or age > stale:
            return True
        return self.machine == _machine() and not Path(f"/proc/{self.pid}").exists()

    def refusal(self, name: str, age: float) -> BadInputError:
        """Return what a second driver is told."""
        remedy = f"wait for it, or stop it first; one that is gone is replaced after {STALE:.0f}s"
        return refusal(name, self.describe(age), remedy=remedy)

    def describe(self, age: float) -> str:
        """Return the driver in words.

        Args:
            age: seconds since it wrote the claim.
        """
        return (
            f"by process {self.pid} on {self.host} since {self.since} "
            f"(last sign of life {max(0, round(age))}s ago)"
        )


def find_holder(store: BucketStore, name: str) -> Holder | None:
    """Return the last driver of a search, None where there was none.

    Raises:
        BadInputError: it is still running.
        StorageError: the bucket cannot be used.
    """
    try:
        content = store.read_content(LOCK_FILE)
    except FileNotFoundError:
        return None
    holder = Holder.parse(content.data)
    if holder is not None and not holder.is_gone(content.age):
        raise holder.refusal(name, content.age)
    return holder


class BucketLock:
    """The right of one driver to write a search in a bucket.

    Args:
        store: of the search.
        name: of the search.
        heartbeat: seconds between two signs of life.
        stale: seconds after which another driver counts as gone.
    """

    def __init__(
        self,
        store: BucketStore,
        name: str,
        *,
        heartbeat: float = HEARTBEAT,
        stale: float = STALE,
    ) -> None:
        self._store = store
        self._name = name
        self._heartbeat = heartbeat
        self._stale = stale
        self._holder = Holder.here()
        self._version = ""
        self._lost = False
        self._on_loss: Callable[[str], None] = lambda who: None
        self._lock = threading.Lock()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._beat, name="bucket lock", daemon=True)

    @property
    def token(self) -> str:
        """Tells this driver from every other."""
        return self._holder.token

    def acquire(self, known: Collection[str] | None = None) -> None:
        """Take the claim.

        Args:
            known: tokens of the drivers whose work this one has at hand; None where there is no
                work yet.

        Raises:
            BadInputError: another driver runs the search, or has gone on with it elsewhere.
            StorageError: the bucket cannot be used.
        """
        for _ in range(_TRIES):
            try:
                self._version = self._acquire(known)
            except FileExistsError:
                continue  # Another one has been faster: look who.
            self._thread.start()
            return
        raise BadInputError("NAME", self._name, "others want to run it, too", "try again")

    def _acquire(self, known: Collection[str] | None) -> str:
        try:
            content = self._store.read_content(LOCK_FILE)
        except FileNotFoundError:
            return self._store.create(LOCK_FILE, self._holder.to_json())
        before = Holder.parse(content.data)
        if before is not None:
            if not before.is_gone(content.age, self._stale):
                raise before.refusal(self._name, content.age)
            if known is not None and before.token not in known:
                where = self._store.location
                problem = f"{before.host} has gone on with it in {where} since {before.since}"
                remedy = "move its folder here away, then resume it from the storage"
                raise BadInputError("NAME", self._name, problem, remedy)
        return self._store.replace(LOCK_FILE, self._holder.to_json(), content.version)

    def holder(self) -> str | None:
        """See `search.study.driver_lock.DriverLock`.

        Raises:
            StorageError: the bucket cannot be used.
        """
        try:
            content = self._store.read_content(LOCK_FILE)
        except FileNotFoundError:
            return None
        holder = Holder.parse(content.data)
        if holder is None or holder.is_gone(content.age, self._stale):
            return None
        return holder.describe(content.age)

    def on_lost(self, call: Callable[[str], None]) -> None:
        """Have something called, once and in a thread, with the host that has taken over."""
        self._on_loss = call

    def renew(self) -> None:
        """Give a sign of life.

        Raises:
            TakenOverError: another driver has taken over, or may do so by now.
            StorageError: the bucket cannot be used.
        """
        with self._lock:
            if self._lost or self._ended.is_set():
                raise TakenOverError
            self._write(replace(self._holder, heartbeat=_now()))

    def _write(self, holder: Holder) -> None:
        content = holder.to_json()
        for _ in range(_TRIES):
            try:
                self._version = self._store.replace(LOCK_FILE, content, self._version)
                return
            except FileExistsError:
                found = self._find()
                if found is None or found[0].token != self.token:
                    self._lost = True
                    self._on_loss(found[0].host if found else "someone")
                    raise TakenOverError from None
                # Written by a try of ours whose answer got lost.
                self._version = found[1]
        raise TakenOverError

    def _find(self) -> tuple[Holder, str] | None:
        try:
            content = self._store.read_content(LOCK_FILE)
        except FileNotFoundError:
            return None
        holder = Holder.parse(content.data)
        return None if holder is None else (holder, content.version)

    def release(self) -> None:
        """Say that this driver has ended, as far as that can be said."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            if self._version and not self._lost:
                # Else it goes stale by itself.
                with suppress(OSError, TakenOverError):
                    self._write(replace(self._holder, heartbeat=_now(), released=True))
            self._version = ""

    def _beat(self) -> None:
        while not self._ended.wait(self._heartbeat):
            try:
                self.renew()
            except TakenOverError:
                return
            except OSError:
                continue  # Whoever writes snapshots says so.
