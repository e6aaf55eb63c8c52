"""The whole page of a search: it never breaks, escapes everything and opens in a browser."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from search.reporting.gathering import Gathered
from search.reporting.page import search_page as module
from search.reporting.page.frame import Part
from search.reporting.page.search_page import search_page
from tests.mlflow.browser import browser
from tests.requirements import lack

MakeGathered = Callable[..., Gathered]

HEADINGS = [
    "The search",
    "Finalists",
    "Leaderboard",
    "Classes of the winner",
    "Networks",
    "Progress",
    "Learning curves",
    "Accuracy against cost",
    "Rejected before training",
    "Which parameter mattered",
    "All parameters at once",
    "Time and failures",
    "What to try next",
]


def headings(page: str) -> list[str]:
    return re.findall(r"<h2[^>]*>([^<]*)</h2>", page)


def test_parts_come_in_order_of_importance(make_gathered: MakeGathered) -> None:
    assert headings(search_page(make_gathered())) == HEADINGS


def test_hostile_names_and_errors_are_escaped(make_gathered: MakeGathered) -> None:
    page = search_page(make_gathered())
    assert page.count("<script>") == 1
    assert "&lt;script&gt;alert" in page


def test_part_with_an_error_says_so_and_the_others_remain(
    make_gathered: MakeGathered, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken_part(gathered: Gathered) -> Part | None:
        raise KeyError("<latency>")

    def whole_part(gathered: Gathered) -> Part | None:
        return Part("Whole")

    monkeypatch.setattr(module, "_EVIDENCE", (broken_part, whole_part))
    page = search_page(make_gathered())
    assert headings(page) == ["The search", "Finalists", "Broken", "Whole"]
    assert "This part could not be made" in page
    assert "KeyError: &#39;&lt;latency&gt;&#39;" in page


@pytest.mark.parametrize("trials", [0, 1, 2, 10])
def test_page_of_a_young_search_is_made(make_gathered: MakeGathered, trials: int) -> None:
    page = search_page(make_gathered(trials=trials, finalists=(), state="running"))
    assert "could not be made" not in page
    found = headings(page)
    assert {"The search", "Leaderboard", "Rejected before training"} <= set(found)
    assert "Finalists" not in found


def test_page_of_an_old_search_says_what_is_missing(make_gathered: MakeGathered) -> None:
    gathered = make_gathered()
    for name in ("data.json", "baseline.json", "machine.json", "pictures.json"):
        (gathered.folder.path / name).unlink()
    page = search_page(gathered)
    assert "could not be made" not in page
    assert "not recorded, because an older version started the search" in page
    assert "labels of the test images are not stored" in page


def test_page_shows_everything_in_a_browser(make_gathered: MakeGathered, tmp_path: Path) -> None:
    program = shutil.which("chromium")
    if program is None:
        lack("the Debian package chromium")
    file = tmp_path / "report.html"
    file.write_text(search_page(make_gathered()), encoding="utf-8")
    with browser(program, tmp_path) as shown:
        shown.open(file.as_uri())
        shown.wait(lambda: shown.value("document.readyState") == "complete")
        text = shown.text()
        for heading in HEADINGS:
            assert heading in text
        assert shown.value("document.querySelectorAll('svg.plot').length") >= 8
        assert shown.value("[...document.images].every(image => image.naturalWidth)")
        assert [url for url in shown.requests if not url.startswith("data:")] == [file.as_uri()]
        assert shown.errors == []

        plot = "document.querySelector('svg.plot')"
        shown.value(f"{plot}.focus()")
        shown.call("Input.dispatchKeyEvent", type="keyDown", key="ArrowRight", code="ArrowRight")
        assert "trial 0" in shown.value(f"{plot}.parentElement.querySelector('output').innerText")

        lines = "document.querySelectorAll('.threads path:not(.out)').length"
        before = shown.value(lines)
        slider = "document.querySelector('input[type=range]')"
        shown.value(f"{slider}.value = 5; {slider}.dispatchEvent(new Event('input'))")
        assert (before, shown.value(lines)) == (36, 5)
