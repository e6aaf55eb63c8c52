"""Random architectures of all kinds of layers, for property tests."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

from spaces.architecture import Architecture, Builder
from spaces.operations import (
    ACTIVATIONS,
    NORMS,
    POOLING_MODES,
    Activation,
    Add,
    ChannelPooling,
    CollapsedMapError,
    Concat,
    Convolution,
    Dropout,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Pooling,
    Shape,
)

Draw = Callable[[st.SearchStrategy[Any]], Any]


def examples(number: int) -> settings:
    """Return settings for a property that takes as long as it takes."""
    unhurried = [HealthCheck.too_slow, HealthCheck.data_too_large]
    return settings(max_examples=number, deadline=None, suppress_health_check=unhurried)


@cache
def pairs(low: int, high: int) -> st.SearchStrategy[tuple[int, int]]:
    """Pairs (height, width), half of them square."""
    numbers = range(low, high + 1)
    square = [(n, n) for n in numbers]
    oblong = [(h, w) for h in numbers for w in numbers if h != w]
    return st.sampled_from(square * max(1, len(oblong) // len(square)) + oblong)


@st.composite
def convolutions(draw: Draw, channels: int = 1, padding: int = 2, stride: int = 3) -> Convolution:
    groups = draw(st.sampled_from([n for n in (1, 2, channels) if channels % n == 0]))
    return Convolution(
        features=groups * draw(st.integers(1, 3)),
        kernel=draw(pairs(1, 3)),
        stride=draw(pairs(1, stride)),
        padding=draw(pairs(0, padding)),
        dilation=draw(pairs(1, 2)),
        groups=groups,
        bias=draw(st.booleans()),
    )


@st.composite
def poolings(draw: Draw, modes: tuple[str, ...] = POOLING_MODES, padded: bool = True) -> Pooling:
    kernel = draw(pairs(1, 4))
    return Pooling(
        mode=draw(st.sampled_from(modes)),
        kernel=kernel,
        stride=draw(pairs(1, 3)),
        padding=(
            draw(st.integers(0, kernel[0] // 2)) if padded else 0,
            draw(st.integers(0, kernel[1] // 2)) if padded else 0,
        ),
        ceil=draw(st.booleans()),
    )


@cache
def operations(channels: int) -> st.SearchStrategy[Operation]:
    """Operations of one input that fit a map of so many channels."""
    groups = st.sampled_from([n for n in range(1, channels + 1) if channels % n == 0])
    return st.one_of(
        convolutions(channels),
        convolutions(channels, stride=1),
        poolings(),
        poolings(),
        st.builds(GlobalPooling, st.sampled_from(POOLING_MODES)),
        st.builds(ChannelPooling, st.sampled_from(POOLING_MODES)),
        st.builds(Norm, st.sampled_from(NORMS), groups),
        st.builds(Activation, st.sampled_from(ACTIVATIONS)),
        st.builds(Dropout, st.floats(0, 0.9)),
        st.builds(Linear, st.integers(1, 4), st.booleans()),
    )


class _Growth:
    """A graph under construction, with the shape of every layer so far."""

    def __init__(self, draw: Draw, image: Shape) -> None:
        self.draw = draw
        self.builder = Builder(image)
        self.shapes = [image]

    def add(self, operation: Operation, *inputs: int) -> int:
        shape = operation.output_shape(tuple(self.shapes[i] for i in inputs))
        self.shapes.append(shape)
        return self.builder.add(operation, *inputs, name=f"layer {len(self.shapes) - 1}")

    def source(self) -> int:
        """Choose a layer to go on from: mostly the last."""
        last = len(self.shapes) - 1
        return self.draw(st.sampled_from([*range(last), *[last] * (last + 1)]))

    def like(self, fits: Callable[[Shape], bool], most: int = 3) -> list[int]:
        fitting = [i for i, shape in enumerate(self.shapes) if fits(shape)]
        return self.draw(st.lists(st.sampled_from(fitting), min_size=1, max_size=most))

    def single(self) -> None:
        x = self.source()
        self.add(self.draw(operations(self.shapes[x][0])), x)

    def sum(self) -> None:
        shape = self.shapes[self.source()]
        self.add(Add(), *self.like(lambda other: other == shape))

    def concatenation(self) -> None:
        shape = self.shapes[self.source()]
        self.add(Concat(), *self.like(lambda other: other[1:] == shape[1:]))

    def residual(self) -> None:
        """Two branches with equal strides."""
        x = self.source()
        features, stride = self.draw(st.integers(1, 3)), self.draw(pairs(1, 3))
        y = self.add(Convolution(features, (3, 3), stride), x)
        y = self.add(Convolution(features), y)
        z = self.add(Convolution(features, (1, 1), stride, (0, 0)), x)
        self.add(Add(), *self.draw(st.permutations([y, z])))

    def different_jumps(self) -> None:
        """A strided branch and one that cuts the map to the same size without a stride."""
        x = self.source()
        features, stride = self.draw(st.integers(1, 3)), self.draw(pairs(2, 3))
        y = self.add(Convolution(features, (1, 1), stride, (0, 0)), x)
        (_, height, width), (_, small_height, small_width) = self.shapes[x], self.shapes[y]
        kernel = (height - small_height + 1, width - small_width + 1)
        z = self.add(Convolution(features, kernel, (1, 1), (0, 0)), x)
        join = self.draw(st.sampled_from([Add(), Concat()]))
        self.add(join, *self.draw(st.permutations([y, z])))

    def gate(self) -> None:
        x = self.source()
        channels = self.shapes[x][0]
        if self.draw(st.booleans()):
            gate = self.add(GlobalPooling(), x)
            gate = self.add(Convolution(channels, (1, 1), (1, 1), (0, 0)), gate)
        else:
            gate = self.add(Convolution(1), x)
        self.add(Gate(), x, self.add(Activation("sigmoid"), gate))


@st.composite
def architectures(draw: Draw, steps: int = 7, sides: tuple[int, int] = (1, 16)) -> Architecture:
    """Graphs with joins, strided branches, gates, dilations and dead layers."""
    growth = _Growth(draw, (draw(st.integers(1, 3)), *draw(pairs(*sides))))
    kinds = (
        *[growth.single] * 3,
        growth.sum,
        growth.concatenation,
        growth.residual,
        growth.different_jumps,
        growth.gate,
    )
    for grow in draw(st.lists(st.sampled_from(kinds), min_size=2, max_size=steps)):
        try:
            grow()
        except CollapsedMapError:
            continue  # What stands already of a branch stays as dead layers.
    return growth.builder.build()


@cache
def _windows(channels: int) -> st.SearchStrategy[Operation]:
    return st.one_of(convolutions(channels, stride=2), poolings())


@st.composite
def plain_chains(draw: Draw, image: Shape, layers: int = 6) -> Architecture:
    """One path of convolutions and poolings."""
    growth = _Growth(draw, image)
    for _ in range(draw(st.integers(1, layers))):
        last = len(growth.shapes) - 1
        channels = growth.shapes[last][0]
        try:
            growth.add(draw(_windows(channels)), last)
        except CollapsedMapError:
            break
    return growth.builder.build()
