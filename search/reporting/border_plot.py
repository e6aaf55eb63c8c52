"""Plots an analysis: the growth of the receptive field against the image size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

FORMATS = ("png", "svg")
_PRODUCTIVE, _UNPRODUCTIVE, _LARGEST, _IMAGE = "#2f6f9f", "#c2553f", "#b8c4cc", "#444444"
_UNBOUNDED = "#8a949c"
_LOG_FROM = 12
"""Ratio of field to image size from which the scale is logarithmic."""


def draw_analysis(document: dict[str, Any], stem: Path) -> list[Path]:
    """Draw an analysis as PNG and SVG.

    The bar of a convolution shows its smallest field (shortest path), and a grey bar behind it the
    largest. Hatched bars mark fields that are lower bounds. A dashed line marks the image size, a
    solid line the border layer.

    Args:
        document: from `search.reporting.analyze.analysis_document`.
        stem: path of the files without suffix.

    Returns:
        The files written.
    """
    layers = document["layers"]
    image = max(document["resolution"])
    axis = document["resolution"].index(image)
    numbers = [layer["index"] for layer in layers]
    smallest = [layer["field_min"][axis] for layer in layers]
    bounds = [layer["field_max"][axis] is None for layer in layers]
    known = [layer["field_max"][axis] or 0 for layer in layers]
    # An unbounded field is drawn to the upper edge.
    top = 1.2 * max(image, *smallest, *known)
    largest = [top if bound else field for bound, field in zip(bounds, known, strict=True)]
    colours = [_PRODUCTIVE if layer["productive"] else _UNPRODUCTIVE for layer in layers]

    figure = Figure(figsize=(min(16, max(7, 0.22 * len(layers))), 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
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
    if document["border"] is not None:
        border = f"border layer: convolution {document['border']}"
        axes.axvline(document["border"] - 0.5, color=_UNPRODUCTIVE, linewidth=1)
    if max(largest) > _LOG_FROM * image:
        axes.set_yscale("log")
    axes.set_xlim(0.4, len(layers) + 0.6)
    axes.set_xlabel("convolution, in forward order")
    axes.set_ylabel("receptive field (px)")
    size = "x".join(map(str, document["resolution"]))
    axes.set_title(f"{document['model']} at {size} px: {border} ({document['rule']})", loc="left")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    if largest != smallest:
        axes.legend(loc="upper left", frameon=False)
    files = [stem.with_name(f"{stem.name}.{ending}") for ending in FORMATS]
    for file in files:
        figure.savefig(file, dpi=120)
    return files
