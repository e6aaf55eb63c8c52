"""Parallel coordinates as SVG: a line for each trial over vertical axes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.reporting.charts.scales import Axis, Scale, Tick
from search.templates import render

CLASSES = 5
"""Colours of the lines, from the lowest to the highest value of the last axis."""
_WIDTH, _HEIGHT, _SIDE, _TOP, _BOTTOM = 940.0, 380.0, 46.0, 44.0, 24.0


@dataclass(frozen=True)
class Line:
    """A trial.

    Attributes:
        values: one for each axis; None where the trial has none.
        label: that the page shows for it.
    """

    values: Sequence[float | None]
    label: str


@dataclass(frozen=True)
class _DrawnAxis:
    name: str
    x: float
    y: float
    ticks: list[Tick]


@dataclass(frozen=True)
class _DrawnLine:
    path: str
    level: int
    label: str


def draw_parallel(axes: Sequence[Axis], lines: Sequence[Line]) -> Markup:
    """Return parallel coordinates as SVG for a page.

    Args:
        axes: from the left; the last one gives the colours.
        lines: of which the last are drawn on top; each has a value for the last axis.
    """
    step = (_WIDTH - 2 * _SIDE) / max(len(axes) - 1, 1)
    scales = [
        Scale(
            axis,
            [value for line in lines if (value := line.values[place]) is not None],
            _HEIGHT - _BOTTOM,
            _TOP,
        )
        for place, axis in enumerate(axes)
    ]
    last = [line.values[-1] or 0.0 for line in lines]
    order = {value: rank for rank, value in enumerate(sorted(set(last)))}
    drawn = [
        _DrawnLine(
            _path(line, scales, step),
            order[line.values[-1] or 0.0] * CLASSES // len(order),
            line.label,
        )
        for line in lines
    ]
    return render(
        "parallel.svg",
        width=_WIDTH,
        height=_HEIGHT,
        top=_TOP,
        bottom=_HEIGHT - _BOTTOM,
        axes=[
            _DrawnAxis(
                axis.label, round(_SIDE + place * step, 1), 14 + 16 * (place % 2), scale.ticks
            )
            for place, (axis, scale) in enumerate(zip(axes, scales, strict=True))
        ],
        lines=drawn,
    )


def _path(line: Line, scales: Sequence[Scale], step: float) -> str:
    """Return the path of a line; it breaks where the trial has no value."""
    parts = []
    broken = True
    for place, (value, scale) in enumerate(zip(line.values, scales, strict=True)):
        if value is None:
            broken = True
            continue
        x = round(_SIDE + place * step, 1)
        parts.append(f"{'M' if broken else 'L'}{x:g} {scale(value):g}")
        broken = False
    return "".join(parts)
