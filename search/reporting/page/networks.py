"""The networks of the winner and the runners-up: layers, shapes, fields, border and costs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from markupsafe import Markup

from search.formatting import plural
from search.reporting.charts.network import MOST_LAYERS, DrawnLayer, draw_network
from search.reporting.charts.plot import Mark, Plot, Point, Series
from search.reporting.charts.scales import Axis, short
from search.reporting.gathering import Gathered
from search.reporting.page.describing import network_of
from search.reporting.page.frame import Part, bar, figure, table
from search.study.records import TrialRecord
from spaces.architecture import Architecture
from spaces.border import BorderAnalysis, find_border
from spaces.operations import (
    Activation,
    Convolution,
    Dropout,
    GlobalPooling,
    Input,
    Linear,
    Norm,
    Pooling,
)

DRAWN = 3
"""Networks that a page draws at most."""
_QUIET = (Activation, Dropout, Input, Norm)


@dataclass(frozen=True)
class LayerRow:
    """A layer of a network as a page lists it.

    Attributes:
        name: its kind, with the kernel of a convolution.
        channels: of its output.
        size: height and width of its output.
        field: smallest receptive field along the longer side of the image; None except for
            convolutions.
        is_productive: whether a convolution precedes the border layer; None for other layers.
        is_border: whether it is the border layer.
        params: number of its parameters.
        macs: its multiply-accumulates for one image.
    """

    name: str
    channels: int
    size: tuple[int, int]
    field: int | None
    is_productive: bool | None
    is_border: bool
    params: int
    macs: int


def layer_rows(architecture: Architecture, analysis: BorderAnalysis) -> list[LayerRow]:
    """Return the layers of a network in forward order, without norms, activations and dropout."""
    axis = 0 if analysis.resolution[0] >= analysis.resolution[1] else 1
    numbers = {index: number for number, index in enumerate(analysis.convolutions, start=1)}
    rows = []
    for index, layer in enumerate(architecture.layers):
        if isinstance(layer.operation, _QUIET):
            continue
        inputs = tuple(architecture.shapes[i] for i in layer.inputs)
        channels, height, width = architecture.shapes[index]
        number = numbers.get(index)
        rows.append(
            LayerRow(
                _name(layer.operation),
                channels,
                (height, width),
                analysis.fields[number - 1].smallest[axis] if number else None,
                analysis.is_productive(number) if number else None,
                number is not None and number == analysis.border,
                layer.params(inputs),
                layer.macs(inputs, architecture.shapes[index]),
            )
        )
    return rows


def _name(operation: object) -> str:
    if isinstance(operation, Convolution):
        stride = max(operation.stride)
        return f"conv {_extent(operation.kernel)}{f' /{stride}' if stride > 1 else ''}"
    if isinstance(operation, Pooling):
        return f"{operation.mode} pool {_extent(operation.kernel)}"
    if isinstance(operation, GlobalPooling):
        return "global pool"
    if isinstance(operation, Linear):
        return "linear"
    return str(getattr(operation, "kind", type(operation).__name__))


def _extent(kernel: tuple[int, int]) -> str:
    return f"{kernel[0]}x{kernel[1]}"


def networks_part(gathered: Gathered) -> Part | None:
    """Return the part on the best networks; None before a trial has an accuracy."""
    chosen = gathered.best[:DRAWN]
    if not chosen:
        return None
    content = []
    analyses = []
    for place, record in enumerate(chosen):
        architecture = gathered.candidate(record).architecture
        analysis = find_border(architecture, gathered.experiment.screens.rule)
        analyses.append((record, analysis))
        content += _network(gathered, record, architecture, analysis, is_first=not place)
    content.append(_fields(analyses))
    sentence = (
        "The height of a box is the size of the feature map, its width the channels, both reduced "
        "to a readable scale. Blue convolutions precede the border layer, orange ones follow it "
        "or are it. Norms and activations are left out, and shortcuts are not drawn."
    )
    return Part("Networks", (sentence,), tuple(content))


def _network(
    gathered: Gathered,
    record: TrialRecord,
    architecture: Architecture,
    analysis: BorderAnalysis,
    *,
    is_first: bool,
) -> list[Markup]:
    rows = layer_rows(architecture, analysis)
    image = max(analysis.resolution)
    border = "no border layer"
    if analysis.border is not None:
        border = f"border layer: convolution {analysis.border} of {len(analysis.convolutions)}"
    costs = [
        f"{short(sum(row.params for row in rows))} parameters in these layers",
        f"{short(record.macs)} MACs" if record.macs is not None else "",
        border,
    ]
    caption = f"{network_of(record, gathered.space)}. {', '.join(filter(None, costs))}."
    if len(rows) > MOST_LAYERS:
        caption += f" The first {MOST_LAYERS} of {plural(len(rows), 'layer')} are drawn."
    drawn = [
        DrawnLayer(
            row.name.partition(" ")[0],
            max(row.size),
            row.channels,
            row.is_productive,
            row.is_border,
            f"{row.name}: {row.channels} channels of {_extent(row.size)}",
        )
        for row in rows
    ]
    title = f"Network of trial {record.number}"
    listed = _layers(rows, image)
    return [
        Markup("<h3>{}</h3>").format(f"Trial {record.number}"),
        figure(draw_network(drawn, image, title), caption, None if is_first else listed, wide=True),
        *([listed] if is_first else []),
    ]


def _layers(rows: Sequence[LayerRow], image: int) -> Markup:
    params, macs = max(row.params for row in rows) or 1, max(row.macs for row in rows) or 1
    cells = []
    for number, row in enumerate(rows, start=1):
        state = {None: "", True: "productive", False: "beyond the border"}[row.is_productive]
        cells.append(
            (
                str(number),
                row.name,
                str(row.channels),
                _extent(row.size),
                ""
                if row.field is None
                else bar(f"{row.field} px", row.field / image, 0 if row.is_productive else 1),
                "border layer" if row.is_border else state,
                bar(f"{row.params:,}", row.params / params, 2),
                bar(short(row.macs), row.macs / macs, 2),
            )
        )
    header = ("#", "layer", "channels", "size", "field", "", "params", "MACs")
    return table(header, cells, "A full bar of the field is the image.")


def _fields(analyses: Sequence[tuple[TrialRecord, BorderAnalysis]]) -> Markup:
    """Draw the growth of the receptive fields over the convolutions."""
    series = []
    for colour, (record, analysis) in enumerate(analyses):
        axis = 0 if analysis.resolution[0] >= analysis.resolution[1] else 1
        points = [
            Point(
                number,
                each.smallest[axis],
                f"trial {record.number}, convolution {number}: {each.smallest[axis]} px",
            )
            for number, each in enumerate(analysis.fields, start=1)
        ]
        series += [
            Series(f"trial {record.number}", points, colour, "line"),
            Series("", points, colour),
        ]
    image = max(analyses[0][1].resolution)
    plot = Plot(
        "Growth of the receptive field",
        Axis("convolution", whole=True),
        Axis("smallest receptive field, px"),
        series,
        levels=[Mark(image, f"image, {image} px")],
    )
    caption = (
        "Smallest receptive field after each convolution. Convolutions whose input already sees "
        "more than the image combine nothing new."
    )
    return figure(plot, caption)
