"""The document of an analysis: the records that `analyze --json` prints."""

from __future__ import annotations

import json
from math import inf
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field

from spaces.architecture import Architecture
from spaces.border import BorderAnalysis, Rule
from spaces.costs import costs
from spaces.operations import MEASURED, Generic, Pair
from spaces.remedies import Remedy

Fraction = Annotated[float, Field(ge=0, le=1)]
_EXTENT = "rows and columns, in pixels of the image"


class _Record(BaseModel):
    """A part of the document; fields that were never set are left out of it."""

    model_config = ConfigDict(frozen=True)


class EffectiveRecord(_Record):
    """The effective receptive field of a convolution."""

    extent: Pair = Field(description=f"{_EXTENT}, of the gradient")
    radius: float | None = Field(
        description="distance in pixels that holds 95 % of the gradient; null without a gradient"
    )
    side: float | None = Field(
        description="side in pixels of the smallest square around its centre with 95 % of it"
    )
    within: tuple[float, ...] = Field(
        description="fraction of the gradient's mass within 0, 1, 2, .. pixels of its centre"
    )

    def distance(self, fraction: float) -> int | None:
        """Return the smallest whole distance with this fraction of the mass."""
        reached = (i for i, mass in enumerate(self.within) if mass >= fraction - 1e-9)
        return next(reached, None)


class LayerRecord(_Record):
    """A convolution, in forward order."""

    index: int = Field(ge=1)
    name: str
    kind: str
    kernel: tuple[int, ...]
    stride: tuple[int | float, ...]
    field_min: Pair = Field(description=f"smallest receptive field: {_EXTENT}")
    field_max: tuple[int | None, int | None] = Field(
        description=f"largest receptive field: {_EXTENT}; null if it is unbounded"
    )
    exact: bool = Field(description="false if the fields are bounds")
    productive: bool = Field(description="whether it precedes the border layer")
    params: int = Field(ge=0)
    macs: int = Field(ge=0)
    effective: EffectiveRecord | None = Field(
        default=None, description="with --effective; null if it is unknown"
    )


class RemedyRecord(_Record):
    """A changed network; costs are relative to the original."""

    kind: str
    description: str
    params: float
    macs: float
    memory: float


class LayerDifference(_Record):
    """A convolution that differs between two versions of a network."""

    name: str
    change: Literal["added", "removed", "changed"]
    old: LayerRecord | None
    new: LayerRecord | None


class ComparisonRecord(_Record):
    """The differences from an older version of the network; pairs are old and new values."""

    model: str = Field(description="the older version")
    resolution: Pair
    rule: Rule
    border: int | None
    unproductive: tuple[int, int]
    params: tuple[int, int]
    macs: tuple[int, int]
    layers: tuple[LayerDifference, ...]


class AnalysisDocument(_Record):
    """The analysis of a network by `analyze --json`."""

    model: str
    resolution: Pair = Field(description="height and width of the images")
    rule: Rule
    border: int | None = Field(description="index of the border layer; null if there is none")
    layers: tuple[LayerRecord, ...]
    params: int
    macs: int
    measured: bool = Field(description="whether the fields were measured instead of calculated")
    weights: str | None = Field(
        default=None, description="with --effective: where the weights and images come from"
    )
    remedies: tuple[RemedyRecord, ...]
    comparison: ComparisonRecord | None = Field(default=None, description="with --compare")

    @property
    def unproductive(self) -> tuple[LayerRecord, ...]:
        """The convolutions from the border layer on."""
        return tuple(layer for layer in self.layers if not layer.productive)

    def replacing(self, **values: Any) -> Self:
        """Return the document with other values."""
        return self.model_copy(update=values)

    def plain(self) -> dict[str, Any]:
        """Return the document as plain data for JSON."""
        return self.model_dump(mode="json", exclude_unset=True)


def describe_analysis(
    model: str, architecture: Architecture, analysis: BorderAnalysis, remedies: list[Remedy]
) -> AnalysisDocument:
    """Return the document of an analysis, one of ``layers`` per convolution."""
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
        height, width = [None if extent == inf else int(extent) for extent in field.largest]
        layers.append(
            LayerRecord(
                index=number,
                name=layer.name or f"layer {index}",
                kind=operation.kind,
                kernel=tuple(getattr(operation, "kernel", ())),
                stride=tuple([int(s) if s == int(s) else float(s) for _, s in windows or ()]),
                field_min=field.smallest,
                field_max=(height, width),
                exact=field.exact and not measured,
                productive=analysis.is_productive(number),
                params=layer.params(taken),
                macs=layer.macs(taken, shapes[index]),
            )
        )
    return AnalysisDocument(
        model=model,
        resolution=analysis.resolution,
        rule=analysis.rule,
        border=analysis.border,
        layers=tuple(layers),
        params=total.params,
        macs=total.macs,
        measured=measured,
        remedies=tuple(
            RemedyRecord(
                kind=remedy.kind,
                description=remedy.description,
                params=remedy.params,
                macs=remedy.macs,
                memory=remedy.memory,
            )
            for remedy in remedies
        ),
    )


def document_schema() -> str:
    """Return the JSON schema of the document as text."""
    schema = {"$schema": "https://json-schema.org/draft/2020-12/schema"}
    return json.dumps(schema | AnalysisDocument.model_json_schema(), indent=1) + "\n"
