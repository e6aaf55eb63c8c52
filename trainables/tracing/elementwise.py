"""Handlers of norms, activations, dropout and arithmetic."""

from __future__ import annotations

from math import prod

from spaces.operations import (
    Activation,
    Add,
    Dropout,
    Gate,
    Norm,
    Operation,
    ParametricRelu,
    Product,
    Scale,
    Shape,
    Shift,
)
from trainables.tracing.calls import Call, Constant, Results, tensor
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import handles
from trainables.tracing.layout import C, H, Map, UnsupportedError, W, axis_atoms, is_whole, merged

SQUASHING = frozenset({"sigmoid", "hardsigmoid", "softmax", "tanh"})
"""Activations whose output, multiplied by a tensor of equal size, is a gate."""


# Norms


def _norm(
    graph: Graph, call: Call, norm: Norm, x: Map, weight: object, bias: object, shape: Shape
) -> Map:
    """Add a norm. Unless it has one gamma and one beta per channel, add them as own layers."""
    if shape[1:] == (1, 1) and weight is not None and bias is not None:
        return graph.pointwise(norm, x, call.name, (weight, bias))
    x = graph.pointwise(Norm(norm.norm, norm.groups, affine=False), x, call.name)
    if weight is not None:
        x = graph.pointwise(Scale(shape, learned=True), x, f"{call.name}.weight", (weight,))
    if bias is not None:
        x = graph.pointwise(Shift(shape, learned=True), x, f"{call.name}.bias", (bias,))
    return x


@handles("_native_batch_norm_legit_no_training")
def native_norm(graph: Graph, call: Call) -> Results:
    """Trace batch norm as torch names it after removing in-place operations."""
    x = graph.as_map(call.taken, call.name)
    weights = call["weight"], call["bias"]
    channels = graph.shapes[x.layer][0]
    return Results((_norm(graph, call, Norm("batch"), x, *weights, (channels, 1, 1)),))


@handles("batch_norm", "instance_norm", "group_norm")
def norm(graph: Graph, call: Call) -> Map:
    """Trace a norm with parameters per channel; group norm with one group is layer norm."""
    x = graph.as_map(call.taken, call.name)
    kind = call.operation.removesuffix("_norm")
    groups = call.arguments.get("num_groups", 1)
    if kind == "group" and groups == 1:
        kind = "layer"
    operation = Norm(kind, groups)
    channels = graph.shapes[x.layer][0]
    return _norm(graph, call, operation, x, call["weight"], call["bias"], (channels, 1, 1))


@handles("layer_norm")
def layer_norm(graph: Graph, call: Call) -> Map:
    """Trace layer norm over the channels of each pixel or over the whole map."""
    x = tensor(call.taken)
    shape = channels, height, width = graph.shapes[x.layer]
    trailing = len(call["normalized_shape"])
    atoms = tuple(atom for dim in x.dims[-trailing:] for atom in dim)
    if is_whole(atoms, (C, channels)):
        operation, shape = Norm("channel"), (channels, 1, 1)
    elif is_whole(atoms, (C, channels), (H, height), (W, width)):
        operation = Norm("layer")
    else:
        raise UnsupportedError("runs over neither the channels nor the whole map")
    return _norm(graph, call, operation, x, call["weight"], call["bias"], shape)


# Activations

_ACTIVATIONS = {
    "relu": "relu",
    "relu6": "relu6",
    "leaky_relu": "leaky_relu",
    "rrelu": "leaky_relu",
    "celu": "celu",
    "elu": "elu",
    "selu": "selu",
    "gelu": "gelu",
    "silu": "silu",
    "mish": "mish",
    "softplus": "softplus",
    "sigmoid": "sigmoid",
    "hardsigmoid": "hardsigmoid",
    "hardswish": "hardswish",
    "hardshrink": "hardshrink",
    "softshrink": "softshrink",
    "tanh": "tanh",
    "log_sigmoid": "log_sigmoid",
    "exp": "exp",
    "sqrt": "sqrt",
    "square": "square",
    "abs": "abs",
}


@handles(*_ACTIVATIONS)
def activation(graph: Graph, call: Call) -> Map:
    """Trace an element-wise function."""
    x = call.taken
    return graph.pointwise(Activation(_ACTIVATIONS[call.operation]), x, call.name)


@handles("hardtanh", "clamp", "clamp_min")
def clamp(graph: Graph, call: Call) -> Map:
    """Trace a clamp; some limits make it ReLU or ReLU6."""
    low = call.arguments.get("min_val", call.arguments.get("min"))
    high = call.arguments.get("max_val", call.arguments.get("max"))
    named: dict[tuple[object, object], str] = {(0, None): "relu", (0, 6): "relu6"}
    if isinstance(low, (Map, Constant)) or isinstance(high, (Map, Constant)):
        raise UnsupportedError("has tensors as limits")
    return graph.pointwise(Activation(named.get((low, high), "hardtanh")), call.taken, call.name)


@handles("pow")
def power(graph: Graph, call: Call) -> Map:
    """Trace a square or a square root."""
    named = {2: "square", 0.5: "sqrt"}
    exponent = call["exponent"]
    if not isinstance(exponent, (int, float)) or exponent not in named:
        raise UnsupportedError("is neither a square nor a square root")
    return graph.pointwise(Activation(named[exponent]), call.taken, call.name)


@handles("softmax", "log_softmax")
def softmax(graph: Graph, call: Call) -> Map:
    """Trace softmax over the channels."""
    x = tensor(call.taken)
    if not is_whole(x.dims[call["dim"]], (C, graph.shapes[x.layer][0])):
        raise UnsupportedError("runs over other dimensions than the channels")
    return graph.pointwise(Activation(call.operation), x, call.name)


@handles("prelu")
def prelu(graph: Graph, call: Call) -> Map:
    """Trace leaky ReLU with learned slopes."""
    weight = call["weight"]
    if not isinstance(weight, Constant):
        raise UnsupportedError("has slopes that are calculated from the image")
    operation = ParametricRelu(prod(weight.shape))
    return graph.pointwise(operation, call.taken, call.name, (weight,))


@handles("dropout", "feature_dropout", "alpha_dropout", "feature_alpha_dropout")
def dropout(graph: Graph, call: Call) -> Map:
    """Trace dropout of any kind with its rate."""
    return graph.pointwise(Dropout(float(call["p"])), call.taken, call.name)


# Arithmetic


@handles("add")
def add(graph: Graph, call: Call) -> Map:
    """Trace the sum of two maps, or of a map and a constant."""
    one, other = call.taken, call["other"]
    if call.arguments.get("alpha", 1) != 1:
        other = _times(graph, call, other, call["alpha"])
    return _sum(graph, call, one, other)


@handles("sub")
def subtract(graph: Graph, call: Call) -> Map:
    """Trace a difference as the sum with the negated second operand."""
    other = _times(graph, call, call["other"], -call.arguments.get("alpha", 1))
    return _sum(graph, call, call.taken, other)


@handles("rsub")
def subtract_from(graph: Graph, call: Call) -> Map:
    """Trace a difference with swapped operands."""
    one = _times(graph, call, call.taken, -call.arguments.get("alpha", 1))
    return _sum(graph, call, one, call["other"])


@handles("neg")
def negate(graph: Graph, call: Call) -> Map:
    """Trace the negation of a map."""
    return graph.pointwise(Scale(value=-1.0), call.taken, call.name)


@handles("div")
def divide(graph: Graph, call: Call) -> Map:
    """Trace the division of a map by a constant."""
    other = call["other"]
    if isinstance(other, Map) or call.arguments.get("rounding_mode") is not None:
        raise UnsupportedError("divides by something that depends on the image, or rounds")
    if isinstance(other, (int, float)):
        other = 1 / other
    return _constant(graph, call, Scale, call.taken, other)


@handles("mul")
def multiply(graph: Graph, call: Call) -> Map:
    """Trace a gate, a product of two maps, or a map times a constant."""
    one, other = call.taken, call["other"]
    if not isinstance(one, Map):
        one, other = other, one
    if not isinstance(other, Map):
        return _constant(graph, call, Scale, one, other)
    if one == other:
        return graph.pointwise(Activation("square"), one, call.name)
    gated, gate = ordered_product(graph, *_aligned(graph, call, one, other))
    full = gated.sizes == gate.sizes
    squashed = _function(graph, gate) in SQUASHING
    operation: Operation = Gate() if squashed or not full else Product()
    layer = graph.layer(operation, gated.layer, gate.layer, name=call.name)
    return Map(layer, gated.dims)


def _function(graph: Graph, x: Map) -> str:
    operation = graph.operation(x)
    return operation.function if isinstance(operation, Activation) else ""


def ordered_product(graph: Graph, one: Map, other: Map) -> tuple[Map, Map]:
    """Return the gated tensor and its gate, which is the smaller or else the squashed tensor."""
    small, large = prod(one.sizes), prod(other.sizes)
    if small == large:
        first, second = _function(graph, one), _function(graph, other)
        swap = first in SQUASHING and (second not in SQUASHING or first == "sigmoid" != second)
    else:
        swap = small < large
    return (other, one) if swap else (one, other)


def _sum(graph: Graph, call: Call, one: object, other: object) -> Map:
    if not isinstance(one, Map):
        one, other = other, one
    if not isinstance(other, Map):
        return _constant(graph, call, Shift, one, other)
    first, second = _aligned(graph, call, tensor(one), other)
    if first.dims != second.dims:
        large, small = sorted((first, second), key=lambda x: -prod(x.sizes))
        large, small = graph.as_map(large, call.name), graph.as_map(small, call.name)
        small = graph.resized(small, large.sizes[2:], f"{call.name}.expand")
        first, second = (large, small) if first.layer == large.layer else (small, large)
    layer = graph.layer(Add(), first.layer, second.layer, name=call.name)
    return Map(layer, first.dims)


def _aligned(graph: Graph, call: Call, one: Map, other: Map) -> tuple[Map, Map]:
    """Return the two tensors such that one broadcasts to the other, axis by axis.

    Raises:
        UnsupportedError: neither broadcasts, or different axes are aligned.
    """
    # Expanded tensors broadcast without their expansion.
    one, other = Map(one.layer, one.dims), Map(other.layer, other.dims)
    if not (_fits(one, other) or _fits(other, one)):
        one, other = graph.as_map(one, call.name), graph.as_map(other, call.name)
    if not (_fits(one, other) or _fits(other, one)):
        raise UnsupportedError(
            f"combines tensors of which neither broadcasts to the other: "
            f"{one.sizes[1:]} and {other.sizes[1:]}"
        )
    return one, other


def _fits(small: Map, large: Map) -> bool:
    """Tell whether each dimension of `small` equals that of `large` or has size 1."""
    if len(small.dims) != len(large.dims):
        return False
    return all(
        not part or merged(part) == merged(whole)
        for part, whole in zip(small.dims, large.dims, strict=True)
    )


def _times(graph: Graph, call: Call, value: object, factor: float) -> object:
    """Return a value times a number; of constant tensors only the shape matters."""
    if isinstance(value, Map):
        return graph.pointwise(Scale(value=float(factor)), value, f"{call.name}.scale")
    return value * factor if isinstance(value, (int, float)) else value


def _constant(
    graph: Graph, call: Call, kind: type[Scale] | type[Shift], value: object, constant: object
) -> Map:
    """Combine a map with a number, a parameter or a buffer."""
    x = tensor(value)
    if isinstance(constant, (int, float)):
        return graph.pointwise(kind(value=float(constant)), x, call.name)
    if not isinstance(constant, Constant):
        raise UnsupportedError("takes something that is neither tensor nor number")
    learned = bool(constant.sources)
    shape = _broadcast_shape(graph, x, constant.shape)
    return graph.pointwise(kind(shape, learned), x, call.name, (constant,))


def _broadcast_shape(graph: Graph, x: Map, constant: tuple[int, ...]) -> Shape:
    """Return the shape of a constant as channels, height and width, 1 where it is the same.

    Raises:
        UnsupportedError: the constant covers part of an axis, varies over the batch, or has more
            dimensions than the map.
    """
    sizes = dict(zip((C, H, W), graph.shapes[x.layer], strict=True))
    shape = {C: 1, H: 1, W: 1}
    padded = (1,) * (len(x.dims) - len(constant)) + constant
    if len(padded) != len(x.dims) or x.expanded is not None:
        raise UnsupportedError("takes a constant with more dimensions than the map")
    for size, dim in zip(padded, x.dims, strict=True):
        if size == 1:
            continue
        for axis in {atom.axis for atom in dim}:
            if axis not in shape:
                raise UnsupportedError("takes a constant that runs over the batch")
            shape[axis] = sizes[axis]
        whole = [axis_atoms(axis, shape[axis]) for axis in (C, H, W) if _holds(dim, axis)]
        if merged(dim) != merged(atom for atoms in whole for atom in atoms):
            raise UnsupportedError("takes a constant that runs over parts of a map")
    if prod(shape.values()) != prod(constant):
        raise UnsupportedError("takes a constant that does not fit the map")
    return shape[C], shape[H], shape[W]


def _holds(dim: tuple[object, ...], axis: int) -> bool:
    return any(getattr(atom, "axis", None) == axis for atom in dim)
