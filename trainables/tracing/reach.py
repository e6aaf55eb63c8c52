"""Adds layers for operations that are known only by their reach.

A tensor's dimensions consist of atoms of the batch, the channels, the rows and the columns. Which
of them an operation mixes decides how far it reaches: over channels alone it is pixel-wise, over
whole rows or columns it sees the map, and otherwise the reach is unbounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod

from spaces.operations import Generic, Shape
from trainables.tracing.calls import Call, Constant, Parts, Results, Value
from trainables.tracing.graph import Graph
from trainables.tracing.layout import (
    Atom,
    C,
    Dims,
    H,
    Map,
    N,
    W,
    axis_atoms,
    batch,
    map_dims,
    merged,
)
from trainables.tracing.templates import (
    KEPT,
    PIXELWISE,
    UNKNOWN,
    Reach,
    Template,
    broadcast,
    channels,
    numbered,
    pattern,
    windows,
)


def add(
    graph: Graph,
    call: Call,
    operands: Sequence[Map],
    template: Template,
    reach: Mapping[int, Reach] = PIXELWISE,
    *,
    weights: Sequence[object] = (),
    macs: int = 0,
    suffix: str = "",
) -> Map:
    """Add a generic layer of a call; see `Graph.generic`.

    Raises:
        UnsupportedError: the batch is mixed.
    """
    name = call.name + suffix
    return graph.generic(
        call.operation, operands, template, reach, name=name, weights=weights, macs=macs
    )


def maps_of(values: Iterable[object]) -> list[Map]:
    """Return those values that depend on the image, without expanded dimensions."""
    maps: list[Map] = []
    for value in values:
        if isinstance(value, Map):
            maps.append(Map(value.layer, value.dims))
        elif isinstance(value, Parts):
            maps.append(Map(value.whole.layer, value.whole.dims))
        elif isinstance(value, Results):
            maps += maps_of(value.items)
    return maps


def pixelwise(graph: Graph, call: Call, values: Sequence[object], *, macs: int = 0) -> Map:
    """Add an operation on equal positions of tensors that broadcast.

    Raises:
        UnsupportedError: it combines different positions.
    """
    operands, sizes = maps_of(values), call.result_shape
    if len(operands) == 1 and operands[0].sizes == sizes:
        (x,) = operands
        shape = graph.shapes[x.layer]
        operation = Generic(call.operation, (shape,), shape, multiplications=macs)
        return Map(graph.layer(operation, x.layer, name=call.name, weights=values), x.dims)
    template = broadcast([x.dims for x in operands], sizes)
    return add(graph, call, operands, template, weights=values, macs=macs)


# Reductions


def reduction(graph: Graph, call: Call, x: Map, dims: Iterable[int], keepdim: bool) -> Map:
    """Add an operation that reduces some dimensions to one value."""
    chosen = {dim % len(x.dims) for dim in dims}
    lost = [atom for dim in chosen for atom in x.dims[dim]]
    template = [
        () if dim in chosen else atoms
        for dim, atoms in enumerate(x.dims)
        if keepdim or dim not in chosen
    ]
    return add(graph, call, [x], template, windows(x, graph.shapes[x.layer], lost))


def mixing(
    graph: Graph, call: Call, x: Map, dims: Iterable[int], *, bounded: bool, macs: int = 0
) -> Map:
    """Add an operation that keeps the shape, and along some dimensions mixes all positions."""
    atoms = [atom for dim in dims for atom in x.dims[dim % len(x.dims)]]
    reach: dict[int, Reach] = {}
    for axis in (H, W):
        along = [a for a in atoms if a.axis == axis]
        size = graph.shapes[x.layer][axis - 1]
        if along:
            whole = prod(a.size for a in along) == size
            reach[axis] = Reach(size, 0, not bounded) if whole else KEPT
    constants = [v for v in call.arguments.values() if isinstance(v, Constant)]
    return add(graph, call, [x], x.dims, reach, weights=constants, macs=macs)


# Products of matrices


def contraction(
    graph: Graph,
    call: Call,
    operands: Sequence[tuple[Value, str]],
    result: str,
    *,
    weights: Sequence[object] = (),
) -> Map:
    """Add a sum of products over the labels that the result lacks, as in ``einsum``.

    Args:
        graph: takes the layer.
        call: the operation.
        operands: tensors with one letter for each dimension.
        result: letters of the result.
        weights: constants that the operation uses besides the operands.

    Raises:
        UnsupportedError: it mixes the images of a batch.
    """
    sizes = dict(zip(result, call.result_shape, strict=True))
    maps = [(Map(v.layer, v.dims), letters) for v, letters in operands if isinstance(v, Map)]
    placed: dict[str, tuple[Atom, ...]] = {}
    taken: set[tuple[int, int]] = set()
    moved: set[int] = set()
    for letter in result:
        dims = [merged(x.dims[ls.index(letter)]) for x, ls in maps if letter in ls]
        located = [dim for dim in dims if any(a.axis != C for a in dim)]
        places = {(a.axis, a.stride) for a in located[0] if a.axis != C} if located else set()
        if located and not places & taken:
            placed[letter] = located[0]
            taken |= places
            if len({tuple(pattern(dim)) for dim in located}) > 1:
                moved |= {a.axis for dim in located for a in dim}
        else:
            placed[letter] = channels(sizes[letter])
            moved |= {a.axis for dim in located for a in dim}
    reach: dict[int, Reach] = {}
    for axis in (H, W):
        kept = [a for dim in placed.values() for a in dim if a.axis == axis]
        extents = [graph.shapes[x.layer][axis - 1] for x, _ in maps]
        complete = prod(a.size for a in kept) == max(extents)
        whole = 0
        for x, letters in maps:
            size = graph.shapes[x.layer][axis - 1]
            summed = [
                a
                for dim, letter in zip(x.dims, letters, strict=True)
                for a in dim
                if a.axis == axis and letter not in result
            ]
            if summed:
                moved.add(axis)
                if prod(a.size for a in summed) == size:
                    whole = min(whole or size, size)
        if whole:
            reach[axis] = Reach(whole, 0, unbounded=True)
        elif axis in moved:
            reach[axis] = KEPT if complete else UNKNOWN
    template = [placed[letter] for letter in result]
    constants = [v for v, _ in operands if isinstance(v, Constant)]
    return add(
        graph,
        call,
        [x for x, _ in maps],
        template,
        reach,
        weights=[*constants, *weights],
        macs=call.count_macs(),
    )


# What is not understood


def opaque(graph: Graph, call: Call, shape: tuple[int, ...], values: Sequence[object]) -> Map:
    """Add an operation of which nothing is known but shapes, parameters and their cost."""
    operands = maps_of(values)
    unknown = {
        axis: UNKNOWN if any(graph.shapes[x.layer][axis - 1] > 1 for x in operands) else Reach(1, 0)
        for axis in (H, W)
    }
    layers = tuple(dict.fromkeys(x.layer for x in operands))
    sizes, dims = _opaque_dims(shape)
    operation = Generic(
        call.operation,
        tuple(graph.shapes[layer] for layer in layers),
        sizes,
        (1, 1),
        (0, 0),
        (unknown[H].unbounded, unknown[W].unbounded),
        call.count_macs(),
    )
    return Map(graph.layer(operation, *layers, name=call.name, weights=values), dims)


def _opaque_dims(shape: tuple[int, ...]) -> tuple[Shape, Dims]:
    if shape[:1] == (batch(),):
        whole = axis_atoms(N, batch())
        if len(shape) == 3:
            template: Template = (whole, axis_atoms(H, shape[1]), channels(shape[2]))
        elif len(shape) == 4:
            template = map_dims((shape[1], shape[2], shape[3]))
        else:
            template = (whole, *[channels(size) for size in shape[1:]])
    elif shape and shape[0] % batch() == 0:
        first = (*axis_atoms(N, batch()), *channels(shape[0] // batch()))
        template = (first, *[channels(size) for size in shape[1:]])
    else:
        template = [channels(size) for size in shape]
    return numbered(template)
