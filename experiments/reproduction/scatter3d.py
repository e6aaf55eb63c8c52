"""Draws scatter plots over three quantities that the reader rotates; they need no library."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass

from markupsafe import Markup

from experiments.reproduction.templates import render


@dataclass(frozen=True)
class Axis:
    """An axis of a plot.

    Attributes:
        name: of the quantity.
        low: value at one end.
        high: value at the other end, above ``low``.
    """

    name: str
    low: float
    high: float


@dataclass(frozen=True)
class Place:
    """A point of a plot.

    Attributes:
        position: value on each axis.
        value: decides the colour.
        label: short name.
        lines: what the plot shows of a chosen point, line by line.
    """

    position: tuple[float, float, float]
    value: float
    label: str
    lines: tuple[str, ...]


@dataclass(frozen=True)
class Scatter3D:
    """A scatter plot over three quantities.

    Attributes:
        title: above the plot.
        axes: the third one is vertical.
        value: name of the quantity that the colour shows, a fraction.
        places: the points.
    """

    title: str
    axes: tuple[Axis, Axis, Axis]
    value: str
    places: Sequence[Place]


def draw_3d(plot: Scatter3D) -> Markup:
    """Return a figure that the reader rotates by pointer, touch or keyboard.

    Pointing at a point, or choosing it with a button, shows its lines. Points are in decreasing
    order of their values.
    """
    if not plot.places:
        return Markup("<p>{}: no results yet</p>").format(plot.title)
    places = sorted(plot.places, key=lambda each: -each.value)
    data = {
        "axes": [asdict(axis) for axis in plot.axes],
        "places": [asdict(each) for each in places],
        "low": places[-1].value,
        "high": places[0].value,
    }
    return render("scatter3d.html", plot=plot, data=data)
