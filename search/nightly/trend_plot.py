"""The trend of a search over its nights, as SVG text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.nightly.history import Night, Ruling
from search.templates import render

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, _WIDTH - 16, 40, _HEIGHT - 44
_VALIDATION, _TEST = "#2f6f9f", "#c2553f"
_LABELS = 8


@dataclass(frozen=True)
class _Point:
    """An accuracy of a night, and where it stands."""

    name: str
    value: float
    x: float
    y: float


@dataclass(frozen=True)
class _Line:
    colour: str
    points: Sequence[_Point]


def trend(nights: Sequence[Night]) -> Markup:
    """Draw the best validation accuracy and the best finalist's test accuracy of each night.

    A ring marks the nights whose finalist became the champion. Nights that lack one of the two
    accuracies are left out.

    Args:
        nights: oldest first.

    Returns:
        An SVG document; empty if no night has both accuracies.
    """
    known = [night for night in nights if night.after and night.after.best and night.finalists]
    if not known:
        return Markup("")
    validation = [night.after.best.accuracy for night in known if night.after and night.after.best]
    test = [night.finalists[0].test for night in known]
    low, high = min(validation + test), max(validation + test)
    margin = max(0.002, (high - low) * 0.1)

    def x(position: int) -> float:
        return round(_LEFT + (_RIGHT - _LEFT) * (position + 0.5) / len(known), 1)

    def y(value: float) -> float:
        part = (high + margin - value) / (high - low + 2 * margin)
        return round(_TOP + (_BOTTOM - _TOP) * part, 1)

    def line(colour: str, values: Sequence[float]) -> _Line:
        points = [
            _Point(night.name, value, x(position), y(value))
            for position, (night, value) in enumerate(zip(known, values, strict=True))
        ]
        return _Line(colour, points)

    lines = [line(_VALIDATION, validation), line(_TEST, test)]
    rings = [
        point
        for night, point in zip(known, lines[1].points, strict=True)
        if night.decision and night.decision.ruling in (Ruling.FIRST, Ruling.PROMOTED)
    ]
    return render(
        "trend.svg",
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        grid=[(value, y(value)) for value in (low, high)],
        lines=lines,
        rings=rings,
        labels=lines[1].points[:: -(-len(known) // _LABELS)],
        label_y=_BOTTOM + 20,
    )
