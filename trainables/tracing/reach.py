"""Adds layers for operations that are known only by their reach.

A tensor's dimensions consist of atoms of the batch, the channels, the rows and the columns. Which
of them an operation mixes decides how far it reaches: over channels alone it is pixel-wise, over
whole rows or columns it sees the map, and otherwise the reach is unbounded.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

from spaces.operations import Generic, Pair, PixelShuffle, Shape
from trainables.tracing.graph import Call, Constant, Graph, Value
from trainables.tracing.layout import (
    BATCH,
    Atom,
    C,
    Dims,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    is_whole,
    map_dims,
    merged,
)

Template: TypeAlias = Sequence[Sequence[Atom]]
"""Dimensions of a result: of channels only the sizes count, positions are those of the inputs."""


class Reach(NamedTuple):
    """How far an operation reaches along one axis; see `spaces.generic.Generic`."""

    kernel: int = 1
    stride: int = 1
    unbounded: bool = False


UNKNOWN = Reach(1, 0, unbounded=True)
KEPT = Reach(1, 1, unbounded=True)
"""At least the same position."""
_PIXELWISE: Mapping[int, Reach] = {}


def channels(size: int) -> tuple[Atom, ...]:
    """Return a dimension of channels for a template."""
    return axis_atoms(C, size)


def add(
    graph: Graph,
    call: Call,
    operands: Sequence[Map],
    template: Template,
    reach: Mapping[int, Reach] = _PIXELWISE,
    *,
    weights: Sequence[object] = (),
    macs: int = 0,
    suffix: str = "",
) -> Map:
    """Add a generic layer whose output has the dimensions of a template.

    Raises:
        UnsupportedError: the batch is mixed.
    """
    batch = [atom for dim in template for atom in dim if atom.axis == N]
    if prod(atom.size for atom in batch) != BATCH:
        raise UnsupportedError("mixes the images of a batch")
    sizes, dims = _numbered(template)
    along = [reach.get(axis, Reach()) for axis in (H, W)]
    layers = tuple(dict.fromkeys(operand.layer for operand in operands))
    operation = Generic(
        call.operation,
        tuple(graph.shapes[layer] for layer in layers),
        sizes,
        (along[0].kernel, along[1].kernel),
        (along[0].stride, along[1].stride),
        (along[0].unbounded, along[1].unbounded),
        macs,
    )
    layer = graph.layer(operation, *layers, name=call.name + suffix, weights=weights)
    return Map(layer, dims)


def _numbered(template: Template) -> tuple[Shape, Dims]:
    """Return the shape of a layer and the dimensions with its strides."""
    totals: dict[int, int] = {}
    strides: dict[int, int] = {}
    positions: dict[tuple[int, int], int] = {}
    for axis in (H, W):
        total = 1
        for atom in sorted([a for dim in template for a in dim if a.axis == axis]):
            positions[axis, atom.stride] = total
            total *= atom.size
        totals[axis] = total
    totals[C] = strides[C] = prod(a.size for dim in template for a in dim if a.axis == C)
    dims = []
    for dim in template:
        atoms = []
        for axis, stride, size in dim:
            if axis == C:
                strides[C] //= size
                atoms.append(Atom(C, strides[C], size))
            else:
                atoms.append(Atom(axis, positions.get((axis, stride), stride), size))
        dims.append(merged(atoms))
    return (totals[C], totals[H], totals[W]), tuple(dims)


def maps_of(values: Iterable[object]) -> list[Map]:
    """Return those values that depend on the image, without expanded dimensions."""
    return [Map(v.layer, v.dims) for v in values if isinstance(v, Map)]


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


def broadcast(operands: Sequence[Dims], sizes: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the dimensions of the result of tensors that broadcast to these sizes.

    Raises:
        UnsupportedError: different positions meet.
    """
    template: list[tuple[Atom, ...]] = []
    rank = len(sizes)
    for place, size in enumerate(sizes):
        dims = [x[place - rank + len(x)] for x in operands if place - rank + len(x) >= 0]
        template.append(_common(dims, size))
    _check_single(template)
    return template


def _common(dims: Sequence[Sequence[Atom]], size: int) -> tuple[Atom, ...]:
    placed = [merged(dim) for dim in dims if any(atom.axis != C for atom in dim)]
    if not placed:
        return channels(size)
    if len({tuple(_pattern(dim)) for dim in placed}) > 1:
        raise UnsupportedError("combines different positions")
    return placed[0]


def _pattern(dim: Sequence[Atom]) -> list[tuple[int, ...]]:
    return [(C, atom.size) if atom.axis == C else tuple(atom) for atom in dim]


def _check_single(template: Template) -> None:
    """Check that no position occurs twice."""
    located = [(a.axis, a.stride) for dim in template for a in dim if a.axis != C]
    if len(set(located)) != len(located):
        raise UnsupportedError("combines different positions")


# Reductions and rearrangements


def window(size: int, kept: Iterable[Atom], lost: Iterable[Atom]) -> Reach:
    """Return the window of an operation that combines some positions of an axis.

    Args:
        size: of the axis.
        kept: atoms of the axis that remain positions.
        lost: atoms of the axis that are combined.

    Raises:
        UnsupportedError: the remaining positions are not evenly spaced.
    """
    kept, lost = _sorted(kept), _sorted(lost)
    if prod(a.size for a in (*kept, *lost)) != size:
        raise UnsupportedError("uses a part of an axis")
    if not lost:
        return Reach()
    if not kept:
        return Reach(size, size)
    if len(kept) > 1 or len(lost) > 1:
        raise UnsupportedError("combines unevenly spaced positions")
    (inner,) = lost
    extent = (inner.size - 1) * inner.stride + 1
    return Reach(extent, kept[0].stride)


def _sorted(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    return merged(sorted(atoms, reverse=True))


def windows(graph: Graph, x: Map, lost: Sequence[Atom]) -> dict[int, Reach]:
    """Return the windows of an operation on one tensor that combines these positions."""
    gone = set(lost)
    reach = {}
    for axis in (H, W):
        kept = [a for dim in x.dims for a in dim if a.axis == axis and a not in gone]
        combined = [a for a in lost if a.axis == axis]
        reach[axis] = window(graph.shapes[x.layer][axis - 1], kept, combined)
    return reach


def reduction(graph: Graph, call: Call, x: Map, dims: Iterable[int], keepdim: bool) -> Map:
    """Add an operation that reduces some dimensions to one value."""
    chosen = {dim % len(x.dims) for dim in dims}
    lost = [atom for dim in chosen for atom in x.dims[dim]]
    template = [
        () if dim in chosen else atoms
        for dim, atoms in enumerate(x.dims)
        if keepdim or dim not in chosen
    ]
    return add(graph, call, [x], template, windows(graph, x, lost))


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


def rearranged(graph: Graph, x: Map, name: str, *, understood: bool) -> Map:
    """Return a tensor of four dimensions as a map ``[n, c, h, w]``.

    Positions that become channels make a window.

    Raises:
        UnsupportedError: the first dimension is not the batch, or the rearrangement has to be
            understood and is not.
    """
    if len(x.dims) != 4 or not is_whole(x.dims[0], (N, BATCH)):
        raise UnsupportedError(f"takes a tensor of {len(x.dims)} axes that is no batch of maps")
    call = Call("rearrange", {}, x.sizes, (x.sizes,), name)
    shape = graph.shapes[x.layer]
    sizes: Shape = (x.sizes[1], x.sizes[2], x.sizes[3])
    whole: Template = map_dims(sizes)
    if shape[1:] == (1, 1):
        return add(graph, call, [x], whole, {H: Reach(1, 0), W: Reach(1, 0)}, suffix=".rearrange")
    pixels = x.dims[2:]
    axes = tuple({a.axis for a in dim} for dim in pixels)
    if axes[0] <= {H} and axes[1] <= {W}:
        lost = [a for a in x.dims[1] if a.axis in (H, W)]
        try:
            reach = windows(graph, x, lost)
        except UnsupportedError:
            pass
        else:
            return add(graph, call, [x], whole, reach, suffix=".rearrange")
    finer = _finer(x, shape)
    if finer is not None:
        ordered, factor = finer
        layer = add(graph, call, [x], ordered, suffix=".rearrange").layer
        layer = graph.layer(PixelShuffle(factor), layer, name=f"{name}.shuffle")
        return Map(layer, map_dims(graph.shapes[layer]))
    if understood:
        raise UnsupportedError("takes a map whose axes were rearranged")
    return add(graph, call, [x], whole, {H: UNKNOWN, W: UNKNOWN}, suffix=".rearrange")


def _finer(x: Map, shape: Shape) -> tuple[Template, Pair] | None:
    """Return the order of channels for a pixel shuffle, and its factor."""
    rows, columns = merged(x.dims[2]), merged(x.dims[3])
    if len(rows) != 2 or len(columns) != 2 or any(a.axis != C for a in x.dims[1]):
        return None
    if not (is_whole(rows[:1], (H, shape[1])) and is_whole(columns[:1], (W, shape[2]))):
        return None
    if rows[1].axis != C or columns[1].axis != C or rows[1].size != columns[1].size:
        return None
    template = (x.dims[0], (*x.dims[1], rows[1], columns[1]), rows[:1], columns[:1])
    return template, (rows[1].size, columns[1].size)


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
            if len({tuple(_pattern(dim)) for dim in located}) > 1:
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
    operands = [v for v in values if isinstance(v, Map)]
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
    if shape[:1] == (BATCH,):
        if len(shape) == 3:
            template: Template = (axis_atoms(N, BATCH), axis_atoms(H, shape[1]), channels(shape[2]))
        elif len(shape) == 4:
            template = map_dims((shape[1], shape[2], shape[3]))
        else:
            template = (axis_atoms(N, BATCH), *[channels(size) for size in shape[1:]])
    elif shape and shape[0] % BATCH == 0:
        first = (*axis_atoms(N, BATCH), *channels(shape[0] // BATCH))
        template = (first, *[channels(size) for size in shape[1:]])
    else:
        template = [channels(size) for size in shape]
    return _numbered(template)
