"""The receptive-field plot of a candidate, as SVG text.

A template draws it because the driver makes one for every trial: a plotting library would take
a thousand times as long.
"""

from __future__ import annotations

from dataclasses import dataclass

from markupsafe import Markup

from search.templates import render
from spaces.border import BorderAnalysis

_WIDTH, _HEIGHT = 640, 320
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, _WIDTH - 16, 40, _HEIGHT - 44
_PRODUCTIVE, _UNPRODUCTIVE = "#2f6f9f", "#c2553f"
_BAR = 0.7
"""Width of a bar, relative to the distance between two bars."""


@dataclass(frozen=True)
class _Bar:
    """A convolution: its field in pixels, and where its bar and labels stand."""

    size: int
    left: float
    top: float
    width: float
    height: float
    middle: float
    label: float
    colour: str


def field_plot(analysis: BorderAnalysis, title: str) -> Markup:
    """Draw the growth of the receptive field over the convolutions.

    Each convolution is a bar whose height is its smallest field, along the longer side of the
    image. A line marks the image size; another colour marks the convolutions from the border
    layer on.

    Args:
        analysis: fields and border layer.
        title: name of the network.

    Returns:
        An SVG document.
    """
    axis = 0 if analysis.resolution[0] >= analysis.resolution[1] else 1
    image = analysis.resolution[axis]
    sizes = [field.smallest[axis] for field in analysis.fields]
    highest = max([*sizes, image]) * 1.08
    step = (_RIGHT - _LEFT) / max(len(sizes), 1)

    def height(value: float) -> float:
        return (_BOTTOM - _TOP) * value / highest

    def bar(number: int, size: int) -> _Bar:
        middle, top = _LEFT + (number - 0.5) * step, _BOTTOM - height(size)
        return _Bar(
            size=size,
            left=round(middle - step * _BAR / 2, 1),
            top=round(top, 1),
            width=round(step * _BAR, 1),
            height=round(height(size), 1),
            middle=round(middle, 1),
            label=round(top - 4, 1),
            colour=_PRODUCTIVE if analysis.is_productive(number) else _UNPRODUCTIVE,
        )

    border = "no border layer" if analysis.border is None else f"border layer: {analysis.border}"
    return render(
        "field_plot.svg",
        title=f"{title}: {border} ({analysis.rule.value})",
        width=_WIDTH,
        height=_HEIGHT,
        left=_LEFT,
        right=_RIGHT,
        bottom=_BOTTOM,
        image=image,
        image_y=round(_BOTTOM - height(image), 1),
        bars=[bar(number, size) for number, size in enumerate(sizes, start=1)],
    )
