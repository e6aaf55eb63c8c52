"""Computes receptive fields: the extent of the image that a value of a layer depends on.

Recurrence per axis, from ``r = j = 1`` at the image (Araujo et al. 2019, "Computing receptive
fields of convolutional neural networks"; Richter et al. 2021, arXiv 2106.12307)::

    r_l = r_{l-1} + (k_eff - 1) * j_{l-1}        j_l = j_{l-1} * s_l

Where paths join, a layer has a smallest field (shortest path) and a largest field (longest path).
For a given jump the recurrence is monotone in r, so keeping the extremes per jump is exact. It
equals enumerating all paths, at a cost linear in the number of edges.

Resampling (transposed convolution, upsampling, adaptive pooling) makes jumps fractional, and output
pixels differ in their extent: on a map upsampled by two, a 3x3 convolution depends on two or three
pixels of the coarse map. The result is the largest extent over all output positions and paddings::

    r + ceil(e) * J

Here r and J are the field and jump of the last map before resampling, and e is the extent added by
later windows, in pixels of that map: ``e += (k - 1) * j / J``. Once the jump is a whole multiple of
J again, the recurrence continues from this field. The result is exact for resampling by whole
factors. With strided windows or ratios such as 2 / 3 some positions never occur, and the result is
an upper bound that is at most one pixel of J too large for each such layer.

After an operation with an unbounded reach, such as attention, the smallest field is a lower bound,
and the largest is infinite.
"""

from __future__ import annotations

from fractions import Fraction
from math import ceil, inf
from typing import NamedTuple, TypeAlias

from spaces.architecture import Architecture
from spaces.operations import CONVOLUTIONS, Gate, Pair, Window

_State: TypeAlias = tuple[tuple[int, int, float], ...]
"""(jump, smallest field, largest field) for every jump."""

_Position: TypeAlias = tuple[int, Fraction, Fraction]
"""State of a resampled map: J, the jump in units of J, and e (see above)."""
_Resampled: TypeAlias = dict[_Position, tuple[int, float]]
"""Smallest and largest field r for every position."""


class ReceptiveField(NamedTuple):
    """Extent (height, width) in pixels of the image, over the shortest and the longest path.

    Where a path leads through an operation of unbounded reach, the smallest field is a lower bound
    and the largest is infinite.
    """

    smallest: Pair
    largest: tuple[float, float]

    @property
    def exact(self) -> bool:
        """Tell whether both extents are exact values instead of bounds."""
        return inf not in self.largest

    @property
    def bounded(self) -> Pair | None:
        """Largest field if it is known."""
        height, width = self.largest
        return (int(height), int(width)) if self.exact else None


def field_inputs(architecture: Architecture, index: int, include_gates: bool) -> tuple[int, ...]:
    """Return the inputs of a layer that count for its receptive field.

    The branch that computes a gate (squeeze-and-excitation, attention) pools globally, so its field
    is always the whole image. It is excluded unless ``include_gates``.
    """
    layer = architecture.layers[index]
    if type(layer.operation) is Gate and not include_gates:
        return layer.inputs[:1]
    return layer.inputs


def gate_branches(architecture: Architecture) -> set[int]:
    """Return the layers that only compute gates."""
    gates = [layer.inputs[1] for layer in architecture.layers if type(layer.operation) is Gate]
    if not gates:
        return set()
    seen: set[int] = set()
    remaining = [len(architecture.layers) - 1]
    while remaining:
        index = remaining.pop()
        if index not in seen:
            seen.add(index)
            remaining.extend(field_inputs(architecture, index, include_gates=False))
    branches: set[int] = set()
    while gates:
        index = gates.pop()
        if index not in seen and index not in branches:
            branches.add(index)
            gates.extend(architecture.layers[index].inputs)
    return branches


def receptive_fields(
    architecture: Architecture, *, include_gates: bool = False
) -> list[ReceptiveField]:
    """Return the receptive field of every layer's output.

    Padding shifts a field without changing its size. A field may be larger than the image.

    Args:
        architecture: the graph.
        include_gates: include the branches that compute gates.

    Raises:
        CollapsedLayerError: a feature map has less than one pixel.

    Example:
        >>> from spaces.architecture import Builder
        >>> from spaces.operations import Convolution, Pooling
        >>> builder = Builder((3, 32, 32))
        >>> x = builder.add(Convolution(8), builder.image)
        >>> x = builder.add(Pooling(), x)
        >>> x = builder.add(Convolution(8), x)
        >>> [field.smallest for field in receptive_fields(builder.build())]
        [(1, 1), (3, 3), (4, 4), (8, 8)]
    """
    heights = _along(architecture, 0, include_gates)
    square = all(w is None or w[0] == w[1] for w in architecture.windows) and all(
        along_height == along_width for along_height, along_width in architecture.unbounded.values()
    )
    widths = heights if square else _along(architecture, 1, include_gates)
    unbounded = architecture.unbounded
    fields: list[ReceptiveField] = []
    for layer, windows, state_h, state_w in zip(
        architecture.layers, architecture.windows, heights, widths, strict=True
    ):
        if windows is None and len(layer.inputs) == 1 and len(fields) not in unbounded:
            fields.append(fields[layer.inputs[0]])
            continue
        (low_h, high_h), (low_w, high_w) = _extremes(state_h), _extremes(state_w)
        fields.append(ReceptiveField((low_h, low_w), (high_h, high_w)))
    return fields


def _along(architecture: Architecture, axis: int, include_gates: bool) -> list[_State]:
    """Return the state of every layer along one axis (0: height, 1: width)."""
    states: list[_State] = [((1, 1, 1),)]
    all_windows, unbounded = architecture.windows, architecture.unbounded
    for index in range(1, len(all_windows)):
        inputs = field_inputs(architecture, index, include_gates)
        state = states[inputs[0]] if len(inputs) == 1 else _join([states[i] for i in inputs])
        windows = all_windows[index]
        if windows is not None:
            kernel, stride = windows[axis]
            if type(kernel) is not int or type(stride) is not int:
                return _along_resampled(architecture, axis, include_gates)
            grown = kernel - 1
            state = tuple(
                [
                    (jump * stride, low + grown * jump, high + grown * jump)
                    for jump, low, high in state
                ]
            )
        if unbounded and index in unbounded and unbounded[index][axis]:
            state = tuple([(jump, low, inf) for jump, low, _ in state])
        states.append(_join([state]) if windows is not None and windows[axis][1] == 0 else state)
    return states


def _along_resampled(architecture: Architecture, axis: int, include_gates: bool) -> list[_State]:
    """Return the state of every layer along one axis of a graph with resampling.

    The returned jumps are rounded and not meant for further recurrences.
    """
    one = Fraction(1)
    states: list[_Resampled] = [{(1, one, Fraction(0)): (1, 1)}]
    for index in range(1, len(architecture.layers)):
        inputs = field_inputs(architecture, index, include_gates)
        windows = architecture.windows[index]
        state: _Resampled = {}
        for source in inputs:
            for position, (low, high) in states[source].items():
                moved, grown = (position, 0) if windows is None else _slid(position, windows[axis])
                known_low, known_high = state.get(moved, (low + grown, high + grown))
                state[moved] = (min(low + grown, known_low), max(high + grown, known_high))
        if index in architecture.unbounded and architecture.unbounded[index][axis]:
            state = {position: (low, inf) for position, (low, _) in state.items()}
        states.append(state)
    return [
        tuple(
            [
                (ceil(base * jump), low + ceil(extra) * base, high + ceil(extra) * base)
                for (base, jump, extra), (low, high) in state.items()
            ]
        )
        for state in states
    ]


def _slid(position: _Position, window: Window) -> tuple[_Position, int]:
    """Return the position after a window, and the growth of the field r."""
    base, jump, extra = position
    kernel, stride = window
    if stride.denominator > 1 and (jump.numerator > 1 or (extra / jump).denominator > 1):
        # Roundings do not nest here: a window may touch one more pixel of the previous map.
        extra += jump * Fraction(stride.denominator - 1, stride.denominator)
    extra += (kernel - 1) * jump
    jump *= stride
    if jump.denominator > 1:
        return (base, jump, extra), 0
    return (base * jump.numerator, Fraction(1), Fraction(0)), ceil(extra) * base


def _extremes(state: _State) -> tuple[int, float]:
    """Return the smallest and the largest field over all jumps."""
    if len(state) == 1:
        return state[0][1], state[0][2]
    return min([low for _, low, _ in state]), max([high for _, _, high in state])


def _join(states: list[_State]) -> _State:
    """Merge the states of several inputs, jump by jump."""
    merged: dict[int, tuple[int, float]] = {}
    for state in states:
        for jump, low, high in state:
            if jump in merged:
                known_low, known_high = merged[jump]
                merged[jump] = (min(low, known_low), max(high, known_high))
            else:
                merged[jump] = (low, high)
    return tuple([(jump, low, high) for jump, (low, high) in merged.items()])


def previous_convolution_fields(
    architecture: Architecture,
    fields: list[ReceptiveField],
    *,
    include_gates: bool = False,
) -> list[Pair]:
    """Return the smallest field (height, width) of the convolution before every layer.

    The minimum is over all paths to the layer; a path without a convolution counts as one pixel.
    """
    previous: list[Pair] = [(1, 1)]
    for index in range(1, len(architecture.layers)):
        seen = [
            fields[i].smallest
            if type(architecture.layers[i].operation) in CONVOLUTIONS
            else previous[i]
            for i in field_inputs(architecture, index, include_gates)
        ]
        previous.append(
            seen[0] if len(seen) == 1 else (min([h for h, _ in seen]), min([w for _, w in seen]))
        )
    return previous
