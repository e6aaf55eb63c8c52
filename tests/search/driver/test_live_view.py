import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from search.driver import live_view
from search.driver.live_view import LiveView


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[subprocess.Popen[bytes]]:
    """Return the processes that views start; each would run for a minute."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(folder: Path) -> subprocess.Popen[bytes]:
        processes.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return processes[-1]

    monkeypatch.setattr(live_view, "_start_page", start)
    return processes


@pytest.fixture
def search(tmp_path: Path) -> Any:
    """Return a search whose time left is unknown."""
    folder = SimpleNamespace(path=tmp_path, live=tmp_path / "live.json")
    clock = SimpleNamespace(left=lambda: None, has_finalists=False)
    return SimpleNamespace(folder=folder, clock=clock)


def test_search_of_seconds_starts_no_process_for_its_page(search, started):
    with LiveView(search):
        pass
    assert started == []


def test_longer_search_has_one_process_that_ends_with_it(search, started, monkeypatch):
    monkeypatch.setattr(live_view, "_EVERY", 0.02)
    with LiveView(search):
        patience = time.monotonic() + 20
        while not started and time.monotonic() < patience:
            time.sleep(0.01)
        time.sleep(0.1)  # Several rounds
        assert started[0].poll() is None
    assert len(started) == 1
    assert started[0].poll() is not None
