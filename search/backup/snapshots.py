"""Writes snapshots of a search to a bucket, from which a new head continues if this one is lost.

A thread of the driver uploads changes every minute and at the end. When storage is unavailable, the
search continues. One warning is printed on failure and one on recovery.

Every trial in the journal must also be in the study that it is restored with. Otherwise the study
would draw another candidate under the same number. The opposite is harmless, because a resuming
driver completes the journal from the study. So a snapshot first looks up the end of the journal,
then copies the study, and then uploads the journal up to that end.
"""

from __future__ import annotations

import contextlib
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from search.backup.bucket_lock import LOCK_FILE, BucketLock, TakenOverError
from search.backup.checkpoint_cleanup import CheckpointCleanup
from search.console import note
from search.experiment.folder import SearchFolder

if TYPE_CHECKING:
    from cluster.s3 import BucketStore

EVERY = 60.0
"""Minimum interval between two snapshots in seconds."""
_TIME_FRACTION = 0.1
"""Maximum fraction of the time that goes into snapshots."""
PART = 8 << 20
"""Bytes after which a part of the journal is complete and not written again."""
JOURNAL = "journal/"
STUDY = "study.db"
EXPERIMENT = "experiment.yaml"
# Uploaded last, because they mark a restored folder as a search and its finalists as retrained.
_LAST = ("results.json", EXPERIMENT)
_NOT_COPIED = frozenset({"checkpoints", "tune", "driver.lock", "drivers", "journal", LOCK_FILE})
_BESIDE = (STUDY, "journal.jsonl", "tracking.")


def is_copied(name: str) -> bool:
    """Tell whether a snapshot contains a file of a search's folder unchanged.

    Args:
        name: relative to the folder. Study and journal are treated apart, see `Snapshots`.
    """
    parts = name.split("/")
    if any(not part or part.startswith(".") for part in parts) or parts[0] in _NOT_COPIED:
        return False
    return not (len(parts) == 1 and name.startswith(_BESIDE))


def parts_of(path: Path, start: int, end: int, size: int = PART) -> Iterator[tuple[int, bytes]]:
    """Yield a range of a journal in parts of whole lines, each with its offset.

    Args:
        path: the journal.
        start: offset of the first part.
        end: offset after a line.
        size: bytes after which a part ends with its current line.
    """
    with path.open("rb") as file:
        file.seek(start)
        while start < end:
            part = file.read(min(size, end - start))
            if start + len(part) < end:
                part += file.readline()
            yield start, part
            start += len(part)


def whole_lines(path: Path) -> int:
    """Return the offset after the last complete line of a journal."""
    if not path.exists():
        return 0
    with path.open("rb") as file:
        end = file.seek(0, 2)
        while end:
            begin = max(0, end - (1 << 16))
            file.seek(begin)
            newline = file.read(end - begin).rfind(b"\n")
            if newline >= 0:
                return begin + newline + 1
            end = begin
    return 0


def copy_study(source: Path, target: Path) -> None:
    """Copy a consistent state of a study that may be written meanwhile.

    Raises:
        sqlite3.Error: the study cannot be read, or the copy cannot be written.
    """
    with (
        contextlib.closing(sqlite3.connect(f"{source.as_uri()}?mode=ro", uri=True)) as reader,
        contextlib.closing(sqlite3.connect(target)) as writer,
    ):
        reader.execute("PRAGMA busy_timeout = 60000")
        reader.backup(writer)
        # Leaves one self-contained file.
        writer.execute("PRAGMA journal_mode = DELETE")


_note = partial(note, source="storage")


class Snapshots:
    """Uploads the state of a search to a bucket while it runs.

    Args:
        folder: of the search.
        store: of the search.
        lock: held on it.
        cleanup: of checkpoints; a snapshot with the end of a trial permits their removal.
        say: prints a line for people.
        every: minimum interval between two snapshots in seconds.
    """

    def __init__(
        self,
        folder: SearchFolder,
        store: BucketStore,
        lock: BucketLock,
        cleanup: CheckpointCleanup,
        *,
        say: Callable[[str], None] = _note,
        every: float | None = None,
    ) -> None:
        self._folder = folder
        self._store = store
        self._lock = lock
        self._say = say
        self._cleanup = cleanup
        self._every = EVERY if every is None else every
        self._written: dict[str, object] = {}
        """State of each file when it was last uploaded."""
        self._part: tuple[int, int] | None = None
        """Start and end of the last uploaded part of the journal."""
        self._starts: set[int] = set()
        self._tidied = False
        self._warned = False
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="snapshots", daemon=True)

    def start(self) -> None:
        """Start the thread, which writes a first snapshot at once."""
        self._thread.start()

    def finish(self) -> bool:
        """Stop the thread and write a last snapshot; the search must be closed by then.

        Returns:
            Whether the snapshot is complete.
        """
        self._ended.set()
        if self._thread.is_alive():
            self._thread.join()
        return self._attempt()

    def _run(self) -> None:
        while True:
            began = time.monotonic()
            self._attempt()
            took = time.monotonic() - began
            if self._ended.wait(max(self._every, took / _TIME_FRACTION)):
                return

    def _attempt(self) -> bool:
        try:
            # A driver that was suspended may have been replaced meanwhile.
            self._lock.renew()
            self._take()
        except TakenOverError:
            return False
        except (OSError, sqlite3.Error) as error:
            if not self._warned:
                self._say(
                    f"snapshots are not written to {self._store.location} ({_cause(error)}); the "
                    f"search continues, and everything is saved in {self._folder.path}"
                )
            self._warned = True
            return False
        if self._warned:
            self._say(f"snapshots are written to {self._store.location} again")
        self._warned = False
        return True

    def _take(self) -> None:
        """Upload all changes since the last snapshot, in an order that may stop anywhere."""
        ended = self._cleanup.due()
        end = whole_lines(self._folder.journal)
        files = self._files()
        self._bring_study()
        self._bring_journal(end)
        for name, path in files:
            self._bring(name, path)
        self._cleanup.remove_due(ended)

    def _files(self) -> list[tuple[str, Path]]:
        """Return the files to upload as they are, those that refer to others last."""
        found = []
        for path in self._folder.path.rglob("*"):
            name = path.relative_to(self._folder.path).as_posix()
            if is_copied(name) and path.is_file():
                found.append((name, path))
        return sorted(found, key=lambda each: (each[1].name in _LAST, each[0] == EXPERIMENT, each))

    def _bring(self, name: str, path: Path) -> None:
        try:
            status = path.stat()
            like = (status.st_ino, status.st_size, status.st_mtime_ns)
            if self._written.get(name) != like:
                self._store.write_file(name, path)
                self._written[name] = like
        except FileNotFoundError:
            return  # Removed or just being replaced; the next snapshot has it.

    def _bring_study(self) -> None:
        study = self._folder.study
        if not study.is_file():
            return  # The study is on a server.
        like = [_like(study), _like(study.with_name(f"{study.name}-wal"))]
        if self._written.get(STUDY) == like:
            return
        aside = study.with_name(f".{study.name}.snapshot")
        try:
            aside.unlink(missing_ok=True)
            copy_study(study, aside)
            self._store.write_file(STUDY, aside)
        finally:
            aside.unlink(missing_ok=True)
        self._written[STUDY] = like

    def _bring_journal(self, end: int) -> None:
        start, brought = self._part or (0, 0)
        for offset, part in parts_of(self._folder.journal, start, end) if end > brought else ():
            self._store.write(f"{JOURNAL}{offset:015}", part)
            self._part = (offset, offset + len(part))
            self._starts.add(offset)
        if not self._tidied:
            # A power cut may have shortened the local journal; remove the parts it lost.
            for entry in self._store.within(JOURNAL.rstrip("/")).entries():
                if int(entry.name) not in self._starts:
                    self._store.remove(f"{JOURNAL}{entry.name}")
            self._tidied = True


def _like(path: Path) -> object:
    try:
        status = path.stat()
    except FileNotFoundError:
        return None
    return status.st_size, status.st_mtime_ns


def _cause(error: Exception) -> str:
    problem = getattr(error, "problem", None)
    return " ".join(str(problem or error).split()) or type(error).__name__
