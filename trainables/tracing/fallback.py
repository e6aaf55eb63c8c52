"""Rules for operations that no handler expresses: they keep what is known of their reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from typing import Any

from torch import Tag

from spaces.operations import Gate, Product
from trainables.tracing.calls import Call, Constant, Parts, Results, Value, tensor
from trainables.tracing.counting import RECURRENT
from trainables.tracing.elementwise import ordered_product
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import HANDLERS, RULES, rule
from trainables.tracing.layout import Atom, C, Map, N, UnsupportedError, axis_atoms
from trainables.tracing.reach import add, mixing, opaque, pixelwise, reduction
from trainables.tracing.templates import KEPT, Reach, Template, broadcast, channels

_NORMS = (
    *("batch_norm", "instance_norm", "group_norm", "layer_norm", "rms_norm", "native_layer_norm"),
    *("native_group_norm", "local_response_norm"),
)
_ELEMENTWISE = (
    *("dropout", "feature_dropout", "alpha_dropout", "native_dropout", "prelu", "glu_jvp"),
    *("to", "_to_copy", "contiguous", "clone", "type_as", "fill", "masked_fill", "copy"),
    *("nan_to_num", "where", "clamp", "addcmul", "addcdiv", "lerp", "hardtanh", "rrelu", "celu"),
    *("float_power", "softplus", "silu", "mish", "logit", "square", "bernoulli", "detach"),
)
"""Pixel-wise operations without torch's tag. Statistics of norms do not count as mixing."""
_QUANTISATION = ("fake_quantize", "_fake_quantize", "fused_moving_avg", "_fused_moving_avg")
"""Prefixes of the pixel-wise operations of training with simulated integers."""
_SEQUENCES = ("softmax", "log_softmax", "cumsum", "cumprod", "logcumsumexp", "sort", "argsort")


def fall_back(graph: Graph, call: Call, tags: Iterable[object]) -> Value:
    """Add a layer for an operation by a rule for its kind.

    Args:
        graph: takes the layer.
        call: the operation.
        tags: torch's tags of it.

    Raises:
        UnsupportedError: no rule fits.
    """
    if call.operation in RULES:
        return RULES[call.operation](graph, call)
    values = list(flat(call.arguments.values()))
    if Tag.reduction in tags:
        return _several(call, _reduced(graph, call))
    if (
        Tag.pointwise in tags
        or call.operation in (*_NORMS, *_ELEMENTWISE)
        or call.operation.startswith(_QUANTISATION)
    ):
        return _several(call, pixelwise(graph, _first_result(call), values))
    if call.operation in _SEQUENCES:
        x, dim = _bare(call.taken), call["dim"]
        return _several(call, mixing(graph, call, x, [dim], bounded=True))
    if call.operation.startswith("fft_"):
        return _fourier(graph, call)
    raise UnsupportedError("is not supported")


def flat(values: Iterable[Any]) -> Iterator[Any]:
    """Yield the items of nested lists."""
    for value in values:
        if isinstance(value, list):
            yield from flat(value)
        else:
            yield value


def _several(call: Call, value: Map) -> Value:
    """Return a value as often as the operation has results of this shape."""
    return value if call.shape is not None else Results((value,) * len(call.shapes))


def _first_result(call: Call) -> Call:
    if call.shape is not None:
        return call
    return Call(
        call.operation, call.arguments, call.shapes[0], call.shapes, call.name, call.count_macs
    )


def _bare(value: object) -> Map:
    x = tensor(value)
    if x.expanded is not None:
        raise UnsupportedError("takes a tensor that was expanded")
    return x


def _reduced(graph: Graph, call: Call) -> Map:
    x = _bare(call.taken)
    given = call.arguments.get("dim")
    if given is None or given == []:
        given = list(range(len(x.dims)))
    dims = given if isinstance(given, list) else [given]
    return reduction(graph, call, x, dims, bool(call.arguments.get("keepdim")))


def _fourier(graph: Graph, call: Call) -> Map:
    x = _bare(call.taken)
    given = call.arguments.get("dim")
    last = 2 if call.operation.endswith("2") else len(x.dims)
    dims = list(range(len(x.dims)))[-last:] if given is None else given
    dims = dims if isinstance(dims, list) else [dims]
    return mixing(graph, call, x, dims, bounded=False)


@rule("mul", "div")
def _product(graph: Graph, call: Call) -> Value:
    """A product with a smaller tensor is gated by it."""
    one, other = call.taken, call["other"]
    if not (isinstance(one, Map) and isinstance(other, Map)):
        return pixelwise(graph, call, [one, other])
    one, other = Map(one.layer, one.dims), Map(other.layer, other.dims)
    if call.operation == "mul":
        one, other = ordered_product(graph, one, other)
    sizes = call.result_shape
    template = broadcast([one.dims, other.dims], sizes)
    if one.sizes != sizes:
        return pixelwise(graph, call, [one, other])
    gated = _placed(graph, call, one, template, ".gated")
    if other.sizes == sizes:
        equal = _placed(graph, call, other, template, ".other")
        layer = graph.layer(Product(), gated.layer, equal.layer, name=call.name)
        return Map(layer, gated.dims)
    own = {atom for dim in other.dims for atom in dim}
    small = [[atom for atom in dim if atom.axis in (N, C) or atom in own] for dim in template]
    gate = add(graph, call, [other], small, suffix=".gate")
    layer = graph.layer(Gate(), gated.layer, gate.layer, name=call.name)
    return Map(layer, gated.dims)


def _aligned(x: Map, rank: int) -> list[tuple[Atom, ...]]:
    return [*[()] * (rank - len(x.dims)), *x.dims]


def _placed(graph: Graph, call: Call, x: Map, template: Template, suffix: str) -> Map:
    """Return a tensor as a layer whose axes are in the order of a template."""
    if x.dims == tuple(tuple(dim) for dim in template) and _is_ordered(x):
        return x
    return add(graph, call, [x], template, suffix=suffix)


def _is_ordered(x: Map) -> bool:
    strides = [atom.stride for dim in x.dims for atom in dim if atom.axis == C]
    return strides == sorted(strides, reverse=True)


@rule(*RECURRENT)
def _recurrent(graph: Graph, call: Call) -> Value:
    """Trace a recurrent network: it mixes all positions of its sequence."""
    x, batch_first = _bare(call.taken), call["batch_first"]
    if len(x.dims) != 3 or any(atom.axis != C for atom in x.dims[2]):
        raise UnsupportedError("takes positions as features")
    dim = 1 if batch_first else 0
    reach: dict[int, Reach] = {}
    for axis in {atom.axis for atom in x.dims[dim]} - {C}:
        whole = graph.axis(x, dim) == axis
        reach[axis] = Reach(graph.shapes[x.layer][axis - 1], 0, unbounded=True) if whole else KEPT
    template = [*x.dims[:2], channels(call.shapes[0][2])]
    weights, macs = list(flat(call.arguments.values())), call.count_macs()
    output = add(graph, call, [x], template, reach, weights=weights, macs=macs)
    free = replace(call, count_macs=lambda: 0)
    states = [opaque(graph, free, shape, [output]) for shape in call.shapes[1:]]
    return Results((output, *states))


@rule("conv1d", "conv2d", "conv3d")
def _convolution(graph: Graph, call: Call) -> Value:
    """Trace a convolution that runs over channels or in another order of axes."""
    weight, x = call["weight"], _bare(call.taken)
    if not isinstance(weight, Constant):
        raise UnsupportedError("has weights that are calculated from the image")
    if any(atom.axis != C for atom in x.dims[1]):
        raise UnsupportedError("takes positions as channels")
    sizes, template, reach = call.result_shape, [x.dims[0], channels(weight.shape[0])], {}
    for place, dim in enumerate(x.dims[2:]):
        kernel, stride, dilation = weight.shape[2 + place], *_at(call, place)
        size = sizes[2 + place]
        axis = graph.axis(x, 2 + place)
        if all(atom.axis == C for atom in dim):
            template.append(channels(size))
        elif axis is not None and axis != C:
            template.append(axis_atoms(axis, size))
            reach[axis] = Reach((kernel - 1) * dilation + 1, stride)
        elif (kernel, stride) == (1, 1) and size == x.sizes[2 + place]:
            template.append(dim)
        else:
            raise UnsupportedError("slides over a part of an axis")
    weights, macs = (weight, call["bias"]), call.count_macs()
    return add(graph, call, [x], template, reach, weights=weights, macs=macs)


def _at(call: Call, place: int) -> tuple[int, int]:
    stride, dilation = (
        value[min(place, len(value) - 1)] if isinstance(value, list) else value
        for value in (call["stride"], call["dilation"])
    )
    return stride, dilation


# Parts and joins


@rule("cat", "concat", "concatenate")
def _joined(graph: Graph, call: Call) -> Value:
    values, sizes = call["tensors"], call.result_shape
    dim = call["dim"] % len(sizes)
    maps = [_bare(v) for v in values if isinstance(v, Map)]
    axis = {graph.axis(x, dim) for x in maps}
    alone = [(*x.dims[:dim], (), *x.dims[dim + 1 :]) for x in maps]
    if any(len(x) != len(sizes) for x in alone):
        raise UnsupportedError("joins tensors of different rank")
    template = broadcast(alone, [1 if d == dim else size for d, size in enumerate(sizes)])
    reach: dict[int, Reach] = {}
    if all(atom.axis == C for x in maps for atom in x.dims[dim]):
        template[dim] = channels(sizes[dim])
    elif len(axis) == 1 and (only := axis.pop()) is not None:
        template[dim] = axis_atoms(only, sizes[dim])
        reach[only] = KEPT
    else:
        raise UnsupportedError("joins different positions")
    return add(graph, call, maps, template, reach, weights=values)


@rule("stack")
def _stacked(graph: Graph, call: Call) -> Value:
    values, sizes = call["tensors"], call.result_shape
    dim = call["dim"] % len(sizes)
    maps = [_bare(v) for v in values if isinstance(v, Map)]
    template = broadcast([x.dims for x in maps], [*sizes[:dim], *sizes[dim + 1 :]])
    template.insert(dim, channels(sizes[dim]))
    return add(graph, call, maps, template, weights=values)


@rule("unbind")
def _unbound(graph: Graph, call: Call) -> Value:
    x = _bare(call.taken)
    dim = call["dim"] % len(x.dims)
    return Parts(x, dim, tuple((i, i + 1) for i in range(x.sizes[dim])), single=True)


@rule("expand", "expand_as", "repeat", "broadcast_to", "tile")
def _repeated(graph: Graph, call: Call) -> Value:
    """Repeat along dimensions without positions."""
    x, sizes = tensor(call.taken), call.result_shape
    x = Map(x.layer, x.dims)
    for dim, size in zip(_aligned(x, len(sizes)), sizes, strict=True):
        if any(atom.axis != C for atom in dim) and Map(0, (dim,)).sizes != (size,):
            raise UnsupportedError("repeats positions")
    return add(graph, call, [x], broadcast([x.dims], sizes))


@rule("view", "reshape", "flatten", "unflatten", "permute", "transpose", "squeeze", "unsqueeze")
def _of_expanded(graph: Graph, call: Call) -> Value:
    """Make an expanded tensor whole, then move its axes."""
    x = tensor(call.taken)
    if x.expanded is None:
        raise UnsupportedError("cuts axes")
    whole = add(graph, call, [x], broadcast([x.dims], x.expanded), suffix=".expand")
    arguments = dict(call.arguments)
    arguments["self" if "self" in arguments else "input"] = whole
    again = Call(call.operation, arguments, call.shape, call.shapes, call.name, call.count_macs)
    return HANDLERS[call.operation](graph, again)


@rule("copy", "fill")
def _copied(graph: Graph, call: Call) -> Value:
    """Only the new values count."""
    source = call["src"] if "src" in call.arguments else call["value"]
    if not isinstance(source, Map):
        sources = source.sources if isinstance(source, Constant) else frozenset[str]()
        return Constant(call.result_shape, sources)
    return source if source.sizes == call.result_shape else pixelwise(graph, call, [source])


@rule("slice_scatter", "select_scatter")
def _written(graph: Graph, call: Call) -> Value:
    """Write one tensor into a part of another."""
    whole, part, sizes = call.taken, call["src"], call.result_shape
    dim = call["dim"] % len(sizes)
    maps = [_bare(v) for v in (whole, part) if isinstance(v, Map)]
    alone = [(*x.dims[:dim], (), *x.dims[dim + (len(x.dims) == len(sizes)) :]) for x in maps]
    template = broadcast(alone, [1 if d == dim else size for d, size in enumerate(sizes)])
    wide = [x for x in maps if len(x.dims) == len(sizes)]
    axis = {graph.axis(x, dim) for x in wide}
    reach: dict[int, Reach] = {}
    if all(atom.axis == C for x in wide for atom in x.dims[dim]):
        template[dim] = channels(sizes[dim])
    elif len(axis) == 1 and (only := axis.pop()) is not None:
        template[dim] = axis_atoms(only, sizes[dim])
        reach[only] = KEPT
    else:
        raise UnsupportedError("writes to other positions")
    return add(graph, call, maps, template, reach, weights=[whole, part])


@rule("flip", "roll")
def _moved(graph: Graph, call: Call) -> Value:
    """Move positions along an axis: neighbours stay neighbours, except at the ends."""
    x = _bare(call.taken)
    dims = call["dims"] if isinstance(call["dims"], list) else [call["dims"]]
    if not dims:
        raise UnsupportedError("moves positions across rows")
    axes = {atom.axis for dim in dims for atom in x.dims[dim % len(x.dims)]} - {C}
    return add(graph, call, [x], x.dims, dict.fromkeys(axes, KEPT))


@rule("index_select", "gather", "index", "topk", "take_along_dim")
def _chosen(graph: Graph, call: Call) -> Value:
    """Choose among channels."""
    x, shape = _bare(call.taken), call.shapes[0]
    if call.operation == "index":
        places = [place for place, index in enumerate(call["indices"]) if index is not None]
    else:
        places = [call["dim"] % len(x.dims)]
    if len(places) != 1 or len(shape) != len(x.dims):
        raise UnsupportedError("chooses positions")
    (place,) = places
    graph.mixes_batch |= any(atom.axis == N for atom in x.dims[place])
    if any(atom.axis != C for atom in x.dims[place]):
        raise UnsupportedError("chooses positions")
    template = [*x.dims[:place], channels(shape[place]), *x.dims[place + 1 :]]
    values = list(flat(call.arguments.values()))
    operands = [Map(v.layer, v.dims) for v in values if isinstance(v, Map)]
    return _several(call, add(graph, call, operands, template, weights=values))


@rule("im2col")
def _unfolded(graph: Graph, call: Call) -> Value:
    x, shape = graph.as_map(call.taken, call.name), call.result_shape
    _, height, width = graph.shapes[x.layer]
    kernel, dilation, padding, stride = (
        call[name] for name in ("kernel_size", "dilation", "padding", "stride")
    )
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    counts = [
        (size + 2 * p - extent) // s + 1
        for size, p, extent, s in zip((height, width), padding, extents, stride, strict=True)
    ]
    positions = (*axis_atoms(2, counts[0]), *axis_atoms(3, counts[1]))
    template = [x.dims[0], channels(shape[1]), positions]
    reach = {axis: Reach(extents[axis - 2], stride[axis - 2]) for axis in (2, 3)}
    return add(graph, call, [x], template, reach)


@rule("unfold")
def _windows(graph: Graph, call: Call) -> Value:
    x = _bare(call.taken)
    dim = call["dimension"] % len(x.dims)
    axis, shape = graph.axis(x, dim), call.result_shape
    if axis in (None, C):
        raise UnsupportedError("cuts windows of something else than rows and columns")
    assert axis is not None  # noqa: S101 - for the type checker
    template = [
        *x.dims[:dim],
        axis_atoms(axis, shape[dim]),
        *x.dims[dim + 1 :],
        channels(call["size"]),
    ]
    return add(graph, call, [x], template, {axis: Reach(call["size"], call["step"])})
