"""Operations of users' networks: those that move, cut or scale values, and the generic one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar

from spaces.operation_base import CollapsedMapError, Operation, Pair, Shape, Window

MEASURED = "measured"
"""Function of generic layers whose reach was measured by running the network."""
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
    names: ClassVar[Mapping[str, Sequence[str]]] = {"fill": FILLS}

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


@dataclass(frozen=True, slots=True)
class Generic(Operation):
    """An operation of a user's network that is known only by its reach.

    The smallest field of its output follows from kernel and stride. A stride of 0 means that
    neighbouring pixels have the same field. Where the reach is unbounded, kernel and stride are a
    lower bound, and the largest field is unknown: it may be the whole image.

    Attributes:
        function: its name in torch, such as ``matmul``.
        taken: shapes of the inputs for which the other values hold.
        shape: of the output.
        kernel: window (height, width) in pixels of the inputs.
        stride: of this window; 0 if all its positions are the same.
        unbounded: whether it may reach further than the window, per axis.
        multiplications: multiply-accumulates per sample.
    """

    kind: ClassVar[str] = "generic"
    least: ClassVar[Mapping[str, float]] = {"stride": 0, "multiplications": 0}
    arity: ClassVar[int | None] = None
    keeps_input: ClassVar[bool] = True

    function: str
    taken: tuple[Shape, ...]
    shape: Shape
    kernel: Pair = (1, 1)
    stride: Pair = (1, 1)
    unbounded: tuple[bool, bool] = (False, False)
    multiplications: int = 0

    @property
    def is_pixelwise(self) -> bool:
        """Tell whether every output pixel depends only on the same pixel of the inputs."""
        return self.kernel == self.stride == (1, 1) and not any(self.unbounded)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the output.

        Raises:
            ValueError: the shape for these inputs is unknown: they differ from the traced ones,
                and the operation is not pixel-wise.
        """
        if inputs == self.taken:
            return self.shape
        channels = [shape[0] for shape in inputs]
        if not self.is_pixelwise or channels != [shape[0] for shape in self.taken]:
            raise ValueError(
                f"{self.function} was traced with inputs of {self.taken}, but got {inputs}"
            )
        return (self.shape[0], self._size(inputs, 1), self._size(inputs, 2))

    def _size(self, inputs: tuple[Shape, ...], axis: int) -> int:
        traced = self.shape[axis]
        sizes = {
            now[axis]
            for now, before in zip(inputs, self.taken, strict=True)
            if before[axis] == traced
        }
        others = any(
            now[axis] != before[axis]
            for now, before in zip(inputs, self.taken, strict=True)
            if before[axis] != traced
        )
        if len(sizes) != 1 or others:
            raise ValueError(f"{self.function} takes maps of equal size, but got {inputs}")
        return sizes.pop()

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return the traced multiply-accumulates, scaled by the number of pixels."""
        pixels, traced = output[1] * output[2], self.shape[1] * self.shape[2]
        return self.multiplications * pixels // traced

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return kernel and stride; None for a pixel-wise operation."""
        if self.kernel == self.stride == (1, 1):
            return None
        return ((self.kernel[0], self.stride[0]), (self.kernel[1], self.stride[1]))
