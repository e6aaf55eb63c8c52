"""Defines the operations of layers: one frozen, torch-free value class per kind.

Shapes are ``(channels, height, width)`` of one sample. Every operation reports its output shape,
parameters, multiply-accumulates and window, so analyses need no case distinctions. A new kind of
layer is one class here and one entry in `trainables.layers`.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import ClassVar

from spaces.operation_base import (
    CollapsedMapError,
    Operation,
    Pair,
    Shape,
    Window,
    pair,
    slide,
)
from spaces.rearranging import (
    FILLS,
    ChannelShuffle,
    Flatten,
    Generic,
    Padding,
    ParametricRelu,
    Product,
    Scale,
    Shift,
    Slice,
)
from spaces.resampling import (
    INTERPOLATIONS,
    AdaptivePooling,
    PixelShuffle,
    PixelUnshuffle,
    Resizing,
    TransposedConvolution,
    Upsampling,
)

__all__ = [
    "ACTIVATIONS",
    "CONVOLUTIONS",
    "FILLS",
    "INTERPOLATIONS",
    "NORMS",
    "OPERATIONS",
    "OTHER_ACTIVATIONS",
    "OTHER_NORMS",
    "POOLING_MODES",
    "Activation",
    "AdaptivePooling",
    "Add",
    "ChannelPooling",
    "ChannelShuffle",
    "CollapsedMapError",
    "Concat",
    "Convolution",
    "Dropout",
    "Flatten",
    "Gate",
    "Generic",
    "GlobalPooling",
    "Input",
    "Linear",
    "Norm",
    "Operation",
    "Padding",
    "Pair",
    "ParametricRelu",
    "PixelShuffle",
    "PixelUnshuffle",
    "Pooling",
    "Product",
    "Resizing",
    "Scale",
    "Shape",
    "Shift",
    "Slice",
    "TransposedConvolution",
    "Upsampling",
    "Window",
    "check_values",
    "pair",
]

POOLING_MODES = ("max", "average")
NORMS = ("batch", "instance", "layer", "group")
ACTIVATIONS = ("relu", "leaky_relu", "celu", "gelu", "silu", "sigmoid")
OTHER_NORMS = ("channel",)
"""Norms of users' networks only; ``channel`` normalises over the channels of each pixel."""
OTHER_ACTIVATIONS = (
    *("relu6", "elu", "selu", "mish", "softplus", "hardtanh", "hardsigmoid"),
    *("hardswish", "hardshrink", "softshrink", "tanh", "log_sigmoid"),
    *("softmax", "log_softmax", "exp", "sqrt", "square", "abs"),
)
"""Activations of users' networks only; softmax is over the channels of each pixel."""
_DERIVED_FROM_OUTPUT = frozenset(
    ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt")
)


@dataclass(frozen=True, slots=True)
class Input(Operation):
    """The image: always layer 0."""

    kind: ClassVar[str] = "input"
    arity: ClassVar[int | None] = 0

    channels: int
    height: int
    width: int

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the image."""
        return (self.channels, self.height, self.width)


@dataclass(frozen=True, slots=True)
class Convolution(Operation):
    """A two-dimensional convolution with ``features`` output channels."""

    kind: ClassVar[str] = "convolution"
    keeps_input: ClassVar[bool] = True

    features: int
    kernel: Pair = (3, 3)
    stride: Pair = (1, 1)
    padding: Pair = (1, 1)
    dilation: Pair = (1, 1)
    groups: int = 1
    bias: bool = False

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(features, height, width)``."""
        channels, height, width = inputs[0]
        if channels % self.groups or self.features % self.groups:
            raise ValueError(
                f"channels must be divisible by groups, "
                f"but got {channels} -> {self.features} with groups={self.groups}"
            )
        (kh, kw), (sh, sw), (ph, pw), (dh, dw) = (
            self.kernel,
            self.stride,
            self.padding,
            self.dilation,
        )
        return (
            self.features,
            slide(height, (kh - 1) * dh + 1, sh, ph),
            slide(width, (kw - 1) * dw + 1, sw, pw),
        )

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return weights plus biases."""
        weights = self.features * (inputs[0][0] // self.groups) * self.kernel[0] * self.kernel[1]
        return weights + self.features if self.bias else weights

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return weights times output pixels."""
        weights = self.features * (inputs[0][0] // self.groups) * self.kernel[0] * self.kernel[1]
        return weights * output[1] * output[2]

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the dilated kernel and the stride."""
        return (
            ((self.kernel[0] - 1) * self.dilation[0] + 1, self.stride[0]),
            ((self.kernel[1] - 1) * self.dilation[1] + 1, self.stride[1]),
        )


@dataclass(frozen=True, slots=True)
class Pooling(Operation):
    """Max or average pooling with a sliding window."""

    kind: ClassVar[str] = "pooling"
    keeps_input: ClassVar[bool] = True

    mode: str = "max"
    kernel: Pair = (2, 2)
    stride: Pair = (2, 2)
    padding: Pair = (0, 0)
    ceil: bool = False

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the pooled shape; the number of channels is unchanged."""
        channels, height, width = inputs[0]
        (kh, kw), (sh, sw), (ph, pw) = self.kernel, self.stride, self.padding
        return (
            channels,
            slide(height, kh, sh, ph, self.ceil),
            slide(width, kw, sw, pw, self.ceil),
        )

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return kernel and stride."""
        return ((self.kernel[0], self.stride[0]), (self.kernel[1], self.stride[1]))


@dataclass(frozen=True, slots=True)
class GlobalPooling(Operation):
    """Average or maximum over the whole feature map."""

    kind: ClassVar[str] = "global_pooling"

    mode: str = "average"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input; the gradient of a mean does not."""
        return self.mode == "max"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(channels, 1, 1)``."""
        return (inputs[0][0], 1, 1)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return a window over the whole map."""
        _, height, width = inputs[0]
        return ((height, height), (width, width))


@dataclass(frozen=True, slots=True)
class Norm(Operation):
    """Batch, instance, layer (over channels, height and width) or group normalisation.

    Statistics mix pixels; receptive fields ignore that, as published ones do.
    """

    kind: ClassVar[str] = "norm"
    keeps_input: ClassVar[bool] = True

    norm: str = "batch"
    groups: int = 1
    """Number of groups; only ``group`` uses it."""
    affine: bool = True
    """Whether each channel has a learned scale and shift."""

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input.

        Raises:
            CollapsedMapError: instance normalisation of a single pixel.
            ValueError: the channels are not divisible by the groups.
        """
        if self.norm == "instance" and inputs[0][1] * inputs[0][2] == 1:
            raise CollapsedMapError("instance normalisation needs more than one pixel")
        if self.norm == "group" and inputs[0][0] % self.groups:
            raise ValueError(
                f"channels must be divisible by groups, "
                f"but got {inputs[0][0]} with groups={self.groups}"
            )
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the number of scales and shifts."""
        return 2 * inputs[0][0] if self.affine else 0


@dataclass(frozen=True, slots=True)
class Activation(Operation):
    """An element-wise non-linearity."""

    kind: ClassVar[str] = "activation"

    function: str = "relu"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative uses the input."""
        return self.function not in _DERIVED_FROM_OUTPUT

    @property
    def keeps_output(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative uses the output."""
        return self.function in _DERIVED_FROM_OUTPUT


@dataclass(frozen=True, slots=True)
class Dropout(Operation):
    """Zeroes each value with probability ``rate`` during training."""

    kind: ClassVar[str] = "dropout"
    keeps_output: ClassVar[bool] = True

    rate: float = 0.5


@dataclass(frozen=True, slots=True)
class Add(Operation):
    """The sum of equally shaped tensors, as in residual blocks."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int | None] = None

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common shape."""
        if any(shape != inputs[0] for shape in inputs):
            raise ValueError(f"only equal shapes can be added, but got {inputs}")
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Concat(Operation):
    """Concatenation along the channels, as in dense blocks."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common height and width with all channels."""
        if any(shape[1:] != inputs[0][1:] for shape in inputs):
            raise ValueError(f"only maps of equal size can be concatenated, but got {inputs}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


@dataclass(frozen=True, slots=True)
class Gate(Operation):
    """The first input multiplied by a gate that broadcasts to it.

    Used by squeeze-and-excitation and spatial attention.
    """

    kind: ClassVar[str] = "gate"
    arity: ClassVar[int | None] = 2
    keeps_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the first input."""
        gated, gate = inputs
        if any(small not in (1, large) for large, small in zip(gated, gate, strict=True)):
            raise ValueError(f"a gate must broadcast to its input, but got {gate} for {gated}")
        return gated


@dataclass(frozen=True, slots=True)
class Linear(Operation):
    """A fully connected layer on the flattened input."""

    kind: ClassVar[str] = "linear"
    keeps_input: ClassVar[bool] = True

    features: int
    bias: bool = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(features, 1, 1)``."""
        return (self.features, 1, 1)

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return weights plus biases."""
        channels, height, width = inputs[0]
        return self.features * (channels * height * width + self.bias)

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return the number of weights."""
        channels, height, width = inputs[0]
        return self.features * channels * height * width

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return a window over the whole map."""
        _, height, width = inputs[0]
        return None if height == width == 1 else ((height, height), (width, width))


@dataclass(frozen=True, slots=True)
class ChannelPooling(Operation):
    """Average or maximum over the channels of each pixel, as in spatial attention."""

    kind: ClassVar[str] = "channel_pooling"

    mode: str = "average"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input; the gradient of a mean does not."""
        return self.mode == "max"

    @property
    def keeps_output(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation compares the output with the input."""
        return self.mode == "max"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(1, height, width)``."""
        return (1, *inputs[0][1:])


CONVOLUTIONS = (Convolution, TransposedConvolution)
"""The kinds of layers that can be a border layer."""

OPERATIONS: dict[str, type[Operation]] = {
    operation.kind: operation
    for operation in (
        Input,
        Convolution,
        Pooling,
        GlobalPooling,
        Norm,
        Activation,
        Dropout,
        Add,
        Concat,
        Gate,
        Linear,
        ChannelPooling,
        TransposedConvolution,
        Upsampling,
        Resizing,
        AdaptivePooling,
        PixelShuffle,
        PixelUnshuffle,
        Slice,
        ChannelShuffle,
        Padding,
        Flatten,
        Scale,
        Shift,
        ParametricRelu,
        Product,
        Generic,
    )
}

_NAMES = {
    "mode": POOLING_MODES,
    "norm": NORMS + OTHER_NORMS,
    "function": ACTIVATIONS + OTHER_ACTIVATIONS,
    "interpolation": INTERPOLATIONS,
    "fill": FILLS,
}
_LEAST = {"padding": 0, "output_padding": 0, "start": 0, "before": -inf, "after": -inf}
_LEAST_GENERIC = {"stride": 0, "multiplications": 0}


# Checked only when read from outside: a pydantic dataclass makes creating an operation, which
# happens by the hundred thousand in a search, about 1.6 times as slow.
def check_values(operation: Operation) -> None:
    """Check the values of an operation that was read from outside.

    Raises:
        ValueError: a value has the wrong type, is out of range or is no known name.
    """
    for field in fields(operation):
        value, least = getattr(operation, field.name), _LEAST.get(field.name, 1)
        if type(operation) is Generic:
            least = _LEAST_GENERIC.get(field.name, 1)
        match field.type:
            case "int":
                fits = type(value) is int and value >= least
            case "Pair" | "Shape":
                fits = type(value) is tuple and len(value) == (2 if field.type == "Pair" else 3)
                fits = fits and all(type(v) is int and v >= least for v in value)
            case "tuple[Shape, ...]":
                fits = type(value) is tuple and all(
                    type(shape) is tuple
                    and len(shape) == 3
                    and all(type(v) is int and v >= 1 for v in shape)
                    for shape in value
                )
            case "tuple[bool, bool]":
                fits = type(value) is tuple and [type(v) for v in value] == [bool, bool]
            case "str" if field.name == "function" and type(operation) is Generic:
                fits = type(value) is str
            case "str":
                fits = value in _NAMES[field.name]
            case "bool":
                fits = type(value) is bool
            case _:
                fits = type(value) in (int, float) and isfinite(value)
                fits = fits and (field.name != "rate" or 0 <= value <= 1)
        if not fits:
            raise ValueError(f"{field.name} of {operation.kind} cannot be {value!r}")
