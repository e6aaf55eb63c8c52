"""Segments of a network: the parts between layers that no edge bypasses, and their fields."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, combinations
from typing import NamedTuple

from spaces.architecture import Architecture, Layer
from spaces.border import Rule
from spaces.operations import CONVOLUTIONS, Convolution, Input, Pair, Shape
from spaces.receptive_field import field_inputs, gate_branches
from spaces.remedies.editing import (
    Change,
    apply_changes,
    end_of_layer,
    stride_of,
    usual_pooling,
    waists,
)

_MOST_STEPS = 3
"""Downsampling steps of a segment that are removed in every combination."""


class Reached(NamedTuple):
    """State of a layer along an axis, relative to the input of its segment.

    Attributes:
        field: smallest field of its output.
        before: smallest field of the convolutions before it; 0 for that before the segment.
        jump: distance between neighbouring values.
    """

    field: int
    before: int
    jump: int


class Passed(NamedTuple):
    """What a segment does to images of one size.

    Attributes:
        size: height and width of its output; of the last convolution in the last segment.
        macs: multiply-accumulates.
        jump: factor of the jump.
        field: smallest field of its output, relative to its input.
        before: smallest field of the last convolutions; 0 along an axis for that before it.
        convolutions: for each convolution along each axis: the field that the rule compares (0 for
            the convolution before the segment), and its own field.
    """

    size: Pair
    macs: int
    jump: Pair
    field: Pair
    before: Pair
    convolutions: tuple[tuple[Pair, Pair], ...]


@dataclass(frozen=True, eq=False)
class Segment:
    """A part of a network between two layers that no edge bypasses.

    Attributes:
        architecture: the whole network.
        start: layer whose output it takes.
        end: its last layer.
        waists: layers of the network that no edge bypasses.
    """

    architecture: Architecture
    start: int
    end: int
    waists: frozenset[int]

    @property
    def is_last(self) -> bool:
        """Tell whether it contains the output of the network."""
        return self.end == len(self.architecture.layers) - 1

    def options(self, *, pools: bool) -> Iterator[tuple[Change, ...]]:
        """Yield changes of the segment, first none.

        Args:
            pools: whether pooling layers may be added.
        """
        for loosened in self._loosened():
            yield loosened
            if self.is_last:
                continue
            if pools:
                yield (*loosened, Change("pool", self.end))
            strided = self._strided(loosened)
            if strided is not None:
                yield (*loosened, Change("stride", strided))

    def _loosened(self) -> list[tuple[Change, ...]]:
        """Return the removals of downsampling and dilation."""
        layers = self.architecture.layers
        convolutions = self.architecture.indices(*CONVOLUTIONS)
        steps: dict[Pair, list[Change]] = {}
        dilated: list[Change] = []
        for index in range(self.start + 1, min(self.end, convolutions[-1]) + 1):
            operation = layers[index].operation
            if stride_of(operation) != (1, 1):
                _, height, width = self.architecture.shapes[layers[index].inputs[0]]
                steps.setdefault((height, width), []).append(Change("unstride", index))
            if isinstance(operation, Convolution) and operation.dilation != (1, 1):
                dilated.append(Change("undilate", index))
        groups = [*steps.values(), *([dilated] if dilated else [])]
        counts = range(len(groups) + 1) if len(groups) <= _MOST_STEPS else (0, len(groups))
        return [
            tuple(chain.from_iterable(chosen))
            for count in counts
            for chosen in combinations(groups, count)
        ]

    def _strided(self, loosened: tuple[Change, ...]) -> int | None:
        """Return the convolution at the end that can have a stride of 2."""
        layers = self.architecture.layers
        found = [
            i
            for i in range(self.start + 1, self.end + 1)
            if type(layers[i].operation) is Convolution
        ]
        if not found or end_of_layer(self.architecture, found[-1]) != self.end:
            return None
        last = found[-1]
        operation = layers[last].operation
        assert isinstance(operation, Convolution)  # noqa: S101 - by selection
        if Change("unstride", last) in loosened or operation.stride != (1, 1):
            return None
        if min(operation.kernel) < 2 or last not in self.waists:
            return None
        return last

    def part(self, changes: tuple[Change, ...], size: Pair) -> Architecture:
        """Return the changed segment as a network of its own, for images of a size."""
        layers = self.architecture.layers[self.start + 1 : self.end + 1]
        channels = self.architecture.shapes[self.start][0]
        moved = [
            layer._replace(inputs=tuple([i - self.start for i in layer.inputs])) for layer in layers
        ]
        inside = [Change(action, layer - self.start) for action, layer in changes]
        image = Layer(Input(channels, *size))
        pooling = usual_pooling(self.architecture)
        return apply_changes(Architecture((image, *moved)), inside, pooling)

    def passed(self, changes: tuple[Change, ...], size: Pair, rule: Rule) -> Passed | None:
        """Return what the changed segment does to images of a size.

        None if the layers do not fit, if the network would return a smaller map or another vector,
        or if the paths of the segment do not share one jump.
        """
        try:
            part = self.part(changes, size)
            shapes = part.shapes
        except ValueError:
            return None
        if self.is_last and not _is_such_output(shapes[-1], self.architecture.shapes[-1]):
            return None
        until = part.indices(*CONVOLUTIONS)[-1] if self.is_last else len(part.layers) - 1
        rows, columns = _along(part, 0, until), _along(part, 1, until)
        if rows is None or columns is None:
            return None
        aside = gate_branches(part)
        convolutions = tuple(
            (
                (_compared(part, rows, i, rule), _compared(part, columns, i, rule)),
                (rows[i].field, columns[i].field),
            )
            for i in part.indices(*CONVOLUTIONS)
            if i not in aside
        )
        macs = sum(
            layer.macs(tuple([shapes[i] for i in layer.inputs]), shape)
            for layer, shape in zip(part.layers[1:], shapes[1:], strict=True)
        )
        return Passed(
            shapes[until][1:],
            macs,
            (rows[until].jump, columns[until].jump),
            (rows[until].field, columns[until].field),
            (_before(part, rows, until), _before(part, columns, until)),
            convolutions,
        )


def _is_such_output(shape: Shape, original: Shape) -> bool:
    """Tell whether an output may replace the original: an equal vector, or no smaller map."""
    if original[1:] == (1, 1):
        return shape == original
    return shape[0] == original[0] and shape[1] >= original[1] and shape[2] >= original[2]


def _compared(part: Architecture, states: list[Reached], index: int, rule: Rule) -> int:
    """Return the field that a rule compares for a convolution."""
    inputs = part.layers[index].inputs
    if rule is Rule.PREVIOUS_CONV:
        return min(_before(part, states, i) for i in inputs)
    return min(states[i].field for i in inputs)


def _before(part: Architecture, states: list[Reached], index: int) -> int:
    """Return the smallest field of the convolutions that lead to the output of a layer."""
    is_convolution = type(part.layers[index].operation) in CONVOLUTIONS
    return states[index].field if is_convolution else states[index].before


def _along(part: Architecture, axis: int, until: int) -> list[Reached] | None:
    """Return the state of the layers along an axis; None if paths do not share one jump."""
    states = [Reached(1, 0, 1)]
    for index in range(1, until + 1):
        inputs = field_inputs(part, index, include_gates=False)
        field = min([states[i].field for i in inputs])
        before = min([_before(part, states, i) for i in inputs])
        jump = states[inputs[0]].jump
        if any(states[i].jump != jump for i in inputs):
            return None
        window = part.windows[index]
        if window is not None:
            kernel, stride = window[axis]
            if type(kernel) is not int or type(stride) is not int or stride < 1:
                return None
            field, jump = field + (kernel - 1) * jump, jump * stride
        states.append(Reached(field, before, jump))
    return states


def segments_of(architecture: Architecture) -> list[Segment]:
    """Return the segments in order; each but the last ends behind a convolution."""
    convolutions = architecture.indices(*CONVOLUTIONS)
    if not convolutions:
        return []
    found: list[Segment] = []
    narrow = waists(architecture)
    known = frozenset(narrow)
    start, last = 0, convolutions[-1]
    for waist in narrow:
        if waist >= last or end_of_layer(architecture, waist) != waist:
            continue
        if any(start < index <= waist for index in convolutions):
            found.append(Segment(architecture, start, waist, known))
            start = waist
    return [*found, Segment(architecture, start, len(architecture.layers) - 1, known)]
