"""Finds the border layer: the first of the trailing convolutions that cannot help.

A convolution is *unproductive* if even the smallest receptive field of its input exceeds the
image: it combines nothing that earlier layers have not already combined. The *border layer* is the
first convolution from which all convolutions are unproductive (Richter et al. 2021, "Should You Go
Deeper?", arXiv 2106.12307). Three published definitions differ by one layer, so the rule is a
parameter.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from spaces.architecture import Architecture
from spaces.operations import CONVOLUTIONS, Pair
from spaces.receptive_field import (
    ReceptiveField,
    field_inputs,
    gate_branches,
    previous_convolution_fields,
    receptive_fields,
)


class Rule(StrEnum):
    """Condition under which a convolution is unproductive, for an image of size i."""

    PREVIOUS_CONV = "previous-conv"
    """The field of the previous convolution exceeds i; pooling in between does not count."""
    DIRECT_INPUT = "direct-input"
    """The field of the direct input exceeds i; pooling counts."""
    NON_STRICT = "non-strict"
    """The field of the direct input reaches i, and the convolution's own field exceeds i."""


@dataclass(frozen=True)
class BorderAnalysis:
    """The border layer and the receptive fields of all convolutions.

    Attributes:
        rule: the rule applied.
        resolution: image size (height, width) in pixels.
        convolutions: layer indices of the convolutions, in forward order.
        fields: receptive field of each convolution's output.
        border: 1-based number of the border layer among the convolutions, None if there is none.
        beyond: number of convolutions after the border layer, without those that only compute a
            gate; 0 without a border layer.
        has_several_paths: whether paths of different fields lead to a layer, as in residual
            networks.
    """

    rule: Rule
    resolution: Pair
    convolutions: tuple[int, ...]
    fields: tuple[ReceptiveField, ...]
    border: int | None
    beyond: int
    has_several_paths: bool

    def is_productive(self, number: int) -> bool:
        """Tell whether a convolution, by its 1-based number, precedes the border layer."""
        return self.border is None or number < self.border


def find_border(
    architecture: Architecture,
    rule: Rule | str = Rule.PREVIOUS_CONV,
    *,
    resolution: Pair | None = None,
    include_gates: bool = False,
) -> BorderAnalysis:
    """Find the border layer.

    A field exceeds a non-square image if it does so along both axes; otherwise a convolution still
    gains context along one axis. Convolutions that only compute a gate are ignored unless
    ``include_gates``.

    Args:
        architecture: the graph.
        rule: one of the published rules.
        resolution: image size (height, width) in pixels; by default the graph's own.
        include_gates: include the branches that compute gates.

    Raises:
        CollapsedLayerError: a feature map has less than one pixel.
        ValueError: the rule is unknown.

    Example:
        >>> from spaces.architecture import Builder
        >>> from spaces.operations import Convolution
        >>> builder = Builder((3, 5, 5))
        >>> x = builder.image
        >>> for _ in range(4):
        ...     x = builder.add(Convolution(8), x)
        >>> find_border(builder.build()).border
        4
    """
    rule = Rule(rule)
    height, width = resolution if resolution is not None else architecture.shapes[0][1:]
    fields = receptive_fields(architecture, include_gates=include_gates)
    convolutions = architecture.indices(*CONVOLUTIONS)
    if rule is Rule.PREVIOUS_CONV:
        before = previous_convolution_fields(architecture, fields, include_gates=include_gates)
        seen = [before[i] for i in convolutions]
    else:
        seen = [_direct_input(architecture, fields, i, include_gates) for i in convolutions]

    if rule is Rule.NON_STRICT:
        unproductive = [
            h >= height and w >= width and own[0] > height and own[1] > width
            for (h, w), own in zip(seen, [fields[i].smallest for i in convolutions], strict=True)
        ]
    else:
        unproductive = [h > height and w > width for h, w in seen]

    aside = set() if include_gates else gate_branches(architecture)
    border, unproductive_tail = None, 0
    for number in range(len(convolutions), 0, -1):
        if convolutions[number - 1] in aside:
            continue
        if not unproductive[number - 1]:
            break
        border = number
        unproductive_tail += 1
    return BorderAnalysis(
        rule=rule,
        resolution=(height, width),
        convolutions=tuple(convolutions),
        fields=tuple([fields[i] for i in convolutions]),
        border=border,
        beyond=max(unproductive_tail - 1, 0),
        has_several_paths=any(field.smallest != field.largest for field in fields),
    )


def _direct_input(
    architecture: Architecture, fields: list[ReceptiveField], index: int, include_gates: bool
) -> Pair:
    seen = [fields[i].smallest for i in field_inputs(architecture, index, include_gates)]
    return min([h for h, _ in seen]), min([w for _, w in seen])
