"""Fetches objects of a bucket to this node: once, in parallel, and resumable.

A file appears atomically under a name that encodes the object's key, version and size, so a changed
object is another file. Large objects are fetched in parts, and each finished part is recorded.
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
"""Bytes per part; each connection holds one part in memory."""
RETRY_TIMEOUT = 300.0
"""Seconds without progress after which retrying an unavailable bucket ends."""
_PAUSE = 1.0
_TIMES = 3
"""Maximum number of fetches of an object whose content does not match its version."""
_CONNECTIONS = 16
_MD5 = re.compile(r"[0-9a-f]{32}")

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Wanted:
    """An object to fetch.

    Args:
        key: key in the bucket.
        size: size in bytes.
        version: as in `cluster.storage.Entry.version`.
        path: path of the local file.
    """

    key: str
    size: int
    version: str
    path: Path

    @property
    def is_here(self) -> bool:
        """Whether the complete file exists."""
        return self.path.is_file() and self.path.stat().st_size == self.size

    @property
    def partial(self) -> Path:
        """Incomplete file of an object that is fetched in parts."""
        return self.path.with_name(f"{self.path.name}.partial")

    @property
    def arrived(self) -> Path:
        """File that records the fetched parts by position."""
        return self.path.with_name(f"{self.path.name}.arrived")


def name_of(key: str, version: str, size: int) -> str:
    """Return the file name for a version of an object."""
    text = f"{key}\n{version}\n{size}"
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:32]


class Staging:
    """The local copies of the objects of one location.

    Args:
        root: the cache folder.
        store: store of the location.
        report: called with the fetched bytes and their total.
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
        """Fetch missing objects, and remove files that are not wanted.

        Other processes that want the same objects wait.

        Raises:
            BadInputError: the cache folder cannot be used or is full.
            UnusableDataError: an object has changed, is gone or arrives damaged.
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
                    f"{shown(missing[0].key)} arrives damaged",
                    "check the connection and the bucket",
                )
            self._remove_others({each.path.name for each in wanted})

    def insist(self, call: Callable[[], Result]) -> Result:
        """Call a function; retry it while the bucket is unavailable, until the timeout."""
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
        """Fetch in parallel; yield the fetched bytes of each task."""
        pool = ThreadPoolExecutor(_CONNECTIONS, thread_name_prefix="staging")
        running: set[Future[int]] = set()
        try:
            for task in self._tasks(missing):
                running.add(pool.submit(task))
                # Bound the memory for any number of objects.
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
        """Yield the tasks that fetch missing parts; the last part completes the object."""
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
        """Fetch a part; return its bytes plus those of earlier parts."""
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
                # Sync before recording the part: a power cut must not keep only the record.
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
        """Rename a complete object; return 0, or minus its size if it must be fetched again."""
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
    """Return the fetched parts of an object."""
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
    """Tell whether content matches the size and version of an object.

    A version that looks like an MD5 sum usually is one, but not in buckets encrypted with customer
    keys. Then only a second fetch with equal content confirms it.
    """
    if size != wanted.size:
        return False
    return _MD5.fullmatch(wanted.version) is None or wanted.version == md5


@contextmanager
def _unchanged(wanted: Wanted) -> Iterator[None]:
    """Report an object that differs from its listing as changed."""
    try:
        yield
    except (FileNotFoundError, FileExistsError) as error:
        raise _changed(wanted) from error


def _changed(wanted: Wanted) -> UnusableDataError:
    return UnusableDataError(
        f"{shown(wanted.key)} was changed or removed while it was fetched",
        "do not change the images while they are fetched, then start again",
    )


def _say(line: str) -> None:
    with suppress(OSError, ValueError):
        print(f"data: {line}", file=sys.stderr)  # noqa: T201
