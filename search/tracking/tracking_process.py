"""The tracking process beside the driver: it replays the journal into MLflow.

A separate process keeps MLflow's import, database migrations and requests out of the driver's
interpreter. The journal stores what the process cannot deliver.

Example:
    with Journal(folder / "journal.jsonl") as journal:
        tracker = Tracker(journal.path, Destination.from_environment(home), search_id)
        tracker.start()
        journal.start(PARENT, name="quickstart", params={"space": "vgg"})
        ...
    if not tracker.finish(timeout=15):
        print("later: python search.py sync quickstart")
"""

import argparse
import contextlib
import gc
import logging
import os
import subprocess
import sys
import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock, Timeout

from search.console import note
from search.tracking.journal_reader import ended
from search.tracking.mlflow_destination import DEFAULT_EXPERIMENT, Destination, ui_command
from search.urls import sqlite_uri
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from search.tracking.journal_replay import Replayer

__all__ = ["Destination", "SyncReport", "Tracker", "create_local_store", "sync", "ui_command"]

_ROOT = Path(__file__).resolve().parents[2]

# Settings of MLflow's client, unless the user has set them. The client fails early because the
# replayer retries, and the replayer can repeat a call without duplicates.
_CLIENT_SETTINGS = {
    "MLFLOW_HTTP_REQUEST_TIMEOUT": "10",
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT": "true",
    "MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR": "false",
    "MLFLOW_DISABLE_TELEMETRY": "true",
    "OMP_NUM_THREADS": "1",
}

_GLANCE = 0.2
_INTERVAL = 1.0
_LAST_ATTEMPTS = 5
_SYNC_ATTEMPTS = 3
_GRACE = 2.0

_SYNCED, _NOT_SYNCED = 0, 75


@dataclass(frozen=True)
class SyncReport:
    """The result of `sync`.

    Args:
        events: number of events sent; 0 if all had arrived before.
        runs: number of their runs.
        refused: number of values that the store refused; a warning names each.
    """

    events: int
    runs: int
    refused: int


class Tracker:
    """Starts and stops the tracking process of a driver; its failures never reach the driver.

    Args:
        journal: file that the driver writes; open the `Journal` first.
        destination: store and experiment of the runs.
        search: identifies the search among all others in the store: its name and creation id.
    """

    def __init__(self, journal: Path, destination: Destination, search: str) -> None:
        self._journal = journal
        self._destination = destination
        self._search = search
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """Id of the running process; None if it does not run."""
        running = self._process is not None and self._process.poll() is None
        return self._process.pid if running and self._process is not None else None

    def start(self) -> None:
        """Start the process unless it runs; a later call replaces a dead one."""
        if self.pid is not None:
            return
        where = self._destination
        command = [
            *(sys.executable, "-P", "-m", "search.tracking.tracking_process"),
            *("--journal", str(self._journal)),
            *("--home", str(where.home)),
            *("--experiment", where.experiment),
            *("--search", self._search),
            *("--parent", str(os.getpid())),
        ]
        environment = _CLIENT_SETTINGS | os.environ
        environment["MLFLOW_TRACKING_URI"] = where.tracking_uri
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        try:
            # In a session of its own, so that Ctrl-C in the terminal reaches the driver alone.
            self._process = subprocess.Popen(  # noqa: S603
                command, stdin=subprocess.DEVNULL, env=environment, start_new_session=True
            )
        except OSError as error:
            _note(
                f"cannot start the tracking process ({error}); "
                f"all events are saved in {self._journal}"
            )

    def finish(self, timeout: float) -> bool:
        """Wait until everything has arrived; close the journal first.

        Args:
            timeout: seconds after which the process is terminated.

        Returns:
            Whether everything has arrived. If not, `sync` can send the rest later.
        """
        deadline = time.monotonic() + timeout
        self.start()
        result = self._wait(deadline)
        if result not in {None, _SYNCED, _NOT_SYNCED}:
            # It was killed or has crashed: a new process soon sends the rest.
            self.start()
            result = self._wait(deadline)
        if result is None:
            self._end()
        return result == _SYNCED

    def _wait(self, deadline: float) -> int | None:
        if self._process is None:
            return _NOT_SYNCED
        try:
            return self._process.wait(max(0.0, deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            return None

    def _end(self) -> None:
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def sync(
    journal_path: Path,
    destination: Destination,
    search: str,
    *,
    from_start: bool = False,
    progress: Callable[[float], None] | None = None,
) -> SyncReport:
    """Send the rest of a journal once, in this process.

    Args:
        journal_path: the journal.
        destination: store and experiment of the runs.
        search: identifies the search among all others in the store.
        from_start: replay the whole journal into a store that has lost a part; existing runs stay
            unchanged.
        progress: called with the arrived fraction of the journal, 0 to 1.

    Raises:
        BadInputError: there is no journal, another process replays it, or the store does not accept
            it.
    """
    name = journal_path.parent.name
    if not journal_path.exists():
        raise BadInputError("sync", name, f"there is no {journal_path}", "name a search that ran")
    with contextlib.ExitStack() as stack:
        if not stack.enter_context(_lock(journal_path)):
            raise BadInputError(
                "sync",
                name,
                "another process is replaying its journal into MLflow",
                "wait until the search has ended",
            )
        stack.enter_context(quiet())
        from search.tracking.journal_replay import Replayer  # noqa: PLC0415

        replayer = Replayer(journal_path, destination, search, _note, warn_after=_SYNC_ATTEMPTS + 1)
        if from_start:
            replayer.restart()
        size = journal_path.stat().st_size
        while not replayer.step(hurry=True):
            if replayer.failures >= _SYNC_ATTEMPTS:
                raise BadInputError(
                    "tracking store" if destination.local else "MLFLOW_TRACKING_URI",
                    destination.shown,
                    replayer.trouble,
                    f"fix it and sync again; all events are saved in {journal_path}",
                )
            if progress is not None:
                progress(replayer.offset / max(size, 1))
            time.sleep(replayer.pause(hurry=True))
    return SyncReport(replayer.events, len(replayer.runs), replayer.refusals)


def create_local_store(home: Path) -> None:
    """Create the local store if it is missing.

    Raises:
        OSError: the folder cannot be written.
    """
    with quiet():
        from search.tracking.local_store import prepare  # noqa: PLC0415

        prepare(sqlite_uri(home / "mlflow.db"))


def main(arguments: Sequence[str] | None = None) -> int:
    """Replay a journal while it grows: the entry of the tracking process.

    Returns:
        0 if everything has arrived after the driver's end, otherwise 75.
    """
    parser = argparse.ArgumentParser(
        prog="python -m search.tracking.tracking_process", description=main.__doc__
    )
    parser.add_argument("--journal", type=Path, required=True)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--experiment", default=DEFAULT_EXPERIMENT)
    parser.add_argument("--search", required=True)
    parser.add_argument("--parent", type=int, required=True)
    options = parser.parse_args(arguments)
    with contextlib.suppress(OSError):
        os.nice(10)
    destination = Destination.from_environment(options.home, options.experiment)
    parent: int = options.parent

    def orphaned() -> bool:
        return os.getppid() != parent

    def ending() -> bool:
        return orphaned() or ended(options.journal)

    with contextlib.ExitStack() as stack:
        # The process of an earlier driver may still be at its last attempts.
        if not stack.enter_context(_lock(options.journal, wait=lambda: not orphaned())):
            return _NOT_SYNCED
        stack.enter_context(quiet())
        # Without it, scanning MLflow's modules for garbage takes a third of a short search.
        gc.disable()
        from search.tracking.journal_replay import Replayer  # noqa: PLC0415

        replayer = Replayer(options.journal, destination, options.search, _note)
        replayer.step()
        gc.freeze()
        gc.enable()
        return _SYNCED if _follow(replayer, ending, orphaned) else _NOT_SYNCED


def _follow(replayer: "Replayer", ending: Callable[[], bool], orphaned: Callable[[], bool]) -> bool:
    """Replay until the driver has ended; return whether everything has arrived."""
    last = False
    while True:
        if not last and ending():
            last = True
            replayer.retry_now()
        done = replayer.step(hurry=last)
        if done and last:
            return True
        if replayer.failures >= _LAST_ATTEMPTS and orphaned():
            return False
        if done or replayer.failures:
            pause = min(_INTERVAL, replayer.pause(hurry=last) or _INTERVAL)
            until = time.monotonic() + pause
            while time.monotonic() < until and (last or not ending()):
                time.sleep(min(_GLANCE, pause))


@contextlib.contextmanager
def _lock(journal_path: Path, wait: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Hold the lock for replaying a journal; yields False if another process holds it.

    Args:
        journal_path: the journal.
        wait: polled; while it returns True, wait for the other process.
    """
    lock = FileLock(journal_path.with_name("tracking.lock"))
    while True:
        try:
            lock.acquire(blocking=False)
        except Timeout:
            if wait():
                time.sleep(_GLANCE)
                continue
            yield False
        else:
            try:
                yield True
            finally:
                lock.release()
        return


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Silence MLflow and its dependencies, and apply our settings of its client."""
    added = {name: value for name, value in _CLIENT_SETTINGS.items() if name not in os.environ}
    level = logging.root.manager.disable
    os.environ.update(added)
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
        for name in added:
            os.environ.pop(name, None)


_note = partial(note, source="tracking")


if __name__ == "__main__":
    code = main()
    sys.stderr.flush()
    # A regular exit of MLflow takes half a second, and everything is on disk.
    os._exit(code)
