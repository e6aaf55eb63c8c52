"""What a layer can do: one frozen, torch-free value class per kind of operation.

Shapes are ``(channels, height, width)`` of one sample. Every operation answers the same questions
about itself (shape, parameters, multiply-accumulates, window), so that analyses of a graph need no
case distinctions and a new kind of layer is one class here, one line in the module builder.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import ClassVar, TypeAlias

Shape: TypeAlias = tuple[int, int, int]
Pair: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[int, int]
"""Effective kernel size and stride along one axis, in pixels of the operation's input."""

POOLING_MODES = ("max", "average")
NORMS = ("batch", "instance", "layer", "group")
ACTIVATIONS = ("relu", "leaky_relu", "celu", "gelu", "silu", "sigmoid")


class CollapsedMapError(ValueError):
    """A feature map would have no pixel left."""


def pair(value: int | Pair) -> Pair:
    """Return ``(value, value)`` for a number and a pair unchanged: (height, width)."""
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Operation:
    """Base of all operations; the defaults are those of an element-wise one.

    The class attributes say which tensors backpropagation has to keep: the memory estimate in
    ``spaces.costs`` is built from them.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1
    """Number of inputs; None for any number from one on."""
    keeps_input: ClassVar[bool] = False
    keeps_output: ClassVar[bool] = False

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the output.

        Raises:
            CollapsedMapError: the output would have no pixel.
            ValueError: the inputs do not fit the operation.
        """
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the number of trainable parameters."""
        return 0

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return multiply-accumulates for one sample, as torch's flop counter counts them / 2."""
        return 0

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the sliding window per axis (height, width), None where each pixel is alone."""
        return None


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


def _slide(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
    """Return how many positions a window takes along one axis (PyTorch's formula)."""
    span = size + 2 * padding - kernel
    if ceil and -stride < span < 0:
        return 1  # The only window, a partial one.
    if span < 0:
        raise CollapsedMapError(f"a window of {kernel} does not fit into {size} + 2 * {padding}")
    positions = span // stride + 1
    # A last, partial window counts only if it starts inside the image or its left padding.
    if ceil and span % stride and positions * stride < size + padding:
        positions += 1
    return positions


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
            _slide(height, (kh - 1) * dh + 1, sh, ph),
            _slide(width, (kw - 1) * dw + 1, sw, pw),
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
            _slide(height, kh, sh, ph, self.ceil),
            _slide(width, kw, sw, pw, self.ceil),
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
    """Batch, instance, layer (over channels, height, width: one group) or group normalisation."""

    kind: ClassVar[str] = "norm"
    keeps_input: ClassVar[bool] = True

    norm: str = "batch"
    groups: int = 1
    """Number of groups of ``group``; the other norms ignore it."""

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input."""
        if self.norm == "group" and inputs[0][0] % self.groups:
            raise ValueError(
                f"channels must be divisible by groups, "
                f"but got {inputs[0][0]} with groups={self.groups}"
            )
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return gamma and beta of every channel."""
        return 2 * inputs[0][0]


@dataclass(frozen=True, slots=True)
class Activation(Operation):
    """An element-wise non-linearity."""

    kind: ClassVar[str] = "activation"

    function: str = "relu"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative is calculated from the input."""
        return self.function not in ("relu", "sigmoid")

    @property
    def keeps_output(self) -> bool:  # type: ignore[override]
        """Tell whether the derivative is calculated from the output."""
        return self.function in ("relu", "sigmoid")


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
    )
}

_NAMES = {"mode": POOLING_MODES, "norm": NORMS, "function": ACTIVATIONS}


def check_values(operation: Operation) -> None:
    """Refuse values that no layer can have, in an operation that was read from outside.

    Raises:
        ValueError: a value has the wrong type, is out of range or is no known name.
    """
    for field in fields(operation):
        value, least = getattr(operation, field.name), int(field.name != "padding")
        match field.type:
            case "int":
                fits = type(value) is int and value >= least
            case "Pair":
                fits = type(value) is tuple and len(value) == 2
                fits = fits and all(type(v) is int and v >= least for v in value)
            case "str":
                fits = value in _NAMES[field.name]
            case "bool":
                fits = type(value) is bool
            case _:
                fits = type(value) in (int, float) and 0 <= value <= 1
        if not fits:
            raise ValueError(f"{field.name} of {operation.kind} cannot be {value!r}")
