"""Draws charts as SVG, which pages contain; their colours are those of the page."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from experiments.reproduction.records import Chart, Point
from experiments.reproduction.templates import render

COLOURS = 8
"""Number of different colours of the page."""
_WIDTH, _HEIGHT = 760.0, 400.0
_LEFT, _RIGHT, _BOTTOM = 66.0, 16.0, 52.0
_LEGEND_ROW, _CHARACTER = 20.0, 7.4
_TICKS = 6


@dataclass(frozen=True)
class _Tick:
    at: float
    text: str


@dataclass(frozen=True)
class _Dot:
    x: float
    y: float
    low: float
    high: float
    label: str


@dataclass(frozen=True)
class _Line:
    name: str
    colour: int
    dashed: bool
    path: str
    dots: tuple[_Dot, ...]


@dataclass(frozen=True)
class _Entry:
    """An entry of the legend."""

    x: float
    y: float
    name: str
    colour: int
    dashed: bool


@dataclass(frozen=True)
class _Mark:
    x: float
    label: str


class _Scale:
    """Maps the values of an axis to positions.

    Args:
        low: smallest value.
        high: largest value.
        start: position of the smallest value.
        end: position of the largest value.
        log: whether the axis is logarithmic.
    """

    def __init__(self, low: float, high: float, start: float, end: float, log: bool) -> None:
        self._log = log
        self._low, self._high = self._inner(low), self._inner(high)
        self._start, self._end = start, end

    def __call__(self, value: float) -> float:
        fraction = (self._inner(value) - self._low) / (self._high - self._low)
        return round(self._start + fraction * (self._end - self._start), 1)

    def _inner(self, value: float) -> float:
        return math.log10(value) if self._log else value


def draw(chart: Chart) -> Markup:
    """Return a chart as an SVG element for a page; points that are not finite are left out."""
    if not _points(chart):
        return Markup("<p>{}: no results yet</p>").format(chart.title)
    return _render(chart, is_file=False)


def draw_file(chart: Chart) -> str:
    """Return a chart as the content of an SVG file, readable on light and dark pages.

    Raises:
        ValueError: the chart has no points.
    """
    if not _points(chart):
        raise ValueError(f"{chart.title}: no results yet")
    return f"{_render(chart, is_file=True).strip()}\n"


def _points(chart: Chart) -> list[Point]:
    return [point for series in chart.series for point in series.points if _is_drawn(point)]


def _render(chart: Chart, *, is_file: bool) -> Markup:
    points = _points(chart)
    legend, top = _legend(chart)
    x_low, x_high = _x_range([point.x for point in points], chart.x_log)
    y_low, y_high = chart.y_range or _padded(
        min(point.y - point.spread for point in points),
        max(point.y + point.spread for point in points),
        chart.percent,
    )
    across = _Scale(x_low, x_high, _LEFT, _WIDTH - _RIGHT, chart.x_log)
    up = _Scale(y_low, y_high, _HEIGHT - _BOTTOM, top, False)
    x_ticks = _log_ticks(x_low, x_high) if chart.x_log else _ticks(x_low, x_high)
    return render(
        "chart.svg",
        chart=chart,
        is_file=is_file,
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_WIDTH - _RIGHT,
        top=top,
        bottom=_HEIGHT - _BOTTOM,
        x_ticks=[_Tick(across(value), f"{value:,.10g}") for value in x_ticks],
        y_ticks=[_Tick(up(value), _y_text(value, chart)) for value in _ticks(y_low, y_high)],
        lines=list(_lines(chart, across, up, (y_low, y_high))),
        marks=[
            _Mark(across(mark.x), mark.label) for mark in chart.marks if x_low <= mark.x <= x_high
        ],
        legend=legend,
    )


def _lines(
    chart: Chart, across: _Scale, up: _Scale, y_range: tuple[float, float]
) -> Iterator[_Line]:
    def clipped(value: float) -> float:
        return up(min(max(value, y_range[0]), y_range[1]))

    for number, series in enumerate(chart.series):
        dots = tuple(
            _Dot(
                across(point.x),
                clipped(point.y),
                clipped(point.y - point.spread),
                clipped(point.y + point.spread),
                point.label or f"{series.name}: {point.x:g}, {_y_text(point.y, chart, digits=4)}",
            )
            for point in series.points
            if _is_drawn(point)
        )
        path = "M" + "L".join(f"{dot.x:g},{dot.y:g}" for dot in dots) if len(dots) > 1 else ""
        yield _Line(
            series.name, number % COLOURS, series.dashed, path if series.joined else "", dots
        )


def _is_drawn(point: Point) -> bool:
    return all(map(math.isfinite, (point.x, point.y, point.spread)))


def _legend(chart: Chart) -> tuple[list[_Entry], float]:
    """Return the legend in rows, and where the plot begins below it."""
    entries, x, y = [], _LEFT, 16.0
    for number, series in enumerate(chart.series):
        width = 34 + _CHARACTER * len(series.name)
        if x + width > _WIDTH - _RIGHT and x > _LEFT:
            x, y = _LEFT, y + _LEGEND_ROW
        entries.append(_Entry(x, y, series.name, number % COLOURS, series.dashed))
        x += width
    return entries, y + (30 if any(mark.label for mark in chart.marks) else 16)


def _x_range(values: Sequence[float], log: bool) -> tuple[float, float]:
    low, high = min(values), max(values)
    if log:
        return low / 1.1, high * 1.1
    margin = (high - low) * 0.03 or 0.5
    return low - margin, high + margin


def _padded(low: float, high: float, percent: bool) -> tuple[float, float]:
    margin = (high - low) * 0.06 or abs(high) * 0.1 or 0.5
    below, above = low - margin, high + margin
    if percent:
        # No fraction is below 0; a negative one shows a gain, such as the loss without a layer.
        below = max(below, 0.0) if low >= 0 else below
        above = min(above, 1.0) if 0 <= high <= 1 else above
    return below, above if above > below else below + margin


def _ticks(low: float, high: float) -> list[float]:
    step = 10.0 ** math.floor(math.log10((high - low) / _TICKS))
    step = next(step * factor for factor in (1, 2, 5, 10) if (high - low) / (step * factor) <= 7)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [round(number * step, 10) for number in range(first, last + 1)]


def _log_ticks(low: float, high: float) -> list[float]:
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    values = [factor * 10.0**power for power in powers for factor in (1, 2, 5)]
    return [value for value in values if low <= value <= high]


def _y_text(value: float, chart: Chart, digits: int = 10) -> str:
    return f"{100 * value:,.{digits}g} %" if chart.percent else f"{value:,.{digits}g}"
