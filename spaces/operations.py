"""What a layer can do: one frozen, torch-free value class per kind of operation.

Shapes are ``(channels, height, width)`` of one sample. Every operation answers the same questions
about itself (shape, parameters, multiply-accumulates, window), so that analyses of a graph need no
case distinctions and a new kind of layer is one class here, one line in the module builder.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import ClassVar

from spaces.operation import (
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
"""Norms that no family offers and users' nets have; ``channel``: over the channels of a pixel."""
OTHER_ACTIVATIONS = (
    *("relu6", "elu", "selu", "mish", "softplus", "hardtanh", "hardsigmoid"),
    *("hardswish", "hardshrink", "softshrink", "tanh", "log_sigmoid"),
    *("softmax", "log_softmax", "exp", "sqrt", "square", "abs"),
)
"""Activations that no family offers; softmax is the one over the channels of a pixel."""
_DERIVED_FROM_OUTPUT = frozenset(
    ("relu", "sigmoid", "tanh", "softmax", "log_softmax", "exp", "sqrt")
)


@dataclass(frozen=True, slots=True)
class Input(Operation):
    """The image: always and only layer 0."""

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
    """A two-dimensional convolution; ``features`` is its number of output channels."""

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
        """Return ``(channels, height, width)`` with as many channels as the input."""
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
    """Average (or maximum) over the whole feature map, down to one pixel."""

    kind: ClassVar[str] = "global_pooling"

    mode: str = "average"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input: a mean's gradient does not."""
        return self.mode == "max"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(channels, 1, 1)``."""
        return (inputs[0][0], 1, 1)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return a window that covers the whole map."""
        _, height, width = inputs[0]
        return ((height, height), (width, width))


@dataclass(frozen=True, slots=True)
class Norm(Operation):
    """Batch, instance, layer (over channels, height, width: one group) or group normalisation.

    The statistics mix pixels; receptive fields leave that aside, as the published ones do.
    """

    kind: ClassVar[str] = "norm"
    keeps_input: ClassVar[bool] = True

    norm: str = "batch"
    groups: int = 1
    """Number of groups of ``group``; the other norms ignore it."""
    affine: bool = True
    """Whether every channel has a gamma and a beta."""

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input.

        Raises:
            CollapsedMapError: instance normalisation of one pixel, which is nothing but beta.
            ValueError: the channels cannot be grouped so.
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
        """Return gamma and beta of every channel."""
        return 2 * inputs[0][0] if self.affine else 0


@dataclass(frozen=True, slots=True)
class Activation(Operation):
    """An element-wise non-linearity."""

    kind: ClassVar[str] = "activation"

    function: str = "relu"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative is calculated from the input."""
        return self.function not in _DERIVED_FROM_OUTPUT

    @property
    def keeps_output(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative is calculated from the output."""
        return self.function in _DERIVED_FROM_OUTPUT


@dataclass(frozen=True, slots=True)
class Dropout(Operation):
    """Zero each value with probability ``rate`` while training."""

    kind: ClassVar[str] = "dropout"
    keeps_output: ClassVar[bool] = True

    rate: float = 0.5


@dataclass(frozen=True, slots=True)
class Add(Operation):
    """The sum of tensors of one shape: the join of a residual block."""

    kind: ClassVar[str] = "add"
    arity: ClassVar[int | None] = None

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common shape."""
        if any(shape != inputs[0] for shape in inputs):
            raise ValueError(f"only equal shapes can be added, but got {inputs}")
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Concat(Operation):
    """Tensors side by side along the channels: the join of a dense block."""

    kind: ClassVar[str] = "concat"
    arity: ClassVar[int | None] = None

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common height and width with all channels."""
        if any(shape[1:] != inputs[0][1:] for shape in inputs):
            raise ValueError(f"only maps of equal size can be concatenated, but got {inputs}")
        return (sum(shape[0] for shape in inputs), *inputs[0][1:])


@dataclass(frozen=True, slots=True)
class Gate(Operation):
    """The first input multiplied by the second, which may be one pixel or one channel wide.

    The join of squeeze-and-excitation and of spatial attention.
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
    """A fully connected layer over the flattened input."""

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
        """Return a window that covers the whole map."""
        _, height, width = inputs[0]
        return None if height == width == 1 else ((height, height), (width, width))


@dataclass(frozen=True, slots=True)
class ChannelPooling(Operation):
    """Average or maximum over the channels of each pixel: what spatial attention looks at."""

    kind: ClassVar[str] = "channel_pooling"

    mode: str = "average"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input: a mean's gradient does not."""
        return self.mode == "max"

    @property
    def keeps_output(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the output: it is compared with the input."""
        return self.mode == "max"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(1, height, width)``."""
        return (1, *inputs[0][1:])


CONVOLUTIONS = (Convolution, TransposedConvolution)
"""The kinds of layers among which the border layer is counted."""

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


# Checked only when read from outside: a pydantic dataclass makes creating an operation, which
# happens by the hundred thousand in a search, about 1.6 times as slow.
def check_values(operation: Operation) -> None:
    """Check the values of an operation that was read from outside.

    Raises:
        ValueError: a value has the wrong type, is out of range or is no known name.
    """
    for field in fields(operation):
        value, least = getattr(operation, field.name), _LEAST.get(field.name, 1)
        match field.type:
            case "int":
                fits = type(value) is int and value >= least
            case "Pair" | "Shape":
                fits = type(value) is tuple and len(value) == (2 if field.type == "Pair" else 3)
                fits = fits and all(type(v) is int and v >= least for v in value)
            case "str":
                fits = value in _NAMES[field.name]
            case "bool":
                fits = type(value) is bool
            case _:
                fits = type(value) in (int, float) and isfinite(value)
                fits = fits and (field.name != "rate" or 0 <= value <= 1)
        if not fits:
            raise ValueError(f"{field.name} of {operation.kind} cannot be {value!r}")
