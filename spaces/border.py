"""The border layer: from where on a network's convolutions can no longer help.

A convolution is *unproductive* if even the smallest receptive field of its input already exceeds
the image: it cannot bring together anything that earlier layers had not seen together. The
*border layer* is the first convolution from which all are unproductive (Richter et al. 2021,
"Should You Go Deeper?", arXiv 2106.12307). Three published readings differ by one layer; the rule
is therefore a parameter.
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
    """When a convolution counts as unproductive, for an image of size i."""

    PREVIOUS_CONV = "previous-conv"
    """The previous convolution's field exceeds i (a pool between is not counted)."""
    DIRECT_INPUT = "direct-input"
    """The field of the operation that feeds the convolution exceeds i (a pool counts)."""
    NON_STRICT = "non-strict"
    """The field of the direct input reaches i and the convolution's own exceeds it."""


@dataclass(frozen=True)
class BorderAnalysis:
    """What the border rule says of every convolution of an architecture.

    Attributes:
        rule: the rule applied.
        resolution: image size (height, width) in pixels.
        convolutions: layer indices of the convolutions, in forward order.
        fields: receptive field of each convolution's output.
        border: 1-based number of the border layer among the convolutions, None if there is none.
    """

    rule: Rule
    resolution: Pair
    convolutions: tuple[int, ...]
    fields: tuple[ReceptiveField, ...]
    border: int | None

    @property
    def beyond(self) -> int:
        """How many convolutions lie behind the border layer (0 where there is no border)."""
        return 0 if self.border is None else len(self.convolutions) - self.border

    def is_productive(self, number: int) -> bool:
        """Tell whether the convolution with this 1-based number lies before the border layer."""
        return self.border is None or number < self.border


def find_border(
    architecture: Architecture,
    rule: Rule | str = Rule.PREVIOUS_CONV,
    *,
    resolution: Pair | None = None,
    include_gates: bool = False,
) -> BorderAnalysis:
    """Find the border layer.

    A field exceeds a non-square image when it does so along both axes: as long as one axis can
    still grow, a convolution has something to gain. A convolution that only helps to calculate a
    gate is never what decides, unless ``include_gates``.

    Args:
        architecture: the graph.
        rule: one of the published rules.
        resolution: judge for images of this size (height, width) instead of the graph's own.
        include_gates: follow the branches that compute gates as well.

    Raises:
        CollapsedLayerError: a feature map has no pixel left.
        ValueError: unknown rule.
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
    border = None
    for number in range(len(convolutions), 0, -1):
        if convolutions[number - 1] in aside:
            continue
        if not unproductive[number - 1]:
            break
        border = number
    return BorderAnalysis(
        rule=rule,
        resolution=(height, width),
        convolutions=tuple(convolutions),
        fields=tuple([fields[i] for i in convolutions]),
        border=border,
    )


def _direct_input(
    architecture: Architecture, fields: list[ReceptiveField], index: int, include_gates: bool
) -> Pair:
    seen = [fields[i].smallest for i in field_inputs(architecture, index, include_gates)]
    return min([h for h, _ in seen]), min([w for _, w in seen])
