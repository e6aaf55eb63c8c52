"""Builds the ``torch.nn.Module`` of one operation."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, singledispatch
from math import comb

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from spaces.operations import (
    Activation,
    AdaptivePooling,
    Add,
    ChannelPooling,
    ChannelShuffle,
    Concat,
    Convolution,
    Dropout,
    Flatten,
    Gate,
    GlobalPooling,
    Linear,
    Norm,
    Operation,
    Padding,
    ParametricRelu,
    PixelShuffle,
    PixelUnshuffle,
    Pooling,
    Product,
    Resizing,
    Scale,
    Shape,
    Shift,
    Slice,
    TransposedConvolution,
    Upsampling,
)


class _Sum(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        total = values[0]
        for value in values[1:]:
            total = total + value
        return total


class _Concatenation(nn.Module):
    def forward(self, *values: Tensor) -> Tensor:
        return torch.cat(values, dim=1)


class _Product(nn.Module):
    def forward(self, gated: Tensor, gate: Tensor) -> Tensor:
        return gated * gate


class _ChannelsLastGradient(torch.autograd.Function):
    """An identity whose gradient is in the channels-last layout.

    Torch returns the gradient of some operations in the contiguous layout. Every elementwise
    operation before them would then combine two layouts, which is up to 30 times slower.
    """

    @staticmethod
    def forward(ctx: object, values: Tensor) -> Tensor:
        return values.view_as(values)

    @staticmethod
    def backward(ctx: object, gradient: Tensor) -> Tensor:
        return gradient.contiguous(memory_format=torch.channels_last)


def _keeping_layout(values: Tensor) -> Tensor:
    """Return the values; their gradient gets their layout if they are channels-last."""
    if values.requires_grad and values.is_contiguous(memory_format=torch.channels_last):
        kept: Tensor = _ChannelsLastGradient.apply(values)
        return kept
    return values


class _GlobalAverage(nn.Module):
    """Mean over all pixels. A mean over adjacent rows has a gradient in their layout."""

    def forward(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1).flatten(1, 2).mean(1)[:, :, None, None]


class _ChannelAverage(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.permute(0, 2, 3, 1).mean(3)[:, None]


class _ChannelMaximum(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.amax(dim=1, keepdim=True)


class _Classifier(nn.Linear):
    """A linear layer whose output is a single pixel, as in the graph."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.Linear
        return super().forward(_keeping_layout(input).flatten(1))[:, :, None, None]


class _BatchNorm(nn.BatchNorm2d):
    """Batch norm that does not count its batches, which saves a kernel per step.

    The count matters only without momentum. It stays in the state, so that any ``nn.BatchNorm2d``
    can load it.
    """

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.BatchNorm2d
        return F.batch_norm(
            input,
            self.running_mean,
            self.running_var,
            self.weight,
            self.bias,
            self.training,
            self.momentum,  # type: ignore[arg-type]  # Always a number here.
            self.eps,
        )


class _ChannelNorm(nn.LayerNorm):
    """Layer norm over the channels of each pixel, as in ConvNeXt."""

    def forward(self, input: Tensor) -> Tensor:  # noqa: A002 - the name of nn.LayerNorm
        return super().forward(input.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class _Resized(nn.Module):
    def __init__(self, size: tuple[int, int], mode: str, align_corners: bool | None) -> None:
        super().__init__()
        self._size, self._mode, self._align_corners = size, mode, align_corners

    def forward(self, values: Tensor) -> Tensor:
        return F.interpolate(values, self._size, None, self._mode, self._align_corners)


class _Slice(nn.Module):
    def __init__(self, start: int, stop: int) -> None:
        super().__init__()
        self._start, self._stop = start, stop

    def forward(self, values: Tensor) -> Tensor:
        return _keeping_layout(values)[:, self._start : self._stop]


class _Padded(nn.Module):
    def __init__(self, amounts: list[int], fill: str) -> None:
        super().__init__()
        self._amounts, self._fill = amounts, fill

    def forward(self, values: Tensor) -> Tensor:
        return F.pad(values, self._amounts, self._fill)


class _Flattened(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return _keeping_layout(values).flatten(1)[:, :, None, None]


class _Constant(nn.Module):
    """A number, constant tensor or parameter that is combined with the input."""

    def __init__(self, operation: Scale | Shift) -> None:
        super().__init__()
        self.value: Tensor | float = operation.value
        if operation.learned:
            self.value = nn.Parameter(torch.full(operation.shape, operation.value))
        elif operation.shape != (1, 1, 1):
            del self.value
            self.register_buffer("value", torch.full(operation.shape, operation.value))


class _Scaled(_Constant):
    def forward(self, values: Tensor) -> Tensor:
        return values * self.value


class _Shifted(_Constant):
    def forward(self, values: Tensor) -> Tensor:
        return values + self.value


class _Power(nn.Module):
    def __init__(self, exponent: float) -> None:
        super().__init__()
        self._exponent = exponent

    def forward(self, values: Tensor) -> Tensor:
        return values**self._exponent


class _Exponential(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.exp()


class _Magnitude(nn.Module):
    def forward(self, values: Tensor) -> Tensor:
        return values.abs()


class _BlurPooling(nn.Module):
    """Weighted average of each channel's windows, with binomial weights."""

    def __init__(self, channels: int, operation: Pooling) -> None:
        super().__init__()
        self._stride, self._padding = operation.stride, operation.padding
        rows, columns = (
            torch.tensor([float(comb(size - 1, place)) for place in range(size)]) / 2 ** (size - 1)
            for size in operation.kernel
        )
        filters = torch.outer(rows, columns).expand(channels, 1, *operation.kernel).clone()
        # It follows from the operation, so that it is no part of the state.
        self.register_buffer("filters", filters, persistent=False)

    def forward(self, values: Tensor) -> Tensor:
        filters = self.get_buffer("filters")
        return F.conv2d(values, filters, None, self._stride, self._padding, groups=filters.shape[0])


@singledispatch
def build_layer(operation: Operation, inputs: tuple[Shape, ...]) -> nn.Module:
    """Return the module of an operation for inputs of shapes ``(c, h, w)``."""
    raise TypeError(f"no module for {operation.kind}")


@build_layer.register
def _(operation: Convolution, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.Conv2d(
        inputs[0][0],
        operation.features,
        operation.kernel,
        operation.stride,
        operation.padding,
        operation.dilation,
        operation.groups,
        operation.bias,
    )


@build_layer.register
def _(operation: Pooling, inputs: tuple[Shape, ...]) -> nn.Module:
    if operation.mode == "blur":
        return _BlurPooling(inputs[0][0], operation)
    pool = nn.MaxPool2d if operation.mode == "max" else nn.AvgPool2d
    return pool(operation.kernel, operation.stride, operation.padding, ceil_mode=operation.ceil)


@build_layer.register
def _(operation: GlobalPooling, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.AdaptiveMaxPool2d(1) if operation.mode == "max" else _GlobalAverage()


@build_layer.register
def _(operation: Norm, inputs: tuple[Shape, ...]) -> nn.Module:
    channels, affine = inputs[0][0], operation.affine
    match operation.norm:
        case "batch":
            return _BatchNorm(channels, affine=affine)
        case "instance":
            return nn.InstanceNorm2d(channels, affine=affine)
        case "layer":
            return nn.GroupNorm(1, channels, affine=affine)
        case "group":
            return nn.GroupNorm(operation.groups, channels, affine=affine)
        case "channel":
            return _ChannelNorm(channels, elementwise_affine=affine)
        case _:
            raise TypeError(f"no norm called {operation.norm}")


_ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "celu": nn.CELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "relu6": nn.ReLU6,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "mish": nn.Mish,
    "softplus": nn.Softplus,
    "hardtanh": nn.Hardtanh,
    "hardsigmoid": nn.Hardsigmoid,
    "hardswish": nn.Hardswish,
    "hardshrink": nn.Hardshrink,
    "softshrink": nn.Softshrink,
    "tanh": nn.Tanh,
    "log_sigmoid": nn.LogSigmoid,
    "softmax": partial(nn.Softmax, 1),
    "log_softmax": partial(nn.LogSoftmax, 1),
    "exp": _Exponential,
    "sqrt": partial(_Power, 0.5),
    "square": partial(_Power, 2),
    "abs": _Magnitude,
}


@build_layer.register
def _(operation: Activation, inputs: tuple[Shape, ...]) -> nn.Module:
    return _ACTIVATIONS[operation.function]()


@build_layer.register
def _(operation: Dropout, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.Dropout(operation.rate)


@build_layer.register
def _(operation: Add, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Sum()


@build_layer.register
def _(operation: Concat, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Concatenation()


@build_layer.register
def _(operation: Gate, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Product()


@build_layer.register
def _(operation: Linear, inputs: tuple[Shape, ...]) -> nn.Module:
    channels, height, width = inputs[0]
    return _Classifier(channels * height * width, operation.features, operation.bias)


@build_layer.register
def _(operation: ChannelPooling, inputs: tuple[Shape, ...]) -> nn.Module:
    return _ChannelMaximum() if operation.mode == "max" else _ChannelAverage()


@build_layer.register
def _(operation: TransposedConvolution, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.ConvTranspose2d(
        inputs[0][0],
        operation.features,
        operation.kernel,
        operation.stride,
        operation.padding,
        operation.output_padding,
        operation.groups,
        operation.bias,
        operation.dilation,
    )


@build_layer.register
def _(operation: Upsampling, inputs: tuple[Shape, ...]) -> nn.Module:
    factor = (float(operation.factor[0]), float(operation.factor[1]))
    return nn.Upsample(scale_factor=factor, mode=operation.interpolation)


@build_layer.register
def _(operation: Resizing, inputs: tuple[Shape, ...]) -> nn.Module:
    # Torch refuses align_corners for nearest-neighbour interpolation.
    aligned = None if operation.interpolation == "nearest" else operation.align_corners
    return _Resized(operation.size, operation.interpolation, aligned)


@build_layer.register
def _(operation: AdaptivePooling, inputs: tuple[Shape, ...]) -> nn.Module:
    pool = nn.AdaptiveMaxPool2d if operation.mode == "max" else nn.AdaptiveAvgPool2d
    return pool(operation.size)


@build_layer.register
def _(operation: PixelShuffle, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.PixelShuffle(operation.factor[0])


@build_layer.register
def _(operation: PixelUnshuffle, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.PixelUnshuffle(operation.factor[0])


@build_layer.register
def _(operation: Slice, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Slice(operation.start, operation.stop)


@build_layer.register
def _(operation: ChannelShuffle, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.ChannelShuffle(operation.groups)


@build_layer.register
def _(operation: Padding, inputs: tuple[Shape, ...]) -> nn.Module:
    amounts = [
        amount
        for around in zip(operation.before[::-1], operation.after[::-1], strict=True)
        for amount in around
    ]
    # Fills other than zeros apply only to rows and columns.
    return _Padded(amounts if operation.fill == "constant" else amounts[:4], operation.fill)


@build_layer.register
def _(operation: Flatten, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Flattened()


@build_layer.register
def _(operation: Scale, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Scaled(operation)


@build_layer.register
def _(operation: Shift, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Shifted(operation)


@build_layer.register
def _(operation: ParametricRelu, inputs: tuple[Shape, ...]) -> nn.Module:
    return nn.PReLU(operation.slopes)


@build_layer.register
def _(operation: Product, inputs: tuple[Shape, ...]) -> nn.Module:
    return _Product()
