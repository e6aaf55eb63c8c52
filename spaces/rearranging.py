"""Operations that move, cut or scale values without mixing pixels, for users' networks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from spaces.operation_base import CollapsedMapError, Operation, Shape, Window

FILLS = ("constant", "reflect", "replicate", "circular")


@dataclass(frozen=True, slots=True)
class Slice(Operation):
    """The channels from ``start`` to ``stop`` (exclusive)."""

    kind: ClassVar[str] = "slice"

    start: int
    stop: int

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape with the remaining channels."""
        if not 0 <= self.start < self.stop <= inputs[0][0]:
            raise ValueError(
                f"0 <= start < stop <= channels must hold, "
                f"but got {self.start}, {self.stop} of {inputs[0][0]}"
            )
        return (self.stop - self.start, *inputs[0][1:])


@dataclass(frozen=True, slots=True)
class ChannelShuffle(Operation):
    """Channel shuffle between groups (ShuffleNet, Zhang et al. 2018, arXiv 1707.01083)."""

    kind: ClassVar[str] = "channel_shuffle"

    groups: int

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input."""
        if inputs[0][0] % self.groups:
            raise ValueError(
                f"channels must be divisible by groups, "
                f"but got {inputs[0][0]} with groups={self.groups}"
            )
        return inputs[0]


@dataclass(frozen=True, slots=True)
class Padding(Operation):
    """Padding of channels, rows and columns; negative amounts crop.

    Attributes:
        before: channels, rows and columns added in front.
        after: channels, rows and columns added behind.
        fill: ``constant`` (zeros), ``reflect``, ``replicate`` or ``circular``.
    """

    kind: ClassVar[str] = "padding"

    before: Shape
    after: Shape
    fill: str = "constant"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the padded shape."""
        channels, height, width = [
            size + before + after
            for size, before, after in zip(inputs[0], self.before, self.after, strict=True)
        ]
        if min(channels, height, width) < 1:
            raise CollapsedMapError(f"nothing is left of {inputs[0]}")
        return (channels, height, width)


@dataclass(frozen=True, slots=True)
class Flatten(Operation):
    """Flattens a map into the channels of one pixel."""

    kind: ClassVar[str] = "flatten"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return ``(channels * height * width, 1, 1)``."""
        channels, height, width = inputs[0]
        return (channels * height * width, 1, 1)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return a window that covers the whole map."""
        _, height, width = inputs[0]
        return None if height == width == 1 else ((height, height), (width, width))


@dataclass(frozen=True, slots=True)
class _Constant(Operation):
    """A constant or learned tensor that broadcasts to the input.

    Attributes:
        shape: of the tensor; each entry is 1 or the input's.
        learned: whether it is trained.
        value: the value or initial value; a placeholder unless it is one number.
    """

    shape: Shape = (1, 1, 1)
    learned: bool = False
    value: float = 1.0

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input."""
        if any(small not in (1, large) for small, large in zip(self.shape, inputs[0], strict=True)):
            raise ValueError(f"a tensor of {self.shape} does not broadcast to {inputs[0]}")
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the size of the tensor if it is learned, else 0."""
        return self.shape[0] * self.shape[1] * self.shape[2] if self.learned else 0


@dataclass(frozen=True, slots=True)
class Scale(_Constant):
    """Multiplies the input by a number or tensor, such as layer scale."""

    kind: ClassVar[str] = "scale"

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input: for a learned scale only."""
        return self.learned


@dataclass(frozen=True, slots=True)
class Shift(_Constant):
    """Adds a number or tensor to the input."""

    kind: ClassVar[str] = "shift"

    value: float = 0.0


@dataclass(frozen=True, slots=True)
class ParametricRelu(Operation):
    """Leaky ReLU with one learned slope, or one per channel (He et al. 2015, arXiv 1502.01852)."""

    kind: ClassVar[str] = "parametric_relu"
    keeps_input: ClassVar[bool] = True

    slopes: int = 1

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the input."""
        if self.slopes not in (1, inputs[0][0]):
            raise ValueError(f"slopes must be 1 or {inputs[0][0]}, but got {self.slopes}")
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the number of slopes."""
        return self.slopes


@dataclass(frozen=True, slots=True)
class Product(Operation):
    """The product of two equally shaped maps."""

    kind: ClassVar[str] = "product"
    arity: ClassVar[int | None] = 2
    keeps_input: ClassVar[bool] = True

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the common shape."""
        if inputs[0] != inputs[1]:
            raise ValueError(f"only equal shapes can be multiplied, but got {inputs}")
        return inputs[0]
