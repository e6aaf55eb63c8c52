"""Handlers of sliding windows and resampling: convolution, pooling, interpolation."""

from __future__ import annotations

from spaces.operations import (
    AdaptivePooling,
    Convolution,
    Gate,
    Generic,
    GlobalPooling,
    Linear,
    Operation,
    Padding,
    Pair,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Resizing,
    Shape,
    TransposedConvolution,
    Upsampling,
)
from trainables.tracing.calls import Call, Constant, Results, Value, tensor
from trainables.tracing.graph import Graph
from trainables.tracing.handlers import handles
from trainables.tracing.layout import (
    Atom,
    C,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    batch,
    is_whole,
)
from trainables.tracing.reach import add, contraction
from trainables.tracing.templates import Reach, channels, windows


def as_pair(value: object) -> Pair:
    """Return a value as (height, width); torch also accepts one number for both."""
    values = tuple(value) if isinstance(value, (list, tuple)) else (value,)
    return (values[0], values[-1])


def _weight(call: Call, rank: int) -> Constant:
    weight = call["weight"]
    if not isinstance(weight, Constant):
        raise UnsupportedError("has weights that are calculated from the image")
    if len(weight.shape) != rank:
        raise UnsupportedError(f"has a weight of {len(weight.shape)} axes")
    return weight


@handles("conv2d")
def convolution(graph: Graph, call: Call) -> Map:
    """Trace a convolution; torch's ``same`` padding may add one more row or column at the end."""
    weight, x, groups = call["weight"], tensor(call.taken), call["groups"]
    sizes = weight.sizes if isinstance(weight, Map) else weight.shape
    if len(sizes) != 4 or len(x.dims) != 4:
        raise UnsupportedError(f"has a weight of {len(sizes)} axes")
    features = sizes[0]
    folded = _is_folded(graph, x) and groups % batch() == 0
    if folded:
        # Every image has its own kernels, which are the groups of one image.
        x = Map(x.layer, (axis_atoms(N, batch()), _channels(graph, x), *x.dims[2:]))
        features, groups = features // batch(), groups // batch()
    elif isinstance(weight, Map):
        raise UnsupportedError("has weights that are calculated from the batch")
    x = _as_map(graph, call, x)
    kernel, dilation = as_pair(sizes[2:]), as_pair(call["dilation"])
    padding = call["padding"]
    if isinstance(padding, str):
        total = [
            d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)
        ]
        padding = [amount // 2 for amount in total]
        behind = (0, total[0] % 2, total[1] % 2)
        if any(behind):
            x = graph.sliding(Padding((0, 0, 0), behind), x, f"{call.name}.pad")
    bias = call["bias"] is not None
    operation: Operation = Convolution(
        features, kernel, as_pair(call["stride"]), as_pair(padding), dilation, groups, bias
    )
    shape = graph.shapes[x.layer]
    if isinstance(weight, Constant) and not weight.sources and groups == features == shape[0] > 1:
        operation = _filter(operation, shape)
    y = graph.sliding(operation, x, call.name, (weight, call["bias"]))
    if isinstance(weight, Map):
        whole = {axis: Reach(graph.shapes[weight.layer][axis - 1]) for axis in (H, W)}
        template = [axis_atoms(N, batch()), axis_atoms(C, features)]
        gate = add(graph, call, [weight], template, whole, suffix=".weight")
        y = Map(graph.layer(Gate(), y.layer, gate.layer, name=call.name), y.dims)
    return Map(y.layer, ((), (*y.dims[0], *y.dims[1]), *y.dims[2:])) if folded else y


def _as_map(graph: Graph, call: Call, x: Map) -> Map:
    try:
        return graph.as_map(x, call.name)
    except UnsupportedError:
        if len({atom.axis for dim in x.dims[2:] for atom in dim} & {H, W}) == 2:
            raise
        return graph.as_map(x, call.name, unbounded=True)


def _channels(graph: Graph, x: Map) -> tuple[Atom, ...]:
    return axis_atoms(C, graph.shapes[x.layer][0])


def _is_folded(graph: Graph, x: Map) -> bool:
    """Tell whether the batch is part of the channels."""
    depth = graph.shapes[x.layer][0]
    return not x.dims[0] and is_whole(x.dims[1], (N, batch()), (C, depth))


def _filter(operation: Operation, shape: Shape) -> Operation:
    """Return a fixed filter of every channel, such as a blur, which is no layer that learns."""
    slides = operation.windows((shape,))
    assert slides is not None  # noqa: S101 - a convolution has windows
    (height, down), (width, across) = slides
    output = operation.output_shape((shape,))
    return Generic(
        "filter",
        (shape,),
        output,
        (int(height), int(width)),
        (int(down), int(across)),
        multiplications=operation.macs((shape,), output),
    )


@handles("conv_transpose2d")
def transposed_convolution(graph: Graph, call: Call) -> Map:
    """Trace a transposed convolution; its weight is ``[in, out / groups, h, w]``."""
    weight = _weight(call, 4)
    operation = TransposedConvolution(
        weight.shape[1] * call["groups"],
        as_pair(weight.shape[2:]),
        as_pair(call["stride"]),
        as_pair(call["padding"]),
        as_pair(call["output_padding"]),
        as_pair(call["dilation"]),
        call["groups"],
        call["bias"] is not None,
    )
    return graph.sliding(operation, call.taken, call.name, (weight, call["bias"]))


@handles("linear")
def linear(graph: Graph, call: Call) -> Map:
    """Trace a linear layer over flattened maps, or per pixel over channels as a 1x1 convolution."""
    weight, x = _weight(call, 2), tensor(call.taken)
    weights = (weight, call["bias"])
    features, bias = weight.shape[0], call["bias"] is not None
    depth, height, width = graph.shapes[x.layer]
    axes = (C, depth), (H, height), (W, width)
    one_sample = is_whole(x.dims[0], (N, batch())) and not any(x.dims[1:-1]) and x.expanded is None
    operation: Operation = Linear(features, bias)
    if one_sample and is_whole(x.dims[-1], *axes):
        layer = graph.layer(operation, x.layer, name=call.name, weights=weights)
    elif is_whole(x.dims[-1], axes[0]):
        operation = Convolution(features, (1, 1), padding=(0, 0), bias=bias)
        layer = graph.layer(operation, x.layer, name=call.name, weights=weights)
    elif axes_of(x.dims[-1]) > {C} and not any(C in axes_of(dim) for dim in x.dims[:-1]):
        lost = [atom for atom in x.dims[-1] if atom.axis != C]
        template = [*x.dims[:-1], channels(weight.shape[1])]
        x = add(
            graph, call, [x], template, windows(x, graph.shapes[x.layer], lost), suffix=".rearrange"
        )
        operation = Convolution(features, (1, 1), padding=(0, 0), bias=bias)
        layer = graph.layer(operation, x.layer, name=call.name, weights=weights)
    elif len(x.dims) == 2:
        x = graph.as_map(x, call.name)
        layer = graph.layer(operation, x.layer, name=call.name, weights=weights)
    else:
        features_in = "bcdefg"[: len(x.dims) - 1] + "i"
        operands: list[tuple[Value, str]] = [(x, features_in), (weight, "oi")]
        result = f"{features_in[:-1]}o"
        return contraction(graph, call, operands, result, weights=(call["bias"],))
    return Map(layer, (*x.dims[:-1], axis_atoms(C, features)), x.expanded)


def axes_of(dim: tuple[Atom, ...]) -> set[int]:
    """Return the axes of which a dimension holds a part."""
    return {atom.axis for atom in dim}


def _pooling(graph: Graph, call: Call, mode: str) -> Map:
    kernel = as_pair(call["kernel_size"])
    operation = Pooling(
        mode,
        kernel,
        as_pair(call["stride"] or kernel),
        as_pair(call["padding"]),
        call["ceil_mode"],
    )
    return graph.sliding(operation, call.taken, call.name)


@handles("max_pool2d", "max_pool2d_with_indices")
def max_pooling(graph: Graph, call: Call) -> Map | Results:
    """Trace max pooling; its indices cannot be used."""
    if as_pair(call["dilation"]) != (1, 1):
        raise UnsupportedError("is dilated")
    pooled = _pooling(graph, call, "max")
    return pooled if call.shape is not None else Results((pooled, pooled))


@handles("avg_pool2d")
def average_pooling(graph: Graph, call: Call) -> Map:
    """Trace average pooling; its divisor changes neither shape nor field."""
    return _pooling(graph, call, "average")


def _adaptive(graph: Graph, call: Call, mode: str) -> Map:
    size = as_pair(call["output_size"])
    operation = GlobalPooling(mode) if size == (1, 1) else AdaptivePooling(size, mode)
    return graph.sliding(operation, call.taken, call.name)


@handles("adaptive_avg_pool2d")
def adaptive_average_pooling(graph: Graph, call: Call) -> Map:
    """Trace average pooling to a size; to one pixel it is global."""
    return _adaptive(graph, call, "average")


@handles("adaptive_max_pool2d")
def adaptive_max_pooling(graph: Graph, call: Call) -> Results:
    """Trace max pooling to a size; to one pixel it is global."""
    pooled = _adaptive(graph, call, "max")
    return Results((pooled, pooled))


_INTERPOLATIONS = {
    "upsample_nearest2d": "nearest",
    "_upsample_nearest_exact2d": "nearest",
    "upsample_bilinear2d": "bilinear",
    "upsample_bicubic2d": "bicubic",
}


@handles(*_INTERPOLATIONS)
def interpolation(graph: Graph, call: Call) -> Map:
    """Trace interpolation, by a factor if one whole factor is given, else to the size."""
    x = graph.as_map(call.taken, call.name)
    mode, size = _INTERPOLATIONS[call.operation], as_pair(call.result_shape[2:])
    aligned = bool(call.arguments.get("align_corners"))
    factor = (size[0] // x.sizes[2], size[1] // x.sizes[3])
    scaled = call.arguments.get("scale_factors") is not None and not aligned
    operation: Operation = Resizing(size, mode, aligned)
    if scaled and (x.sizes[2] * factor[0], x.sizes[3] * factor[1]) == size and min(factor) > 0:
        operation = Upsampling(factor, mode)
    return graph.sliding(operation, x, call.name)


@handles("pixel_shuffle")
def pixel_shuffle(graph: Graph, call: Call) -> Map:
    """Trace pixel shuffle, which moves channels to pixels."""
    operation = PixelShuffle(as_pair(call["upscale_factor"]))
    return graph.sliding(operation, call.taken, call.name)


@handles("pixel_unshuffle")
def pixel_unshuffle(graph: Graph, call: Call) -> Map:
    """Trace pixel unshuffle, which moves pixels to channels."""
    operation = PixelUnshuffle(as_pair(call["downscale_factor"]))
    return graph.sliding(operation, call.taken, call.name)
