"""The picture of an analysis: how the receptive field grows against the size of the image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

FORMATS = ("png", "svg")
_PRODUCTIVE, _UNPRODUCTIVE, _LARGEST, _IMAGE = "#2f6f9f", "#c2553f", "#b8c4cc", "#444444"
_LOG_FROM = 12
"""Fields more than so many times the image are drawn on a logarithmic scale."""


def draw_analysis(document: dict[str, Any], stem: Path) -> list[Path]:
    """Draw an analysis as PNG and SVG.

    A bar per convolution reaches to its smallest field (shortest path), a grey one behind it to
    the largest; a dashed line stands at the image size, a line before the border layer.

    Args:
        document: what ``search.reporting.analyze.analysis_document`` returns.
        stem: the files' path without ending.

    Returns:
        The files written.
    """
    layers = document["layers"]
    image = max(document["resolution"])
    axis = document["resolution"].index(image)
    numbers = [layer["index"] for layer in layers]
    smallest = [layer["field_min"][axis] for layer in layers]
    largest = [layer["field_max"][axis] for layer in layers]
    colours = [_PRODUCTIVE if layer["productive"] else _UNPRODUCTIVE for layer in layers]

    figure = Figure(figsize=(min(16, max(7, 0.22 * len(layers))), 4), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    if largest != smallest:
        axes.bar(numbers, largest, color=_LARGEST, width=0.8, label="largest field")
    axes.bar(numbers, smallest, color=colours, width=0.8)
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
