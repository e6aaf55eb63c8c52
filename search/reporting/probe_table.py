"""Probes in the terminal and in the report of a search."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import say
from search.reporting.rendering import Section
from search.tracking.probe_plot import probe_plot
from spaces.operation_base import Pair
from trainables.probes.records import LayerProbes, NetworkProbes

TRIVIAL = 0.001
"""Loss of accuracy up to which a convolution counts as trivial."""
_COLUMNS = (
    "#",
    "layer",
    "kernel",
    "channels",
    "field",
    "beyond",
    "saturation",
    "probe",
    "zero kernel",
    "zero branch",
    "disabled",
    "radius",
)


def show_probes(probes: NetworkProbes, console: Console) -> None:
    """Print the probes of a network: a table of its convolutions, then the totals and notes."""
    table = Table(box=None, header_style="dim")
    for column in _COLUMNS:
        table.add_column(column, justify="left" if column in ("layer", "beyond") else "right")
    for number, layer in enumerate(probes.layers, start=1):
        table.add_row(
            str(number),
            escape(layer.name),
            _size(layer.kernel),
            str(layer.channels),
            "-" if layer.field_min is None else _size(layer.field_min),
            {None: "-", True: "no", False: "yes"}[layer.productive],
            _percent(layer.saturation),
            _accuracy(layer.probe_accuracy),
            _loss(layer.zero_kernel_accuracy, probes.accuracy),
            _loss(layer.zero_branch_accuracy, probes.accuracy),
            _percent(layer.disabled_features),
            "-" if layer.effective_radius is None else f"{layer.effective_radius:.1f}",
            style="red" if layer.productive is False else None,
        )
    console.print(table, highlight=False)
    for sentence in _sentences(probes):
        say(console, sentence)
    for line in probes.notes:
        say(console, f"note: {line}")


def describe_probes(probes: Iterable[tuple[str, NetworkProbes]]) -> Iterator[Section]:
    """Yield the sections of a report: a summary of all networks, then a picture of each."""
    known = list(probes)
    if not known:
        return
    lines = [f"{each.title}: {' '.join(_sentences(each))}" for _, each in known]
    files = [f"probes/{name}.{ending}" for name, _ in known for ending in ("svg", "json")]
    yield Section("Probes", tuple(lines), files=tuple(files))
    for _, each in known:
        yield Section(f"Probes of {each.title}", picture=probe_plot(each))


def _sentences(probes: NetworkProbes) -> Iterator[str]:
    at = "x".join(map(str, probes.resolution))
    images = f"{probes.images:,} {probes.split} images of {at} px"
    if probes.accuracy is None:
        yield f"Weights: {probes.weights}; {images}."
    else:
        yield f"Weights: {probes.weights}; accuracy {probes.accuracy:.4f} on {images}."
    if probes.accuracy is not None and probes.has("zero_branch_accuracy"):
        trivial = sum(_is_trivial(layer, probes.accuracy) for layer in probes.layers)
        verb = "is" if trivial == 1 else "are"
        yield (
            f"{trivial} of {len(probes.layers)} convolutions {verb} trivial: without them the "
            f"network loses at most {TRIVIAL:.1%} of accuracy."
        )
    if probes.disabled_features is not None:
        features = sum(norm.features for norm in probes.norms)
        share = f"{probes.disabled_features:.1%}"
        yield f"{share} of {features:,} features of batch norms are disabled."
    if probes.border is not None:
        yield f"Border layer: convolution {probes.border} ({probes.rule})."


def _is_trivial(layer: LayerProbes, baseline: float) -> bool:
    """Tell whether the network loses nothing, with its kernel or its whole branch at zero."""
    known = [layer.zero_kernel_accuracy, layer.zero_branch_accuracy]
    return any(value is not None and baseline - value <= TRIVIAL for value in known)


def _accuracy(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"


def _loss(value: float | None, baseline: float | None) -> str:
    """Return an accuracy and its distance from the baseline, in points."""
    if value is None or baseline is None:
        return "-"
    return f"{value:.4f} ({100 * (value - baseline):+.1f})"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"


def _size(pair: Pair) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"
