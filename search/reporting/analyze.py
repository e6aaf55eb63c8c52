"""The command `analyze`: receptive fields, border layer and remedies, without training."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from math import inf
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

from search.console import note, say, warn
from search.experiment.folder import Home
from search.reporting.stored_search import StoredSearch
from search.study.records import TrialRecord
from spaces.architecture import Architecture, CollapsedLayerError
from spaces.border import BorderAnalysis, Rule, find_border
from spaces.costs import costs
from spaces.errors import BadInputError
from spaces.operations import MEASURED, Generic, Input, Pair, Shape
from spaces.remedies import Remedy, propose_remedies
from spaces.user_code import RAISED_BY_USERS

_REMEDY = (
    "name a net such as vgg16, a trial as SEARCH:TRIAL, torchvision:NAME, module:Class, or a "
    "candidate's JSON file"
)


def parse_resolution(text: str) -> Pair:
    """Return (height, width) of ``32`` or ``64x48``.

    Raises:
        BadInputError: the text is neither, or a side is under 1.
    """
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text.strip().lower())
    if match is None or int(match[1]) < 1 or int(match[2] or 1) < 1:
        remedy = "give pixels, such as 32, or HEIGHTxWIDTH, such as 64x48"
        raise BadInputError("--resolution", text, "not an image size", remedy)
    height = int(match[1])
    return height, int(match[2] or height)


def parse_rule(text: str) -> Rule:
    """Return the rule with this name.

    Raises:
        BadInputError: no rule has this name.
    """
    try:
        return Rule(text)
    except ValueError:
        raise BadInputError("--rule", text, "unknown rule", f"use {', '.join(Rule)}") from None


def find_model(model: str, resolution: Pair | None, channels: int, home: Home) -> Architecture:
    """Return the architecture of a model.

    Args:
        model: a named net, ``SEARCH:TRIAL``, a candidate's JSON file, ``torchvision:NAME``, or
            ``module:attribute`` of the user.
        resolution: image size for which a named net is built or a module is traced.
        channels: of these images.
        home: folder of all searches.

    Raises:
        BadInputError: no such model exists, or it cannot be traced.
    """
    if model.endswith(".json"):
        return _from_json(model, resolution)
    name, colon, attribute = model.rpartition(":")
    if colon and attribute.isascii() and attribute.isdigit():
        return _from_search(model, name, int(attribute), home, resolution)
    if colon:
        # Importing torch takes seconds, and named nets and trials do not need it.
        from trainables.tracing import load_model

        height, width = resolution or (224, 224)
        return _of_module(load_model(model), (channels, height, width), model)
    from spaces.named import NAMED, named
    from spaces.task import Task

    if model not in NAMED:
        raise BadInputError("NETWORK", model, "unknown model", _REMEDY)
    height, width = resolution or (32, 32)
    return named(model, Task(channels, height, width, 10))


def _of_module(module: Any, shape: Shape, model: str) -> Architecture:
    """Trace a module; if that fails although the module runs, measure it.

    Raises:
        BadInputError: it cannot be traced and does not run, either.
    """
    from trainables.tracing import measure, trace

    try:
        return trace(module, shape, reference=model)
    except BadInputError as untraced:
        try:
            measured = measure(module, shape, reference=model)
        except RAISED_BY_USERS:
            raise untraced from None
        note(f"{model} cannot be traced ({untraced.problem}), so its fields are measured instead")
        return measured


def resized(architecture: Architecture, resolution: Pair) -> Architecture:
    """Return the same network for images of another size (height, width)."""
    image = architecture.layers[0]
    if not isinstance(image.operation, Input):
        raise TypeError("layer 0 is not an image")
    changed = Input(image.operation.channels, *resolution)
    return Architecture((image._replace(operation=changed), *architecture.layers[1:]))


def _from_json(model: str, resolution: Pair | None) -> Architecture:
    try:
        document = json.loads(Path(model).read_text(encoding="utf-8"))
        # The candidate.json of a run in MLflow, or the graph alone.
        graph = Architecture.from_json(json.dumps(document.get("architecture", document)))
    except (OSError, ValueError, AttributeError, RecursionError) as error:
        raise BadInputError("NETWORK", model, str(error), _REMEDY) from None
    return graph if resolution is None else resized(graph, resolution)


def _from_search(
    model: str, name: str, number: int, home: Home, resolution: Pair | None
) -> Architecture:
    stored = StoredSearch(home.existing(name))
    for trial in stored.trials:
        if trial.number == number:
            candidate = stored.space.rebuild(trial.params)
            if TrialRecord.of(trial).digest not in ("", candidate.digest):
                warn(
                    f"the space {stored.space.name} changed: it draws another network than "
                    f"trial {number} trained, and this analysis shows the one that it draws now"
                )
            if candidate.truncated is not None:
                note(f"{model} was truncated to {candidate.truncated}, which this analysis shows")
            graph = candidate.architecture
            return graph if resolution is None else resized(graph, resolution)
    raise BadInputError("NETWORK", model, f"{name} has no trial {number}", _REMEDY)


def analysis_document(
    model: str, architecture: Architecture, analysis: BorderAnalysis, remedies: list[Remedy]
) -> dict[str, Any]:
    """Return an analysis as plain data, one entry of ``layers`` per convolution.

    A largest field of None is unbounded; ``exact`` is false for layers whose fields are bounds.
    """
    total = costs(architecture)
    shapes = architecture.shapes
    measured = any(
        isinstance(layer.operation, Generic) and layer.operation.function == MEASURED
        for layer in architecture.layers
    )
    layers = []
    for number, (index, field) in enumerate(
        zip(analysis.convolutions, analysis.fields, strict=True), start=1
    ):
        layer = architecture.layers[index]
        operation, taken = layer.operation, tuple([shapes[i] for i in layer.inputs])
        windows = operation.windows(taken)
        layers.append(
            {
                "index": number,
                "name": layer.name or f"layer {index}",
                "kind": operation.kind,
                "kernel": list(getattr(operation, "kernel", ())),
                "stride": [float(s) if s != int(s) else int(s) for _, s in windows or ()],
                "field_min": list(field.smallest),
                "field_max": [None if extent == inf else extent for extent in field.largest],
                "exact": field.exact and not measured,
                "productive": analysis.is_productive(number),
                "params": layer.params(taken),
                "macs": layer.macs(taken, shapes[index]),
            }
        )
    return {
        "model": model,
        "resolution": list(analysis.resolution),
        "rule": analysis.rule.value,
        "border": analysis.border,
        "layers": layers,
        "params": total.params,
        "macs": total.macs,
        "measured": measured,
        "remedies": [
            {
                "kind": remedy.kind,
                "description": remedy.description,
                "params": remedy.params,
                "macs": remedy.macs,
                "memory": remedy.memory,
            }
            for remedy in remedies
        ],
    }


def analyze_model(
    model: str,
    rule: str,
    resolution: str | None,
    channels: int,
    keep_border: bool,
    home: Home,
) -> dict[str, Any]:
    """Analyse a network; see `find_model` for the arguments.

    Raises:
        BadInputError: unknown model or rule, invalid image size, or a collapsing feature map.
    """
    chosen = parse_rule(rule)
    size = None if resolution is None else parse_resolution(resolution)
    architecture = find_model(model, size, channels, home)
    try:
        analysis = find_border(architecture, chosen)
        remedies = propose_remedies(architecture, chosen, keep_border=keep_border)
    except CollapsedLayerError as error:
        raise BadInputError("NETWORK", model, str(error), "use larger images") from None
    except ValueError as error:
        # A graph from a file whose operations do not fit each other.
        raise BadInputError("NETWORK", model, str(error), _REMEDY) from None
    if not analysis.convolutions:
        raise BadInputError("NETWORK", model, "has no convolution", "analyse a CNN")
    return analysis_document(model, architecture, analysis, remedies)


def border_summary(document: dict[str, Any]) -> str:
    """Return the result of an analysis in one sentence."""
    size = "x".join(map(str, document["resolution"]))
    about = f"{document['model']} at {size} px, rule {document['rule']}"
    if document["border"] is None:
        sure = all(layer["exact"] for layer in document["layers"])
        known = (
            "every convolution is productive"
            if sure
            else "no convolution is unproductive for certain"
        )
        return f"{about}: no border layer, {known}"
    tail = [layer for layer in document["layers"] if not layer["productive"]]
    params = sum(layer["params"] for layer in tail) / max(document["params"], 1)
    macs = sum(layer["macs"] for layer in tail) / max(document["macs"], 1)
    return (
        f"{about}: border layer is convolution {document['border']} of "
        f"{len(document['layers'])}; {len(tail)} unproductive with {params:.0%} of the parameters "
        f"and {macs:.0%} of the MACs"
    )


def _bounds(document: dict[str, Any]) -> str:
    """Return in one sentence which fields are bounds; empty if none is."""
    layers = document["layers"]
    bounds = [layer["index"] for layer in layers if not layer["exact"]]
    if document["measured"]:
        return "fields are measured: the smallest is unknown, the largest is cut off at the image"
    if not bounds:
        return ""
    return (
        f"{len(bounds)} of {len(layers)} fields are lower bounds (marked >=), the first at "
        f"convolution {bounds[0]}: an operation before it mixes all positions, or is unknown"
    )


def show_analysis(document: dict[str, Any], console: Console) -> None:
    """Print an analysis as tables."""
    table = Table(box=None, header_style="dim")
    for column in ("#", "layer", "kernel", "stride", "field", "productive", "params", "MACs"):
        table.add_column(column, justify="left" if column in ("layer", "productive") else "right")
    for layer in document["layers"]:
        table.add_row(
            str(layer["index"]),
            escape(layer["name"]),
            _size(layer["kernel"]),
            _size(layer["stride"]),
            _extent(layer["field_min"], layer["field_max"]),
            "yes" if layer["productive"] else "no",
            f"{layer['params'] / max(document['params'], 1):.1%}",
            f"{layer['macs'] / max(document['macs'], 1):.1%}",
            style=None if layer["productive"] else "red",
        )
    console.print(table, highlight=False)
    console.print(f"{document['params']:,} parameters, {document['macs']:,} MACs", highlight=False)
    if bounds := _bounds(document):
        say(console, bounds)
    say(console, border_summary(document))
    if document["border"] is not None:
        _show_remedies(document["remedies"], console)


def _show_remedies(remedies: list[dict[str, Any]], console: Console) -> None:
    table = Table(box=None, header_style="dim", title="remedies", title_justify="left")
    for column in ("remedy", "params", "MACs", "memory"):
        table.add_column(column, justify="left" if column == "remedy" else "right")
    for remedy in remedies:
        table.add_row(
            f"{remedy['kind']}: {remedy['description']}",
            *[f"x{remedy[key]:.2f}" for key in ("params", "macs", "memory")],
        )
    if not remedies:
        table.add_row("none found: less downsampling is not enough", "", "", "")
    console.print(table, highlight=False)


def _size(pair: Sequence[int | None]) -> str:
    return str(pair[0]) if pair[0] == pair[1] else f"{pair[0]}x{pair[1]}"


def _extent(smallest: list[int], largest: list[int | None]) -> str:
    low = _size(smallest)
    if None in largest:
        return f">={low}"
    return low if smallest == largest else f"{low}..{_size(largest)}"
