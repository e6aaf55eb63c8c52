"""Rewrites the page of a running search every half minute; a process of its own.

The process ends when its standard input closes, because its driver then has died. A driver that
ends otherwise stops the process first, and writes the page itself.
"""

from __future__ import annotations

import os
import select
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from cluster.files import write_atomically
from search.experiment.folder import SearchFolder
from search.formatting import duration
from search.reporting.gathering import Gathered
from search.reporting.page.search_page import search_page
from search.reporting.rendering import Section
from search.reporting.stored_search import StoredSearch
from search.study.live_state import LiveState

EVERY = 30
"""Seconds between two pages, and after which a browser loads the page again."""
_MOST_WORK = 0.05
"""Fraction of the time that the process works at most: a large report is rewritten less often."""


def write_live_page(folder: SearchFolder) -> None:
    """Write the page of a running search, which loads itself again.

    Args:
        folder: of the search.
    """
    page = search_page(
        Gathered.of(StoredSearch(folder)), _now(LiveState.read(folder.live)), refresh=EVERY
    )
    write_atomically(folder.report, page)


def write_last_page(folder: SearchFolder) -> None:
    """Write the page of a search whose driver died; it does not load itself again.

    Args:
        folder: of the search.
    """
    # A server of the database may take a while to notice that the driver has died.
    stored = StoredSearch(folder, ended_as="interrupted")
    write_atomically(folder.report, search_page(Gathered.of(stored)))


def _now(state: LiveState | None) -> list[Section]:
    """Return the section on the running search."""
    if state is None:
        return []
    left = "" if state.seconds_left is None else f"About {duration(state.seconds_left)} left. "
    sentence = f"{left}{state.devices}. This page follows the search."
    return [Section("Running now", (sentence,))]


def follow(folder: SearchFolder, wait: Callable[[float], bool]) -> None:
    """Rewrite the page until the driver ends.

    Args:
        folder: of the search.
        wait: waits for seconds; returns whether the driver has ended.
    """
    written_for = -1
    pause = 1.0
    while not wait(pause):
        began = time.process_time()
        # Files change under this process; the next page shows them.
        with suppress(Exception):
            size = folder.journal.stat().st_size
            if size != written_for:
                write_live_page(folder)
                written_for = size
        pause = max(EVERY, (time.process_time() - began) / _MOST_WORK)
    with suppress(Exception):
        # Nobody else tells a reader that the search no longer runs.
        write_last_page(folder)


def _driver_ended(seconds: float) -> bool:
    ready, _, _ = select.select([sys.stdin], [], [], seconds)
    return bool(ready)


def main() -> None:
    """Follow the search in the folder that the command line names."""
    with suppress(OSError):
        os.nice(19)
    follow(SearchFolder(Path(sys.argv[1])), _driver_ended)


if __name__ == "__main__":
    main()
