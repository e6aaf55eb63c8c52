"""The probes of a network over its depth, as SVG text with the border layer marked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.templates import render
from trainables.probes.records import LayerProbes, NetworkProbes

_WIDTH, _LEFT, _GAP, _PANEL, _FIRST, _BELOW = 720, 52, 40, 120, 66, 46
_RIGHT = _WIDTH - 16
_NUMBERS = 30


@dataclass(frozen=True)
class _Point:
    name: str
    label: str
    x: float
    y: float


@dataclass(frozen=True)
class _Series:
    name: str
    colour: int
    points: Sequence[_Point]


@dataclass(frozen=True)
class _Panel:
    """One chart: its frame, and lines over the convolutions.

    Attributes:
        base: height of the dashed line; None without one.
    """

    top: int
    bottom: int
    grid: Sequence[tuple[str, float]]
    series: Sequence[_Series]
    base: float | None
    base_name: str


_Value = Callable[[LayerProbes], float | None]


def probe_plot(probes: NetworkProbes) -> Markup:
    """Draw the probes of a network in up to three charts above each other.

    The charts show what the layers represent (saturation, probe accuracy, disabled features), what
    the network loses without each of them, and how far they see. Charts without values are left
    out. The picture follows the light or dark scheme of its reader.

    Returns:
        An SVG document.
    """
    axis = 0 if probes.resolution[0] >= probes.resolution[1] else 1
    image = probes.resolution[axis]
    step = (_RIGHT - _LEFT) / max(len(probes.layers), 1)

    def x(number: int) -> float:
        return round(_LEFT + (number - 0.5) * step, 1)

    def smallest(layer: LayerProbes) -> float | None:
        return None if layer.field_min is None else float(layer.field_min[axis])

    def diameter(layer: LayerProbes) -> float | None:
        return None if layer.effective_radius is None else 2 * layer.effective_radius

    charts: list[tuple[list[tuple[str, _Value]], float | None, str, str]] = [
        (
            [
                ("saturation", lambda layer: layer.saturation),
                ("probe accuracy", lambda layer: layer.probe_accuracy),
                ("disabled features", lambda layer: layer.disabled_features),
            ],
            probes.accuracy if probes.has("probe_accuracy") else None,
            "accuracy of the network",
            "{:.4g}",
        ),
        (
            [
                ("accuracy with a zero kernel", lambda layer: layer.zero_kernel_accuracy),
                ("with a zero branch", lambda layer: layer.zero_branch_accuracy),
            ],
            probes.accuracy,
            "accuracy of the network",
            "{:.4g}",
        ),
        (
            [("effective diameter", diameter), ("smallest field", smallest)],
            float(image),
            f"image, {image} px",
            "{:.4g} px",
        ),
    ]
    panels: list[_Panel] = []
    for lines, base, base_name, shown in charts:
        top = _FIRST + len(panels) * (_PANEL + _GAP)
        panel = _panel(probes, top, lines, base, base_name, shown, x)
        if panel is not None:
            panels.append(panel)
    border = None if probes.border is None else round(_LEFT + (probes.border - 1) * step, 1)
    every = -(-len(probes.layers) // _NUMBERS)
    said = f"border layer: {probes.border}" if probes.border is not None else "no border layer"
    if not any(layer.field_min for layer in probes.layers):
        said = "border layer unknown"
    return render(
        "probe_plot.svg",
        title=f"{probes.title}: {said} ({probes.rule}); {probes.images:,} {probes.split} images",
        width=_WIDTH,
        height=_FIRST + len(panels) * (_PANEL + _GAP) - _GAP + _BELOW,
        left=_LEFT,
        right=_RIGHT,
        panels=panels,
        border_x=border,
        numbers=[(n, x(n)) for n in range(1, len(probes.layers) + 1, max(every, 1))],
    )


def _panel(
    probes: NetworkProbes,
    top: int,
    lines: Sequence[tuple[str, _Value]],
    base: float | None,
    base_name: str,
    shown: str,
    x: Callable[[int], float],
) -> _Panel | None:
    """Return a chart, or None if there is nothing to show."""
    values = [
        value for _, of in lines for layer in probes.layers if (value := of(layer)) is not None
    ]
    if not values:
        return None
    in_pixels = shown.endswith("px")
    highest = max([*values, base or 0.0]) * 1.05 if in_pixels else 1.0
    bottom = top + _PANEL

    def y(value: float) -> float:
        return round(bottom - _PANEL * min(value / highest, 1), 1)

    series = []
    for colour, (name, of) in enumerate(lines):
        points = [
            _Point(layer.name, shown.format(value), x(number), y(value))
            for number, layer in enumerate(probes.layers, start=1)
            if (value := of(layer)) is not None
        ]
        if points:
            series.append(_Series(name, colour, points))
    ticks = [0.0, highest / 1.05] if in_pixels else [0.0, 0.5, 1.0]
    grid = [(f"{tick:.3g}", y(tick)) for tick in ticks]
    return _Panel(top, bottom, grid, series, None if base is None else y(base), base_name)
