"""Plots an analysis: the growth of the receptive field against the image size."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from search.reporting.analysis.document import AnalysisDocument

FORMATS = ("png", "svg")
_PRODUCTIVE, _UNPRODUCTIVE, _LARGEST, _IMAGE = "#2f6f9f", "#c2553f", "#b8c4cc", "#444444"
_UNBOUNDED = "#8a949c"
_EFFECTIVE = "#111111"
_LOG_FROM = 12
"""Ratio of field to image size from which the scale is logarithmic."""


def draw_analysis(document: AnalysisDocument, stem: Path) -> list[Path]:
    """Draw an analysis as PNG and SVG.

    The bar of a convolution shows its smallest field (shortest path), and a grey bar behind it the
    largest. Hatched bars mark fields that are lower bounds. A dashed line marks the image size, a
    solid line the border layer. Effective fields are lines over the bars, and a second plot shows
    the gradient's mass by distance.

    Args:
        document: the analysis.
        stem: path of the files without suffix.

    Returns:
        The files written.
    """
    effective = document.weights is not None
    width = min(16, max(7, 0.22 * len(document.layers)))
    figure = Figure(figsize=(width, 6.5 if effective else 4), layout="constrained")
    FigureCanvasAgg(figure)
    if effective:
        upper, lower = figure.subplots(2, 1, sharex=True, height_ratios=(3, 2))
        _draw_mass(document, lower)
    else:
        upper = lower = figure.add_subplot()
    _draw_fields(document, upper)
    lower.set_xlim(0.4, len(document.layers) + 0.6)
    lower.set_xlabel("convolution, in forward order")
    lower.xaxis.set_major_locator(MaxNLocator(integer=True))
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in FORMATS]
    for file in files:
        figure.savefig(file, dpi=120)
    return files


def _draw_fields(document: AnalysisDocument, axes: Axes) -> None:
    layers = document.layers
    image = max(document.resolution)
    axis = document.resolution.index(image)
    numbers = [layer.index for layer in layers]
    smallest = [layer.field_min[axis] for layer in layers]
    bounds = [layer.field_max[axis] is None for layer in layers]
    known = [layer.field_max[axis] or 0 for layer in layers]
    # An unbounded field is drawn to the upper edge.
    top = 1.2 * max(image, *smallest, *known)
    largest = [top if bound else field for bound, field in zip(bounds, known, strict=True)]
    colours = [_PRODUCTIVE if layer.productive else _UNPRODUCTIVE for layer in layers]

    if largest != smallest:
        axes.bar(numbers, largest, color=_LARGEST, width=0.8, label="largest field")
    axes.bar(numbers, smallest, color=colours, width=0.8)
    if any(bounds):
        unbounded = [number for number, bound in zip(numbers, bounds, strict=True) if bound]
        axes.bar(
            unbounded,
            top,
            color="none",
            edgecolor=_UNBOUNDED,
            hatch="///",
            linewidth=0,
            width=0.8,
            label="bounds only",
        )
        axes.set_ylim(top=top)
    drawn = _draw_effective(document, axes)
    axes.axhline(image, color=_IMAGE, linestyle="--", linewidth=1)
    axes.annotate(
        f"image: {image} px",
        (1, image),
        xycoords=("axes fraction", "data"),
        xytext=(4, 0),
        textcoords="offset points",
        va="center",
        color=_IMAGE,
    )
    border = "no border layer"
    if document.border is not None:
        border = f"border layer: convolution {document.border}"
        axes.axvline(document.border - 0.5, color=_UNPRODUCTIVE, linewidth=1)
    if max(largest) > _LOG_FROM * image:
        axes.set_yscale("log")
    axes.set_ylabel("receptive field (px)")
    size = "x".join(map(str, document.resolution))
    axes.set_title(f"{document.model} at {size} px: {border} ({document.rule})", loc="left")
    if drawn or largest != smallest:
        axes.legend(loc="upper left", frameon=False)


def _draw_effective(document: AnalysisDocument, axes: Axes) -> bool:
    """Draw the sides of squares with 95 % of the gradient; tell whether any is known."""
    known = [
        (layer.index, layer.effective.side)
        for layer in document.layers
        if layer.effective is not None and layer.effective.side is not None
    ]
    if known:
        numbers, sides = zip(*known, strict=True)
        axes.plot(
            numbers,
            sides,
            color=_EFFECTIVE,
            marker="o",
            markersize=3,
            label="effective field: square with 95% of the gradient",
        )
    return bool(known)


def _draw_mass(document: AnalysisDocument, axes: Axes) -> None:
    """Draw the fraction of the mass within each distance, one column for each convolution."""
    profiles = [layer.effective.within if layer.effective else () for layer in document.layers]
    farthest = max([1, *[len(profile) for profile in profiles]])
    mass = np.full((farthest, len(profiles)), np.nan)
    for column, profile in enumerate(profiles):
        if profile:
            mass[:, column] = 1.0
            mass[: len(profile), column] = profile
    shown = axes.imshow(
        mass,
        origin="lower",
        aspect="auto",
        cmap="viridis",
        vmin=0,
        vmax=1,
        extent=(0.5, len(profiles) + 0.5, -0.5, farthest - 0.5),
    )
    axes.set_ylabel("distance (px)")
    axes.set_title(f"gradient within a distance: {document.weights}", loc="left", fontsize=9)
    axes.figure.colorbar(shown, ax=axes, label="fraction")
