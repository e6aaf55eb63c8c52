"""Brings objects of a bucket to this node: once, side by side, and resumed where it broke off.

A file is there whole or not at all, under a name that tells the object, its version and its size:
what has changed in the bucket is another file. Large objects come in parts, and each part that has
arrived is written down.
"""

import hashlib
import os
import re
import shutil
import sys
import threading
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from cluster.files import write_atomically
from cluster.storage import StorageError
from spaces.errors import BadInputError
from trainables.images.cache import VARIABLE, locked, usable
from trainables.images.errors import UnusableDataError, shown

if TYPE_CHECKING:
    from cluster.s3 import BucketStore

PART = 8 << 20
"""Bytes that are fetched, and held in memory, at a time."""
RETRY_TIMEOUT = 300.0
"""Seconds without any progress after which a bucket that is away is given up."""
_PAUSE = 1.0
_TIMES = 3
"""A version that is no sum of the content is believed when the content comes the same twice."""
_CONNECTIONS = 16
_MD5 = re.compile(r"[0-9a-f]{32}")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Wanted:
    """One object that is to be on this node.

    Args:
        key: in the bucket.
        size: in bytes.
        version: as `cluster.storage.Entry.version`.
        path: of the file.
    """

    key: str
    size: int
    version: str
    path: Path

    @property
    def is_here(self) -> bool:
        """Whether the file is there: it is renamed when it is whole."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def partial(self) -> Path:
        """The file of an object that comes in parts, before it is whole."""
        return self.path.with_name(f"{self.path.name}.partial")

    @property
    def arrived(self) -> Path:
        """Which of its parts have arrived, by their positions."""
        return self.path.with_name(f"{self.path.name}.arrived")


def name_of(key: str, version: str, size: int) -> str:
    """Return the name of the file for a version of an object."""
    identity = f"{key}\n{version}\n{size}"
    return hashlib.sha256(identity.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Staging:
    """The objects of one location on this node.

    Args:
        root: the cache folder.
        store: the location.
        report: is told how many bytes have come, and how many there are.
    """

    def __init__(
        self, root: Path, store: "BucketStore", report: Callable[[int, int | None], None]
    ) -> None:
        self._root = root
        self._store = store
        self._report = report
        self._alive = time.monotonic()
        self._waiting = False
        self._writing = threading.Lock()
        name = hashlib.sha256(store.location.encode("utf-8", "surrogateescape")).hexdigest()[:32]
        self.folder = root / "staged" / name

    def bring(self, wanted: Sequence[Wanted]) -> None:
        """Bring what is not here yet, and remove what is not wanted any more.

        Another process that wants the same waits, and then finds it there.

        Raises:
            BadInputError: the cache folder cannot be used, or has no room.
            UnusableDataError: an object has changed or is gone.
            StorageError: the bucket cannot be used.
        """
        with usable(self._root):
            self.folder.mkdir(parents=True, exist_ok=True)
        with locked(self._root, self.folder.with_suffix(".lock")):
            total = sum(each.size for each in wanted)
            missing = [each for each in wanted if not each.is_here]
            done = total - sum(each.size for each in missing)
            with usable(self._root):
                self._check_room(missing)
            for _ in range(_TIMES):
                for came in self._fetch_all(missing):
                    done += came
                    self._report(done, total)
                missing = [each for each in missing if not each.is_here]
            if missing:
                raise UnusableDataError(
                    f"{shown(missing[0].key)} comes damaged", "see to the connection, or the bucket"
                )
            self._remove_others({each.path.name for each in wanted})

    def insist(self, call: Callable[[], Result]) -> Result:
        """Do something, again and again while the bucket is away, until the timeout."""
        while True:
            try:
                result = call()
            except StorageError as error:
                if not error.passing or time.monotonic() - self._alive > RETRY_TIMEOUT:
                    raise
                if not self._waiting:
                    self._waiting = True
                    _say(f"{error.location}: {error.problem}; waiting for it")
                time.sleep(_PAUSE)
            else:
                self._alive = time.monotonic()
                self._waiting = False
                return result

    def _check_room(self, missing: Sequence[Wanted]) -> None:
        needed = sum(each.size for each in missing)
        begun = [each.partial.stat() for each in missing if each.partial.exists()]
        needed -= sum(status.st_blocks * 512 for status in begun)
        free = shutil.disk_usage(self.folder).free
        if needed > free:
            raise BadInputError(
                VARIABLE,
                self._root,
                f"{needed / 1e9:.1f} GB are to be fetched, and {free / 1e9:.1f} GB are free",
                f"set {VARIABLE} to a folder with room",
            )

    def _fetch_all(self, missing: Sequence[Wanted]) -> Iterator[int]:
        """Fetch side by side; yields the bytes that have come, as they come."""
        pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="staging")
        running: set[Future[int]] = set()
        try:
            for task in self._tasks(missing):
                running.add(pool.submit(task))
                # What is in memory stays bounded, however many objects there are.
                while len(running) >= 2 * _CONNECTIONS:
                    done, running = wait(running, return_when=FIRST_COMPLETED)
                    yield from (each.result() for each in done)
            while running:
                done, running = wait(running, return_when=FIRST_COMPLETED)
                yield from (each.result() for each in done)
        finally:
            pool.shutdown(cancel_futures=True)

    def _tasks(self, missing: Sequence[Wanted]) -> Iterator[Callable[[], int]]:
        for each in missing:
            if each.size <= PART:
                yield partial(self._fetch_whole, each)
            else:
                yield from self._parts(each)

    def _fetch_whole(self, wanted: Wanted) -> int:
        before = b""
        while True:
            with _unchanged(wanted):
                content = self.insist(lambda: self._store.read_key(wanted.key, wanted.version))
            if _is_plausible(wanted, len(content), _md5([content])) or content == before:
                break
            before = content
        with usable(self._root):
            write_atomically(wanted.path, content)
        return wanted.size

    def _parts(self, wanted: Wanted) -> Iterator[Callable[[], int]]:
        """Yield what fetches each part that has not arrived; the last to arrive completes it."""
        count = -(-wanted.size // PART)
        with usable(self._root):
            here = _read_arrived(wanted)
            with wanted.partial.open("ab") as file:
                file.truncate(wanted.size)
        left = set(range(count)) - here
        if not left:
            yield partial(self._complete, wanted)
            return
        before = sum(_length(wanted, part) for part in here)
        for part in sorted(left):
            yield partial(self._fetch_part, wanted, part, left, before)
            before = 0

    def _fetch_part(self, wanted: Wanted, part: int, left: set[int], before: int) -> int:
        """Fetch a part; returns the bytes that have come, with those that had before."""
        first, length = part * PART, _length(wanted, part)
        with _unchanged(wanted):
            content = self.insist(
                lambda: self._store.read_part(wanted.key, first, first + length - 1, wanted.version)
            )
        if len(content) != length:
            raise _changed(wanted)
        with usable(self._root):
            descriptor = os.open(wanted.partial, os.O_WRONLY)
            try:
                rest = memoryview(content)
                while rest:
                    written = os.pwrite(descriptor, rest, first + length - len(rest))
                    rest = rest[written:]
                # Before it is said to be here: a power cut must not keep the word alone.
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)
        with self._writing:
            with usable(self._root), wanted.arrived.open("a", encoding="utf-8") as file:
                file.write(f"{part}\n")
            left.discard(part)
            complete = not left
        return before + length + (self._complete(wanted) if complete else 0)

    def _complete(self, wanted: Wanted) -> int:
        """Give an object its name; returns by how many bytes it has to come again."""
        marked = wanted.path.with_name(f"{wanted.path.name}.sum")
        with usable(self._root):
            with wanted.partial.open("rb") as file:
                found = _md5(iter(lambda: file.read(PART), b""))
            before = marked.read_text(encoding="utf-8") if marked.exists() else ""
            plausible = _is_plausible(wanted, wanted.partial.stat().st_size, found)
            if plausible or found == before:
                wanted.partial.replace(wanted.path)
                return 0
            marked.write_text(found, encoding="utf-8")
            wanted.arrived.unlink(missing_ok=True)
            wanted.partial.unlink()
            return -wanted.size

    def _remove_others(self, wanted: Collection[str]) -> None:
        with usable(self._root):
            for path in self.folder.iterdir():
                if path.name not in wanted:
                    path.unlink()


def _length(wanted: Wanted, part: int) -> int:
    return min(PART, wanted.size - part * PART)


def _read_arrived(wanted: Wanted) -> set[int]:
    """Return the parts of an object that are here."""
    if not wanted.partial.is_file() or not wanted.arrived.is_file():
        wanted.arrived.unlink(missing_ok=True)
        return set()
    lines = wanted.arrived.read_text(encoding="utf-8").split("\n")[:-1]
    return {int(line) for line in lines if line.isdecimal()}


def _md5(parts: "Iterator[bytes] | Sequence[bytes]") -> str:
    digest = hashlib.md5(usedforsecurity=False)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def _is_plausible(wanted: Wanted, size: int, md5: str) -> bool:
    """Tell whether content is what its size and version say.

    A version that looks like an MD5 sum mostly is one; where the bucket encrypts with keys of its
    owner, it is none. Then only a second time tells.
    """
    if size != wanted.size:
        return False
    return _MD5.fullmatch(wanted.version) is None or wanted.version == md5


@contextmanager
def _unchanged(wanted: Wanted) -> Iterator[None]:
    """Say of an object that is another one than was listed that it has changed."""
    try:
        yield
    except (FileNotFoundError, FileExistsError) as error:
        raise _changed(wanted) from error


def _changed(wanted: Wanted) -> UnusableDataError:
    return UnusableDataError(
        f"{shown(wanted.key)} was changed or removed while it was fetched",
        "leave the images alone until they are here, and start again",
    )


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        print(f"data: {line}", file=sys.stderr)  # noqa: T201
