"""Compares the analyses of two versions of a network."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import say
from search.reporting.analysis.baseline import unique_names
from search.reporting.analysis.document import (
    AnalysisDocument,
    ComparisonRecord,
    LayerDifference,
    LayerRecord,
)

_COMPARED = ("kind", "kernel", "stride", "field_min", "field_max", "productive", "params", "macs")


def read_document(path: Path) -> AnalysisDocument | None:
    """Read a document of ``analyze --json``; None if the file is none, such as a candidate."""
    try:
        return AnalysisDocument.model_validate_json(path.read_text(encoding="utf-8"))
    except (OSError, ValidationError, UnicodeDecodeError):
        return None


def compare(new: AnalysisDocument, old: AnalysisDocument) -> ComparisonRecord:
    """Compare two analyses layer by layer, by the names of the layers."""
    before = dict(zip(unique_names(old.layers), old.layers, strict=True))
    after = dict(zip(unique_names(new.layers), new.layers, strict=True))
    names = [*after, *[name for name in before if name not in after]]
    found = [_difference(name, before.get(name), after.get(name)) for name in names]
    return ComparisonRecord(
        model=old.model,
        resolution=old.resolution,
        rule=old.rule,
        border=old.border,
        unproductive=(len(old.unproductive), len(new.unproductive)),
        params=(old.params, new.params),
        macs=(old.macs, new.macs),
        layers=tuple([difference for difference in found if difference is not None]),
    )


def _difference(
    name: str, old: LayerRecord | None, new: LayerRecord | None
) -> LayerDifference | None:
    if old is None:
        return LayerDifference(name=name, change="added", old=None, new=new)
    if new is None:
        return LayerDifference(name=name, change="removed", old=old, new=None)
    if all(getattr(old, field) == getattr(new, field) for field in _COMPARED):
        return None
    return LayerDifference(name=name, change="changed", old=old, new=new)


def show_comparison(document: AnalysisDocument, console: Console) -> None:
    """Print the comparison of a document."""
    found = document.comparison
    if found is None:
        return
    images = (found.resolution, found.rule), (document.resolution, document.rule)
    if images[0] != images[1]:
        old, new = (f"{'x'.join(map(str, size))} px, rule {rule}" for size, rule in images)
        say(console, f"images or rules differ: {old}, now {new}")
    table = Table(box=None, header_style="dim", title_justify="left")
    table.title = f"compared with {escape(found.model)}"
    for column in ("layer", "change", "kernel", "stride", "field", "productive", "params", "MACs"):
        table.add_column(column, justify="left" if column in ("layer", "change") else "right")
    for layer in found.layers:
        table.add_row(escape(layer.name), layer.change, *_cells(layer))
    if found.layers:
        console.print(table, highlight=False)
    say(
        console,
        f"compared with {found.model}: border {_number(found.border)} -> "
        f"{_number(document.border)}, unproductive {found.unproductive[0]} -> "
        f"{found.unproductive[1]}, parameters {_ratio(*found.params)}, MACs {_ratio(*found.macs)}",
    )


def _cells(difference: LayerDifference) -> list[str]:
    def cell(value: Callable[[LayerRecord], Any]) -> str:
        known = [value(layer) for layer in (difference.old, difference.new) if layer is not None]
        return " -> ".join(dict.fromkeys(map(str, known)))

    return [
        cell(lambda layer: "x".join(map(str, layer.kernel))),
        cell(lambda layer: "x".join(map(str, layer.stride))),
        cell(lambda layer: "x".join(map(str, layer.field_min))),
        cell(lambda layer: "yes" if layer.productive else "no"),
        cell(lambda layer: f"{layer.params:,}"),
        cell(lambda layer: f"{layer.macs:,}"),
    ]


def _number(border: int | None) -> str:
    return "none" if border is None else str(border)


def _ratio(old: int, new: int) -> str:
    return f"{old:,} -> {new:,} (x{new / max(old, 1):.2f})"
