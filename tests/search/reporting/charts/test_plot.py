"""Charts as SVG: positions, ticks, labels and the points that are left out."""

from __future__ import annotations

import math
import re

from search.reporting.charts.plot import MOST_POINTS, Mark, Plot, Point, Series, draw, thinned
from search.reporting.charts.scales import Axis, Scale


def plot(*series: Series, x: Axis | None = None, levels: tuple[Mark, ...] = ()) -> Plot:
    return Plot("chart", x or Axis("x"), Axis("y", fraction=True), series, levels=levels)


def test_labels_are_escaped_and_in_the_order_of_the_points() -> None:
    drawn = draw(plot(Series("<b>", [Point(1, 0.5, 'a "<i>"\nb'), Point(2, 0.6, "c")])))
    assert 'data-labels="a &#34;&lt;i&gt;&#34; b\nc"' in drawn
    assert "<b>" not in drawn
    assert drawn.count("h0M") == 1


def test_points_that_are_not_finite_are_left_out() -> None:
    drawn = draw(plot(Series("", [Point(1, math.nan, "no"), Point(2, 0.6, "yes")])))
    assert 'data-labels="yes"' in drawn


def test_chart_without_points_says_so() -> None:
    assert "chart: nothing to draw yet." in draw(plot(Series("none", [])))


def test_one_point_and_equal_values_have_a_range() -> None:
    assert "NaN" not in draw(plot(Series("", [Point(3, 0.5)])))
    assert draw(plot(Series("", [Point(3, 0), Point(3, 0)])))


def test_thinning_keeps_the_first_of_a_cell_and_all_few() -> None:
    few = [Point(n, n % 7, str(n)) for n in range(MOST_POINTS)]
    assert thinned(few) == few
    many = [Point(0, 0, "best"), *(Point(n % 97, n % 89, str(n)) for n in range(5 * MOST_POINTS))]
    kept = thinned(many)
    assert kept[0].label == "best"
    assert len(kept) <= MOST_POINTS
    assert plot(Series("", many)).left_out == len(many) - len(kept)


def test_log_axis_spaces_factors_equally() -> None:
    scale = Scale(Axis("x", log=True), [1, 10, 100], 0, 100)
    assert abs((scale(10) - scale(1)) - (scale(100) - scale(10))) < 0.2
    assert all(tick.text for tick in scale.ticks)


def test_log_axis_with_a_zero_is_linear() -> None:
    scale = Scale(Axis("x", log=True), [0, 10], 0, 100)
    assert not scale.axis.log


def test_levels_are_within_the_axis() -> None:
    drawn = draw(plot(Series("", [Point(1, 0.9)]), levels=(Mark(0.1, "guess"),)))
    assert "guess" in drawn


def test_accuracies_have_no_tick_beyond_1() -> None:
    ticks = Scale(Axis("y", fraction=True), [0.2, 1.0], 0, 100).ticks
    assert max(float(tick.text) for tick in ticks) == 1.0


def test_marks_beyond_the_points_are_not_moved_to_the_end() -> None:
    series = Series("", [Point(1, 0.5), Point(2, 0.6)])
    marks = (Mark(3, "rung 1"), Mark(9, "rung 2"))
    drawn = draw(Plot("chart", Axis("x"), Axis("y"), [series], verticals=marks))
    places = re.findall(r'class="mark" x1="([\d.]+)"', drawn)
    assert len(set(places)) == 2
