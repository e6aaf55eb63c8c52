"""Handlers that move, cut, join and reduce axes."""

from __future__ import annotations

from itertools import accumulate, pairwise

from spaces.operations import (
    AdaptivePooling,
    ChannelPooling,
    ChannelShuffle,
    Concat,
    GlobalPooling,
    Operation,
    Padding,
    Pooling,
    Scale,
)
from trainables.tracing.calls import Call, Parts, Results, Value, tensor
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import handles
from trainables.tracing.layout import (
    C,
    Dims,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    map_dims,
    regrouped,
)


def _bare(graph: Graph, call: Call, value: object) -> Map:
    """Return a tensor without expanded dimensions."""
    x = tensor(value)
    return x if x.expanded is None else graph.as_map(x, call.name)


# Order of the axes


@handles("contiguous", "clone", "alias", "detach", "lift_fresh_copy", "to", "_to_copy", "type_as")
def unchanged(graph: Graph, call: Call) -> Value:
    """Trace the identity on a map."""
    return tensor(call.taken)


@handles(
    *("view", "reshape", "_unsafe_view", "view_as", "reshape_as", "flatten", "unflatten"),
    *("squeeze", "unsqueeze", "atleast_1d", "atleast_2d"),
)
def reshape(graph: Graph, call: Call) -> Map:
    """Trace a view: the same values in the same order, in the shape of the result."""
    x = _bare(graph, call, call.taken)
    return Map(x.layer, regrouped(x.dims, call.result_shape))


@handles("permute")
def permute(graph: Graph, call: Call) -> Map:
    """Trace a permutation of the dimensions."""
    x = _bare(graph, call, call.taken)
    return Map(x.layer, tuple(x.dims[dim] for dim in call["dims"]))


@handles("transpose", "swapaxes", "swapdims")
def transpose(graph: Graph, call: Call) -> Map:
    """Trace the swap of two dimensions."""
    x = _bare(graph, call, call.taken)
    names = ("dim0", "dim1") if "dim0" in call.arguments else ("axis0", "axis1")
    one, other = (call[name] for name in names)
    dims = list(x.dims)
    dims[one], dims[other] = dims[other], dims[one]
    return Map(x.layer, tuple(dims))


@handles("movedim", "moveaxis")
def move(graph: Graph, call: Call) -> Map:
    """Trace the move of dimensions; the others keep their order."""
    x = _bare(graph, call, call.taken)
    rank = len(x.dims)
    source, target = (
        [dim % rank for dim in (given if isinstance(given, (list, tuple)) else [given])]
        for given in (call["source"], call["destination"])
    )
    others = iter([dim for dim in range(rank) if dim not in source])
    order = [source[target.index(d)] if d in target else next(others) for d in range(rank)]
    return Map(x.layer, tuple(x.dims[dim] for dim in order))


@handles("expand", "expand_as", "broadcast_to")
def expand(graph: Graph, call: Call) -> Map:
    """Trace the expansion of dimensions of size 1; broadcasting needs no layer."""
    x, sizes = tensor(call.taken), call.result_shape
    dims: Dims = ((),) * (len(sizes) - len(x.dims)) + x.dims
    return Map(x.layer, dims, None if Map(x.layer, dims).sizes == sizes else sizes)


@handles("channel_shuffle")
def shuffle(graph: Graph, call: Call) -> Map:
    """Trace a channel shuffle between groups."""
    return graph.sliding(ChannelShuffle(call["groups"]), call.taken, call.name)


# Parts and joins


@handles("chunk", "split", "split_with_sizes", "tensor_split", "unsafe_chunk", "unsafe_split")
def split(graph: Graph, call: Call) -> Parts:
    """Trace a split along one dimension."""
    x = _bare(graph, call, call.taken)
    dim = call["dim"] % len(x.dims)
    ends = [0, *accumulate(shape[dim] for shape in call.shapes)]
    return Parts(x, dim, tuple(pairwise(ends)))


@handles("getitem")
def take_part(graph: Graph, call: Call) -> Value:
    """Trace the selection of one of several results."""
    value, index = call.taken, call["index"]
    if isinstance(value, Parts):
        start, stop = value.bounds[index]
        part = graph.part(value.whole, value.dim, start, stop, call.name)
        dim = value.dim
        return Map(part.layer, part.dims[:dim] + part.dims[dim + 1 :]) if value.single else part
    if isinstance(value, Results):
        result: Value = value.items[index]
        return result
    raise UnsupportedError("takes an item of something else than several results")


@handles("slice")
def cut(graph: Graph, call: Call) -> Map:
    """Trace a slice of one dimension; a step over rows or columns becomes a strided layer."""
    x = _bare(graph, call, call.taken)
    dim, step = call["dim"] % len(x.dims), call["step"]
    size = x.sizes[dim]
    start, stop = call["start"] or 0, size if call["end"] is None else call["end"]
    start, stop = (min(max(end + size if end < 0 else end, 0), size) for end in (start, stop))
    if start >= stop:
        raise UnsupportedError("leaves nothing of a dimension")
    x = graph.part(x, dim, start, stop, call.name)
    if step == 1:
        return x
    axis = graph.axis(x, dim)
    strides = {H: (step, 1), W: (1, step)}
    if axis is None or axis not in strides:
        raise UnsupportedError("takes every so many channels")
    layer = graph.layer(Pooling("max", (1, 1), strides[axis]), x.layer, name=call.name)
    dims = list(x.dims)
    dims[dim] = axis_atoms(axis, call.result_shape[dim])
    return Map(layer, tuple(dims))


@handles("narrow")
def narrow(graph: Graph, call: Call) -> Map:
    """Trace a slice of one dimension, given by start and length."""
    x = _bare(graph, call, call.taken)
    dim = call["dim"] % len(x.dims)
    start = call["start"] % x.sizes[dim]
    return graph.part(x, dim, start, start + call["length"], call.name)


@handles("select")
def select(graph: Graph, call: Call) -> Map:
    """Trace the selection of one channel, row or column; its dimension is removed."""
    x = _bare(graph, call, call.taken)
    dim = call["dim"] % len(x.dims)
    index = call["index"] % x.sizes[dim]
    x = graph.part(x, dim, index, index + 1, call.name)
    if x.dims[dim]:
        raise UnsupportedError("takes one of a dimension that is more than one axis")
    return Map(x.layer, x.dims[:dim] + x.dims[dim + 1 :])


@handles("cat", "concat", "concatenate")
def concatenate(graph: Graph, call: Call) -> Map:
    """Trace concatenation along the channels."""
    if not all(isinstance(value, Map) for value in call["tensors"]):
        raise UnsupportedError("joins a map with a constant")
    maps = [graph.as_map(value, call.name) for value in call["tensors"]]
    if call["dim"] % len(maps[0].dims) != C:
        raise UnsupportedError("joins maps along another dimension than the channels")
    layer = graph.layer(Concat(), *[x.layer for x in maps], name=call.name)
    return Map(layer, map_dims(graph.shapes[layer], len(maps[0].dims)))


@handles("pad", "constant_pad_nd")
def pad(graph: Graph, call: Call) -> Map:
    """Trace padding of columns, rows and channels, given from the last dimension on."""
    x, amounts = _bare(graph, call, call.taken), list(call["pad"])
    before, after = [0, 0, 0], [0, 0, 0]
    dims = list(x.dims)
    for place in range(len(amounts) // 2):
        ends = amounts[2 * place : 2 * place + 2]
        dim = len(dims) - 1 - place
        if not any(ends):
            continue
        axis = graph.axis(x, dim)
        if axis is None and not x.dims[dim] and len(dims) in (2, 4) and dim > 0:
            axis = dim  # An axis of one pixel or channel.
            graph.as_map(x, call.name)
        if axis is None:
            raise UnsupportedError("pads something else than channels, rows and columns")
        before[axis - 1], after[axis - 1] = ends
        dims[dim] = axis_atoms(axis, call.result_shape[dim])
    if not any(amounts):
        return x
    fill = call.arguments.get("mode", "constant")
    operation = Padding((before[0], before[1], before[2]), (after[0], after[1], after[2]), fill)
    return Map(graph.layer(operation, x.layer, name=call.name), tuple(dims))


# Reductions


@handles("mean", "sum")
def mean(graph: Graph, call: Call) -> Map:
    """Trace an average; a sum is an average times the number of terms."""
    x = _bare(graph, call, call.taken)
    reduced = _reduce(graph, call, "average")
    if call.operation == "mean":
        return reduced
    before, after = graph.shapes[x.layer], graph.shapes[reduced.layer]
    terms = before[0] * before[1] * before[2] // (after[0] * after[1] * after[2])
    return graph.pointwise(Scale(value=float(terms)), reduced, call.name)


@handles("amax", "max")
def maximum(graph: Graph, call: Call) -> Map | Results:
    """Trace a maximum; if it also returns positions, only the values can be used."""
    reduced = _reduce(graph, call, "max")
    return reduced if call.shape is not None else Results((reduced, reduced))


def _reduce(graph: Graph, call: Call, mode: str) -> Map:
    x = _bare(graph, call, call.taken)
    given = call.arguments.get("dim")
    if isinstance(given, Map) or given is None or given == []:
        raise UnsupportedError("reduces a whole batch to one number")
    dims = {dim % len(x.dims) for dim in (given if isinstance(given, (list, tuple)) else [given])}
    atoms = [atom for dim in dims for atom in x.dims[dim]]
    axes = frozenset(atom.axis for atom in atoms)
    rest = {atom.axis for dim in set(range(len(x.dims))) - dims for atom in x.dims[dim]}
    if axes & rest or N in axes:
        raise UnsupportedError("reduces a part of an axis, or the batch")
    left = tuple(() if dim in dims else atoms for dim, atoms in enumerate(x.dims))
    if not call["keepdim"]:
        left = tuple(atoms for dim, atoms in enumerate(left) if dim not in dims)
    if not axes:
        return Map(x.layer, left)
    _, height, width = graph.shapes[x.layer]
    operations: dict[frozenset[int], Operation] = {
        frozenset({C}): ChannelPooling(mode),
        frozenset({H}): AdaptivePooling((1, width), mode),
        frozenset({W}): AdaptivePooling((height, 1), mode),
        frozenset({H, W}): GlobalPooling(mode),
    }
    # One row or column is reduced already.
    if C not in axes and (H in axes or height == 1) and (W in axes or width == 1):
        axes = frozenset({H, W})
    if axes not in operations:
        raise UnsupportedError("reduces channels and pixels at once")
    return Map(graph.layer(operations[axes], x.layer, name=call.name), left)
