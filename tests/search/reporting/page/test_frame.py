"""The frame of pages: tables, figures and parts."""

from __future__ import annotations

from markupsafe import Markup

from search.reporting.charts.plot import Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.page.frame import Part, bar, facts, figure, render_page, table

EVIL = "<script>alert(1)</script>"


def test_text_is_escaped_everywhere() -> None:
    plot = Plot(EVIL, Axis(EVIL), Axis(EVIL), [Series(EVIL, [Point(1, 1, EVIL)])])
    content = (
        table([EVIL], [[EVIL]], EVIL),
        figure(plot, EVIL, table([EVIL], [[bar(EVIL, 0.5)]])),
        facts({EVIL: EVIL}),
    )
    page = render_page(EVIL, [Part(EVIL, (EVIL,), content)], lead=[EVIL])
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert") > 12


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    found = table(
        ["name", "n", "share", "time"],
        [["a", "1,000", "0.50-0.75", "3 ms"], ["b", "-", "0.9 ± 0.1", "4 s"]],
    )
    assert found.count('<td class="number">') == 6
    assert '<td class="number">a' not in found


def test_page_refreshes_only_if_asked() -> None:
    assert "refresh" not in render_page("t", [])
    assert '<meta http-equiv="refresh" content="30">' in render_page("t", [], refresh=30)


def test_facts_without_a_value_are_left_out() -> None:
    assert facts({"a": "", "b": "1"}) == Markup("<dl><dt>b</dt><dd>1</dd></dl>")
