"""The page of a running search is rewritten while the driver lives."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from search.experiment.folder import SearchFolder
from search.reporting.page import live_page


@pytest.fixture
def written(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the searches whose page was written."""
    names: list[str] = []
    monkeypatch.setattr(live_page, "write_live_page", lambda folder: names.append(folder.name))
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
    assert len(written) == 2
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
