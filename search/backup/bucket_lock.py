"""The driver lock of a search in a bucket: an object that names the driver.

The driver rewrites the object as a heartbeat; an old object belongs to a driver that is gone. The
object also names the last driver that wrote to the bucket, so that an outdated folder on another
machine is not mistaken for the search.
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
"""Seconds between two heartbeats."""
STALE = 90.0
"""Seconds without a heartbeat after which a driver counts as gone."""
_TRIES = 3


class TakenOverError(Exception):
    """Another driver considered this one gone and continues the search."""


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _machine() -> str:
    """Return an identifier of this machine or container since its start."""
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
        token: identifies this driver.
        host: name of its machine.
        machine: identifies its machine among those of the same name.
        pid: its process there.
        since: time of its start.
        heartbeat: time of its last write, by its own clock.
        released: whether it has ended, so that nobody runs the search.
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
        """Return the driver that a claim names; None if it cannot be read."""
        try:
            return cls(**json.loads(content))
        except (ValueError, TypeError):
            return None

    def to_json(self) -> bytes:
        """Return the content of the claim."""
        return json.dumps(asdict(self), indent=1).encode()

    def is_gone(self, age: float, stale: float = STALE) -> bool:
        """Tell whether the driver has ended or disappeared.

        Args:
            age: seconds since its last heartbeat.
            stale: age from which the driver counts as gone.
        """
        if self.released or age > stale:
            return True
        return self.machine == _machine() and not Path(f"/proc/{self.pid}").exists()

    def refusal(self, name: str, age: float) -> BadInputError:
        """Return the error for a second driver."""
        remedy = f"wait for it, or stop it first; a dead one is replaced after {STALE:.0f}s"
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


def last_driver(store: BucketStore, name: str) -> Holder | None:
    """Return the last driver of a search; None if there was none.

    Raises:
        BadInputError: the driver is still running.
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
    """See `search.study.driver_lock.DriverLock`.

    Args:
        store: of the search.
        name: of the search.
        heartbeat: seconds between two heartbeats.
        stale: seconds without one after which another driver counts as gone.
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
        """Identifies this driver."""
        return self._holder.token

    def acquire(self, known: Collection[str] | None = None) -> None:
        """Take the lock.

        Args:
            known: tokens of the drivers whose work the local folder contains; None for a new
                search.

        Raises:
            BadInputError: another driver runs the search, or has continued it elsewhere.
            StorageError: the bucket cannot be used.
        """
        for _ in range(_TRIES):
            try:
                self._version = self._acquire(known)
            except FileExistsError:
                continue  # Another driver was faster; the next try names it.
            self._thread.start()
            return
        raise BadInputError(
            "NAME", self._name, "several drivers try to run it at once", "try again"
        )

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
                problem = f"{before.host} has continued it in {where} since {before.since}"
                remedy = "move its local folder away, then resume it from the storage"
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
        """Call a function, once and in a thread, with the host that took the search over."""
        self._on_loss = call

    def renew(self) -> None:
        """Write a heartbeat.

        Raises:
            TakenOverError: another driver took over, or this one has released the lock.
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
                # An earlier try of this driver succeeded, but its answer got lost.
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
        """See `search.study.driver_lock.DriverLock`."""
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        with self._lock:
            if self._version and not self._lost:
                # If it cannot be written, it goes stale by itself.
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
                continue  # The thread that writes snapshots warns of it.
