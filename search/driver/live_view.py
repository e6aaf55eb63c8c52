"""Keeps `status` and the page of a running search up to date, beside the search."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Self

from search.backend.usage import cluster_usage
from search.driver.session import SearchSession
from search.study.live_state import LiveState

_ROOT = Path(__file__).resolve().parents[2]
_EVERY = 10.0
"""Seconds between two states: `status` ignores older ones than a minute."""


class LiveView:
    """Writes the state of a search, and rewrites its page, until the `with` block ends.

    A thread writes the state. A process of its own rewrites the page from the stored search, so
    that a report of thousands of trials slows neither the event loop nor the trainings.

    Args:
        search: that runs.
    """

    def __init__(self, search: SearchSession) -> None:
        self._search = search
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="live view", daemon=True)
        self._page: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        """Start the thread, which starts the process if the search takes longer than seconds."""
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End both."""
        self._ended.set()
        self._thread.join(timeout=_EVERY)
        if self._page is not None:
            with self._page:
                self._page.kill()
        with suppress(OSError):
            self._search.folder.live.unlink(missing_ok=True)

    def _run(self) -> None:
        while True:
            # The cluster or the disk may be away; the search itself says so.
            with suppress(Exception):
                self._write()
            if self._ended.wait(_EVERY):
                return
            if self._page is None:
                with suppress(OSError):  # A search runs without a page.
                    self._page = _start_page(self._search.folder.path)

    def _write(self) -> None:
        clock = self._search.clock
        left = clock.left()
        state = LiveState(
            time.time(),
            clock.has_finalists,
            None if left is None else left.seconds,
            **asdict(cluster_usage()),
        )
        state.write(self._search.folder.live)


def _start_page(folder: Path) -> subprocess.Popen[bytes]:
    """Start the process that rewrites the page; it ends when its standard input closes."""
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    environment["PYTHONPATH"] = os.pathsep.join(
        [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )
    return subprocess.Popen(  # noqa: S603
        [sys.executable, "-P", "-m", "search.reporting.page.live_page", str(folder)],
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment,
        # In a session of its own, so that Ctrl-C in the terminal reaches the driver alone.
        start_new_session=True,
    )
