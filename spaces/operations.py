"""Defines the operations of layers: one frozen, torch-free value class per kind.

Shapes are ``(channels, height, width)`` of one sample. Every operation reports its output shape,
parameters, multiply-accumulates and window, so analyses need no case distinctions. A new kind of
layer is one class here and one entry in `trainables.layers`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from spaces.operation_base import (
    CollapsedMapError,
    Operation,
    Pair,
    Shape,
    Window,
    check_values,
    pair,
    same_padding,
    set_values,
    slide,
)
from spaces.rearranging import (
    FILLS,
    MEASURED,
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
    POOLING_MODES,
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
    "MEASURED",
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
    """A two-dimensional convolution with ``features`` output channels.

    Args:
        features: number of output channels.
        kernel: size, as one number or as (height, width); so are stride, padding and dilation.
        stride: of the kernel.
        padding: zeros around the map; None keeps the size of the map at stride 1.
        dilation: of the kernel.
        groups: of channels.
        bias: whether each feature has one.

    Example:
        >>> Convolution(16, 5, stride=2).padding
        (2, 2)
    """

    kind: ClassVar[str] = "convolution"
    keeps_input: ClassVar[bool] = True

    features: int
    kernel: Pair
    stride: Pair
    padding: Pair
    dilation: Pair
    groups: int
    bias: bool

    def __init__(
        self,
        features: int,
        kernel: int | Pair = 3,
        stride: int | Pair = 1,
        padding: int | Pair | None = None,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        set_values(
            self,
            features=features,
            kernel=pair(kernel),
            stride=pair(stride),
            padding=same_padding(kernel, dilation) if padding is None else pair(padding),
            dilation=pair(dilation),
            groups=groups,
            bias=bias,
        )

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
    """Max, average or blur pooling with a sliding window.

    Args:
        mode: ``max``, ``average``, or ``blur``: an average with binomial weights, which keeps
            shifts of the image visible (Zhang 2019, arXiv 1904.11486).
        kernel: size, as one number or as (height, width); so are stride and padding.
        stride: of the window; None: the kernel, so that windows are adjacent.
        padding: around the map.
        ceil: also pool a last, partial window.

    Example:
        >>> Pooling("average", 3).stride
        (3, 3)
    """

    kind: ClassVar[str] = "pooling"
    keeps_input: ClassVar[bool] = True
    names: ClassVar[Mapping[str, Sequence[str]]] = {"mode": (*POOLING_MODES, "blur")}

    mode: str
    kernel: Pair
    stride: Pair
    padding: Pair
    ceil: bool

    def __init__(
        self,
        mode: str = "max",
        kernel: int | Pair = 2,
        stride: int | Pair | None = None,
        padding: int | Pair = 0,
        ceil: bool = False,
    ) -> None:
        set_values(
            self,
            mode=mode,
            kernel=pair(kernel),
            stride=pair(kernel if stride is None else stride),
            padding=pair(padding),
            ceil=ceil,
        )
        if ceil and mode == "blur":
            raise ValueError("ceil of pooling cannot be True; blur pooling has full windows only")

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return the weights times output values of a blur; others multiply nothing."""
        if self.mode != "blur":
            return 0
        return self.kernel[0] * self.kernel[1] * output[0] * output[1] * output[2]

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
    names: ClassVar[Mapping[str, Sequence[str]]] = {"mode": POOLING_MODES}

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
    names: ClassVar[Mapping[str, Sequence[str]]] = {"norm": NORMS + OTHER_NORMS}
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
    names: ClassVar[Mapping[str, Sequence[str]]] = {"function": ACTIVATIONS + OTHER_ACTIVATIONS}

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
    names: ClassVar[Mapping[str, Sequence[str]]] = {"mode": POOLING_MODES}

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
