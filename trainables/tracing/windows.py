"""Handlers of sliding windows and resampling: convolution, pooling, interpolation."""

from __future__ import annotations

from spaces.operations import (
    AdaptivePooling,
    Convolution,
    GlobalPooling,
    Linear,
    Operation,
    Padding,
    Pair,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Resizing,
    TransposedConvolution,
    Upsampling,
)
from trainables.tracing.graph import Call, Constant, Graph, Results, tensor
from trainables.tracing.handlers import handles
from trainables.tracing.layout import (
    BATCH,
    C,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    is_whole,
)


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
    weight, x = _weight(call, 4), call.taken
    kernel, dilation = as_pair(weight.shape[2:]), as_pair(call["dilation"])
    padding = call["padding"]
    if isinstance(padding, str):
        total = [
            d * (k - 1) if padding == "same" else 0 for k, d in zip(kernel, dilation, strict=True)
        ]
        padding = [amount // 2 for amount in total]
        behind = (0, total[0] % 2, total[1] % 2)
        if any(behind):
            x = graph.sliding(Padding((0, 0, 0), behind), x, f"{call.name}.pad")
    operation = Convolution(
        weight.shape[0],
        kernel,
        as_pair(call["stride"]),
        as_pair(padding),
        dilation,
        call["groups"],
        call["bias"] is not None,
    )
    graph.take(call.name, weight, call["bias"])
    return graph.sliding(operation, x, call.name)


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
    graph.take(call.name, weight, call["bias"])
    return graph.sliding(operation, call.taken, call.name)


@handles("linear")
def linear(graph: Graph, call: Call) -> Map:
    """Trace a linear layer over flattened maps, or per pixel over channels as a 1x1 convolution."""
    weight, x = _weight(call, 2), tensor(call.taken)
    graph.take(call.name, weight, call["bias"])
    features, bias = weight.shape[0], call["bias"] is not None
    channels, height, width = graph.shapes[x.layer]
    axes = (C, channels), (H, height), (W, width)
    one_sample = is_whole(x.dims[0], (N, BATCH)) and not any(x.dims[1:-1]) and x.expanded is None
    operation: Operation = Linear(features, bias)
    if one_sample and is_whole(x.dims[-1], *axes):
        layer = graph.layer(operation, x.layer, name=call.name)
    elif is_whole(x.dims[-1], axes[0]):
        operation = Convolution(features, (1, 1), padding=(0, 0), bias=bias)
        layer = graph.layer(operation, x.layer, name=call.name)
    else:
        x = graph.as_map(x, call.name)
        if len(x.dims) != 2:
            raise UnsupportedError("takes the columns of a map as features")
        layer = graph.layer(operation, x.layer, name=call.name)
    return Map(layer, (*x.dims[:-1], axis_atoms(C, features)), x.expanded)


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
    return pooled if call.shape is not None else Results(pooled)


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
    return Results(_adaptive(graph, call, "max"))


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
