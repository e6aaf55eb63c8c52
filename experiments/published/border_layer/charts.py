"""Charts of curves over the layers."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.published.border_layer.curves import Curve
from experiments.published.border_layer.selection import (
    Curves,
)
from experiments.published.summaries import (
    point,
)
from experiments.reproduction.records import (
    Chart,
    Mark,
    Point,
    Series,
)


def both(name: str, group: Sequence[Curve]) -> Chart:
    """Return probe accuracy and saturation of one network over its layers."""
    border = group[0].border
    return Chart(
        title=f"{name}: probe accuracy and saturation",
        x_label="convolution on the main path",
        y_label="fraction",
        series=(
            Series("probe accuracy", curve_points(group, "probe")),
            Series("saturation", curve_points(group, "saturation")),
        ),
        marks=() if border is None else (Mark(border, f"border layer {border}"),),
        percent=True,
        y_range=(0.0, 1.0),
    )


def curve_points(group: Sequence[Curve], quantity: str, origin: int = 0) -> tuple[Point, ...]:
    """Return mean and standard deviation of each layer, by its number relative to the origin."""
    values = [getattr(each, quantity) for each in group]
    return tuple(
        point(number - origin, [each[number - 1] for each in values], f"layer {number}")
        for number in range(1, len(values[0]) + 1)
    )


def aligned(title: str, group: Curves, quantity: str) -> tuple[Chart, ...]:
    """Return curves over the distance from the border, if there are two."""
    if len(group) < 2:
        return ()
    return (
        Chart(
            title=title,
            x_label="layers after the border layer",
            y_label="probe accuracy" if quantity == "probe" else quantity,
            series=tuple(
                Series(name, curve_points(each, quantity, each[0].border or 0))
                for name, each in group.items()
            ),
            marks=(Mark(0, "border layer"),),
            percent=True,
        ),
    )


def compared(network: str, shown: Curves, quantity: str) -> list[Chart]:
    """Return one quantity of a network and its variants, if there are two."""
    if len(shown) < 2:
        return []
    border = next(iter(shown.values()))[0].border
    what = "probe accuracy" if quantity == "probe" else quantity
    return [
        Chart(
            title=f"{network} with attention: {what}",
            x_label="convolution on the main path",
            y_label=what,
            series=tuple(
                Series(name, curve_points(each, quantity)) for name, each in shown.items()
            ),
            marks=() if border is None else (Mark(border, f"border layer {border}"),),
            percent=True,
        )
    ]
