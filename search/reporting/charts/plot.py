"""Charts of dots and lines over two axes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.reporting.charts.scales import Axis, Scale
from search.templates import render

MOST_POINTS = 2_000
"""Points of a series that a chart draws at most."""
_WIDTH, _HEIGHT = 760.0, 360.0
_LEFT, _RIGHT, _BOTTOM = 62.0, 16.0, 50.0
_LEGEND_ROW, _CHARACTER = 20.0, 7.0


@dataclass(frozen=True)
class Point:
    """A point of a series, with the text that the page shows for it."""

    x: float
    y: float
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one kind.

    Attributes:
        name: entry of the legend; empty for none.
        points: points that are not finite are left out.
        colour: number of a colour of the page, 0..7; None for the dim one.
        line: ``line`` joins the points, ``step`` joins them by steps, empty draws dots.
        dashed: whether the line is dashed.
    """

    name: str
    points: Sequence[Point]
    colour: int | None = 0
    line: str = ""
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A dashed line at a value of an axis.

    Attributes:
        at: value.
        text: beside it.
    """

    at: float
    text: str


@dataclass(frozen=True)
class Plot:
    """A chart.

    Attributes:
        title: for readers that do not see it.
        x: horizontal axis.
        y: vertical axis.
        series: later ones are drawn above earlier ones.
        verticals: lines at values of x.
        levels: lines at values of y.
    """

    title: str
    x: Axis
    y: Axis
    series: Sequence[Series]
    verticals: Sequence[Mark] = ()
    levels: Sequence[Mark] = ()

    @property
    def left_out(self) -> int:
        """Points that the chart does not draw, because others lie on them."""
        drawn = [series for series in self.series if not series.line]
        return sum(len(_finite(each.points)) - len(thinned(each.points)) for each in drawn)


@dataclass(frozen=True)
class _Drawn:
    name: str
    style: str
    path: str
    labels: str


@dataclass(frozen=True)
class _Entry:
    x: float
    y: float
    name: str
    style: str


def draw(plot: Plot) -> Markup:
    """Return a chart as SVG for a page; a paragraph if it has no points."""
    points = [point for series in plot.series for point in _finite(series.points)]
    if not points:
        return Markup('<p class="empty">{}: nothing to draw yet.</p>').format(plot.title)
    legend, top = _legend(plot.series)
    if plot.verticals:
        top += 14
    bottom, right = _HEIGHT - _BOTTOM, _WIDTH - _RIGHT
    widths = [point.x for point in points] + [mark.at for mark in plot.verticals]
    across = Scale(plot.x, widths, _LEFT, right)
    heights = [point.y for point in points] + [level.at for level in plot.levels]
    up = Scale(plot.y, heights, bottom, top)
    return render(
        "plot.svg",
        plot=plot,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=right,
        top=top,
        bottom=bottom,
        x_ticks=across.ticks,
        y_ticks=up.ticks,
        series=[_drawn(series, across, up) for series in plot.series],
        verticals=[(across(mark.at), mark.text) for mark in plot.verticals],
        levels=[(up(mark.at), mark.text) for mark in plot.levels],
        legend=legend,
    )


def thinned(points: Sequence[Point]) -> list[Point]:
    """Return at most `MOST_POINTS` points: of those in one cell of a grid, the first.

    Args:
        points: the most important first.
    """
    found = _finite(points)
    cells = 256
    while len(found) > MOST_POINTS:
        found = _first_in_cells(found, cells)
        cells //= 2
    return found


def _first_in_cells(points: Sequence[Point], cells: int) -> list[Point]:
    xs, ys = [point.x for point in points], [point.y for point in points]
    left, below = min(xs), min(ys)
    wide, high = (max(xs) - left) or 1.0, (max(ys) - below) or 1.0
    kept: dict[tuple[int, int], Point] = {}
    for point in points:
        cell = int((point.x - left) / wide * cells), int((point.y - below) / high * cells)
        kept.setdefault(cell, point)
    return list(kept.values())


def _finite(points: Sequence[Point]) -> list[Point]:
    return [point for point in points if math.isfinite(point.x) and math.isfinite(point.y)]


def _drawn(series: Series, across: Scale, up: Scale) -> _Drawn:
    points = _finite(series.points) if series.line else thinned(series.points)
    places = [(across(point.x), up(point.y)) for point in points]
    labels = "\n".join(" ".join(point.label.split()) for point in points)
    return _Drawn(series.name, _style(series), path_of(places, series.line), labels)


def path_of(places: Sequence[tuple[float, float]], line: str) -> str:
    """Return the path of points: a dot for each, or a line through all.

    The script of the page reads the points from it: each follows an M or an L.
    """
    if not line:
        return "".join(f"M{x:g} {y:g}h0" for x, y in places)
    parts = []
    for number, (x, y) in enumerate(places):
        if number and line == "step":
            parts.append(f"H{x:g}")
        parts.append(f"{'L' if number else 'M'}{x:g} {y:g}")
    return "".join(parts)


def _style(series: Series) -> str:
    colour = "dim" if series.colour is None else f"s{series.colour}"
    form = "line" if series.line else "dots"
    return f"{colour} {form}{' dashed' if series.dashed else ''}"


def _legend(series: Sequence[Series]) -> tuple[list[_Entry], float]:
    """Return the legend in rows, and where the plot begins below it."""
    entries: list[_Entry] = []
    x, y = _LEFT, 16.0
    for each in series:
        if not each.name or not each.points:
            continue
        width = 36 + _CHARACTER * len(each.name)
        if x + width > _WIDTH - _RIGHT and x > _LEFT:
            x, y = _LEFT, y + _LEGEND_ROW
        entries.append(_Entry(x, y, each.name, _style(each)))
        x += width
    return entries, y + 14 if entries else 14.0
