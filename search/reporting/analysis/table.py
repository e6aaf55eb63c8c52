"""Prints an analysis as tables."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import say
from search.reporting.analysis.document import AnalysisDocument, LayerRecord

FRACTIONS = (0.5, 0.95)
"""Fractions of the gradient's mass whose distances are shown."""


def summarise_border(document: AnalysisDocument) -> str:
    """Return the result of an analysis in one sentence."""
    size = "x".join(map(str, document.resolution))
    about = f"{document.model} at {size} px, rule {document.rule}"
    if document.border is None:
        sure = all(layer.exact for layer in document.layers)
        known = (
            "every convolution is productive"
            if sure
            else "no convolution is unproductive for certain"
        )
        return f"{about}: no border layer, {known}"
    tail = document.unproductive
    params = sum(layer.params for layer in tail) / max(document.params, 1)
    macs = sum(layer.macs for layer in tail) / max(document.macs, 1)
    return (
        f"{about}: border layer is convolution {document.border} of "
        f"{len(document.layers)}; {len(tail)} unproductive with {params:.0%} of the parameters "
        f"and {macs:.0%} of the MACs"
    )


def _bounds(document: AnalysisDocument) -> str:
    """Return in one sentence which fields are bounds; empty if none is."""
    layers = document.layers
    bounds = [layer.index for layer in layers if not layer.exact]
    if document.measured:
        return "fields are measured: the smallest is unknown, the largest is cut off at the image"
    if not bounds:
        return ""
    return (
        f"{len(bounds)} of {len(layers)} fields are lower bounds (marked >=), the first at "
        f"convolution {bounds[0]}: an operation before it mixes all positions, or is unknown"
    )


def show_analysis(document: AnalysisDocument, console: Console) -> None:
    """Print an analysis as tables."""
    table = Table(box=None, header_style="dim")
    effective = document.weights is not None
    columns = ["#", "layer", "kernel", "stride", "field"]
    if effective:
        columns += ["extent", "square", *[f"{fraction:.0%}" for fraction in FRACTIONS]]
    for column in (*columns, "productive", "params", "MACs"):
        table.add_column(column, justify="left" if column in ("layer", "productive") else "right")
    for layer in document.layers:
        table.add_row(
            str(layer.index),
            escape(layer.name),
            _size(layer.kernel),
            _size(layer.stride),
            _extent(layer.field_min, layer.field_max),
            *(_effective_cells(layer) if effective else ()),
            "yes" if layer.productive else "no",
            f"{layer.params / max(document.params, 1):.1%}",
            f"{layer.macs / max(document.macs, 1):.1%}",
            style=None if layer.productive else "red",
        )
    console.print(table, highlight=False)
    console.print(f"{document.params:,} parameters, {document.macs:,} MACs", highlight=False)
    if effective:
        say(
            console,
            "effective field: extent of the gradient, side of the square with 95% of it, and "
            f"distances with 50% and 95% of it ({document.weights})",
        )
    if bounds := _bounds(document):
        say(console, bounds)
    say(console, summarise_border(document))
    if document.border is not None:
        _show_remedies(document, console)


def _effective_cells(layer: LayerRecord) -> list[str]:
    if layer.effective is None:
        return ["?"] * (2 + len(FRACTIONS))
    distances = [layer.effective.distance(fraction) for fraction in FRACTIONS]
    known = ["-" if distance is None else str(distance) for distance in distances]
    side = "-" if layer.effective.side is None else f"{layer.effective.side:.1f}"
    return [_size(layer.effective.extent), side, *known]


def _show_remedies(document: AnalysisDocument, console: Console) -> None:
    table = Table(box=None, header_style="dim", title="remedies", title_justify="left")
    for column in ("#", "remedy", "params", "MACs", "memory"):
        table.add_column(column, justify="left" if column == "remedy" else "right")
    for number, remedy in enumerate(document.remedies, start=1):
        costs = (remedy.params, remedy.macs, remedy.memory)
        table.add_row(
            str(number),
            f"{remedy.kind}: {remedy.description}",
            *[f"x{ratio:.2f}" for ratio in costs],
        )
    if not document.remedies:
        table.add_row("", "none found: less downsampling is not enough", "", "", "")
    console.print(table, highlight=False)


def _size(pair: Sequence[float | None]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _extent(smallest: Sequence[int], largest: Sequence[int | None]) -> str:
    low = _size(smallest)
    if None in largest:
        return f">={low}"
    return low if tuple(smallest) == tuple(largest) else f"{low}..{_size(largest)}"
