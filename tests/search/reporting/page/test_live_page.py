"""The page of a running search is rewritten while the driver lives."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from search.experiment.folder import SearchFolder
from search.reporting.gathering import Gathered
from search.reporting.page import live_page


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the searches whose page was written."""
    names: list[str] = []
    monkeypatch.setattr(live_page, "write_live_page", lambda folder: names.append(folder.name))
    monkeypatch.setattr(live_page, "write_last_page", lambda folder: names.append("last"))
    return names


def follow(folder: Path, sizes: list[int]) -> list[float]:
    """Follow a search whose journal has these sizes in turn; return the pauses."""
    pauses: list[float] = []

    def wait(seconds: float) -> bool:
        pauses.append(seconds)
        if len(pauses) > len(sizes):
            return True
        (folder / "journal.jsonl").write_bytes(b"x" * sizes[len(pauses) - 1])
        return False

    live_page.follow(SearchFolder(folder), wait)
    return pauses


def test_page_is_rewritten_only_after_new_events(written: list[str], tmp_path: Path) -> None:
    pauses = follow(tmp_path, [1, 1, 2, 2])
    assert written == [tmp_path.name, tmp_path.name, "last"]
    assert pauses[1:] == [live_page.EVERY] * 4


def test_error_of_one_page_does_not_end_the_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def fail(folder: SearchFolder) -> None:
        calls.append(folder)
        raise ValueError("half a file")

    monkeypatch.setattr(live_page, "write_live_page", fail)
    follow(tmp_path, [1, 1])
    assert len(calls) == 2


def test_costly_page_is_rewritten_less_often(
    written: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    times = iter([0.0, 6.0])
    monkeypatch.setattr(live_page.time, "process_time", lambda: next(times))
    assert follow(tmp_path, [1])[-1] == 120.0


def test_page_after_a_killed_driver_says_interrupted(
    monkeypatch: pytest.MonkeyPatch, make_gathered: Callable[..., Gathered]
) -> None:
    gathered = make_gathered(finalists=(), state="running")

    class Stored:
        def __init__(self, folder: SearchFolder, ended_as: str = "") -> None:
            self.__dict__ |= vars(gathered)
            self.state = ended_as or "running"

    monkeypatch.setattr(live_page, "StoredSearch", Stored)
    live_page.write_live_page(gathered.folder)
    page = gathered.folder.report.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' in page
    assert "The search is running." in page
    live_page.write_last_page(gathered.folder)
    page = gathered.folder.report.read_text(encoding="utf-8")
    assert 'http-equiv="refresh"' not in page
    assert "The search is running." not in page
    assert "The search was interrupted, and can be resumed." in page
