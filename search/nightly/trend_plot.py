"""The course of the nights as a picture: SVG text, as `search.tracking.field_plot` writes it."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

from search.nightly.history import Night, Ruling

_WIDTH, _HEIGHT = 640, 260
_LEFT, _RIGHT, _TOP, _BOTTOM = 60, 16, 40, 44
_VALIDATION, _TEST = "#2f6f9f", "#c2553f"
_LABELS = 8


def trend(nights: Sequence[Night]) -> str:
    """Draw the best validation accuracy and the best finalist's test accuracy of each night.

    A ring marks the nights in which it became the champion. Nights without both are left out.

    Args:
        nights: in their order.

    Returns:
        An SVG document; empty where there is nothing to draw.
    """
    known = [night for night in nights if night.after and night.after.best and night.finalists]
    if not known:
        return ""
    validation = [night.after.best.accuracy for night in known if night.after and night.after.best]
    test = [night.finalists[0].test for night in known]
    low, high = min(validation + test), max(validation + test)
    margin = max(0.002, (high - low) * 0.1)
    low, high = low - margin, high + margin

    def x(position: int) -> float:
        width = _WIDTH - _LEFT - _RIGHT
        return _LEFT + width * (position + 0.5) / len(known)

    def y(value: float) -> float:
        return _TOP + (_HEIGHT - _TOP - _BOTTOM) * (high - value) / (high - low)

    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" '
        f'width="{_WIDTH}" height="{_HEIGHT}" font-family="sans-serif" font-size="12">',
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>',
        f'<text x="{_LEFT}" y="22"><tspan fill="{_VALIDATION}">best validation accuracy</tspan>, '
        f'<tspan fill="{_TEST}">best finalist on test</tspan> (ring: became the champion)</text>',
    ]
    parts += [
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{y(value):.1f}" y2="{y(value):.1f}" '
        f'stroke="#dddddd"/><text x="{_LEFT - 6}" y="{y(value) + 4:.1f}" text-anchor="end">'
        f"{value:.4f}</text>"
        for value in (low + margin, high - margin)
    ]
    for values, colour in ((validation, _VALIDATION), (test, _TEST)):
        points = " ".join(f"{x(i):.1f},{y(value):.1f}" for i, value in enumerate(values))
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        parts += [
            f'<circle cx="{x(i):.1f}" cy="{y(value):.1f}" r="3" fill="{colour}">'
            f"<title>{escape(known[i].name)}: {value:.4f}</title></circle>"
            for i, value in enumerate(values)
        ]
    every = -(-len(known) // _LABELS)
    for i, night in enumerate(known):
        if night.decision and night.decision.ruling in (Ruling.FIRST, Ruling.PROMOTED):
            parts.append(
                f'<circle cx="{x(i):.1f}" cy="{y(test[i]):.1f}" r="7" fill="none" '
                f'stroke="{_TEST}"/>'
            )
        if i % every == 0:
            parts.append(
                f'<text x="{x(i):.1f}" y="{_HEIGHT - _BOTTOM + 20}" text-anchor="middle" '
                f'font-size="10">{escape(night.name)}</text>'
            )
    return "\n".join([*parts, "</svg>"])
