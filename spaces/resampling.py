"""Operations that resample a map: transposed convolution, upsampling, adaptive pooling.

Their windows are fractions of input pixels. If ``b`` output pixels span ``a`` input pixels (in
lowest terms), the stride is ``a / b``. The kernel is chosen so that ``ceil(kernel)`` is the largest
number of input pixels that an output pixel depends on.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar

from spaces.operation_base import (
    CollapsedMapError,
    Operation,
    Pair,
    Shape,
    Window,
    pair,
    set_values,
)

POOLING_MODES = ("max", "average")
INTERPOLATIONS = ("nearest", "bilinear", "bicubic")


def _window(kernel: Fraction, stride: Fraction) -> Window:
    """Return whole numbers as int, because analyses of integers are faster."""
    if kernel.denominator == stride.denominator == 1:
        return kernel.numerator, stride.numerator
    return kernel, stride


def _interpolated(interpolation: str, stride: Fraction, align_corners: bool = False) -> Window:
    """Return the window of an interpolation.

    An output pixel that falls exactly on an input pixel depends on that pixel alone. With stride
    ``a / b`` in lowest terms this happens if a and b are odd (pixel centres coincide) or if the
    corners are aligned.
    """
    if interpolation == "nearest":
        return _window(Fraction(1), stride)
    steps = stride.denominator
    meets = align_corners or (stride.numerator * steps) % 2 == 1
    if meets and steps == 1:
        return _window(Fraction(1), stride)
    between = Fraction(steps - 1, steps) if meets else Fraction(1)
    around = 2 if interpolation == "bicubic" else 0
    return _window(1 + around + between, stride)


@dataclass(frozen=True, slots=True)
class TransposedConvolution(Operation):
    """A transposed convolution: stride s enlarges the map s times."""

    kind: ClassVar[str] = "transposed_convolution"
    keeps_input: ClassVar[bool] = True

    features: int
    kernel: Pair
    stride: Pair
    padding: Pair
    output_padding: Pair
    dilation: Pair
    groups: int
    bias: bool

    def __init__(
        self,
        features: int,
        kernel: int | Pair = 2,
        stride: int | Pair = 2,
        padding: int | Pair = 0,
        output_padding: int | Pair = 0,
        dilation: int | Pair = 1,
        groups: int = 1,
        bias: bool = False,
    ) -> None:
        set_values(
            self,
            features=features,
            kernel=pair(kernel),
            stride=pair(stride),
            padding=pair(padding),
            output_padding=pair(output_padding),
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
        return (self.features, self._size(height, 0), self._size(width, 1))

    def _size(self, size: int, axis: int) -> int:
        spread = (size - 1) * self.stride[axis] + self._extent(axis)
        wide = spread - 2 * self.padding[axis] + self.output_padding[axis]
        if wide < 1:
            raise CollapsedMapError(f"a padding of {self.padding[axis]} leaves nothing of {spread}")
        return wide

    def _extent(self, axis: int) -> int:
        return (self.kernel[axis] - 1) * self.dilation[axis] + 1

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return weights plus biases."""
        return self._weights(inputs) + (self.features if self.bias else 0)

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return weights times input pixels."""
        return self._weights(inputs) * inputs[0][1] * inputs[0][2]

    def _weights(self, inputs: tuple[Shape, ...]) -> int:
        return inputs[0][0] * (self.features // self.groups) * self.kernel[0] * self.kernel[1]

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return kernel / stride and 1 / stride, in input pixels.

        A kernel below one input pixel means that some output pixels depend on no input.
        """
        return (
            _window(Fraction(self._extent(0), self.stride[0]), Fraction(1, self.stride[0])),
            _window(Fraction(self._extent(1), self.stride[1]), Fraction(1, self.stride[1])),
        )


@dataclass(frozen=True, slots=True)
class Upsampling(Operation):
    """Interpolation by an integer factor."""

    kind: ClassVar[str] = "upsampling"
    names: ClassVar[Mapping[str, Sequence[str]]] = {"interpolation": INTERPOLATIONS}

    factor: Pair
    interpolation: str

    def __init__(self, factor: int | Pair = 2, interpolation: str = "nearest") -> None:
        set_values(self, factor=pair(factor), interpolation=interpolation)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the enlarged shape."""
        channels, height, width = inputs[0]
        return (channels, height * self.factor[0], width * self.factor[1])

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the interpolated pixels and 1 / factor."""
        return (
            _interpolated(self.interpolation, Fraction(1, self.factor[0])),
            _interpolated(self.interpolation, Fraction(1, self.factor[1])),
        )


@dataclass(frozen=True, slots=True)
class Resizing(Operation):
    """Interpolation to a given size (height, width)."""

    kind: ClassVar[str] = "resizing"
    names: ClassVar[Mapping[str, Sequence[str]]] = {"interpolation": INTERPOLATIONS}

    size: Pair
    interpolation: str
    align_corners: bool

    def __init__(
        self, size: int | Pair, interpolation: str = "nearest", align_corners: bool = False
    ) -> None:
        set_values(self, size=pair(size), interpolation=interpolation, align_corners=align_corners)

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's channels at the new size."""
        return (inputs[0][0], *self.size)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the interpolated pixels and old / new size."""
        _, height, width = inputs[0]
        return self._window_along(height, self.size[0]), self._window_along(width, self.size[1])

    def _window_along(self, old: int, new: int) -> Window:
        if self.align_corners and self.interpolation != "nearest":
            # A single output pixel is the first input pixel.
            stride = Fraction(old - 1, new - 1) if new > 1 and old > 1 else Fraction(old)
            return _interpolated(self.interpolation, stride, old > 1)
        return _interpolated(self.interpolation, Fraction(old, new))


@dataclass(frozen=True, slots=True)
class AdaptivePooling(Operation):
    """Max or average pooling to a given size (height, width), with windows of varying size."""

    kind: ClassVar[str] = "adaptive_pooling"
    names: ClassVar[Mapping[str, Sequence[str]]] = {"mode": POOLING_MODES}

    size: Pair
    mode: str

    def __init__(self, size: int | Pair, mode: str = "average") -> None:
        set_values(self, size=pair(size), mode=mode)

    @property
    def keeps_input(self) -> bool:  # type: ignore[override]
        """Tell whether backpropagation needs the input: a mean's gradient does not."""
        return self.mode == "max"

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the input's channels at the new size."""
        return (inputs[0][0], *self.size)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the largest window and old / new size.

        Window i reaches from ``floor(i * old / new)`` to ``ceil((i + 1) * old / new)``.
        """
        _, height, width = inputs[0]
        return self._window_along(height, self.size[0]), self._window_along(width, self.size[1])

    @staticmethod
    def _window_along(old: int, new: int) -> Window:
        stride = Fraction(old, new)
        return _window(1 + Fraction(stride.numerator - 1, stride.denominator), stride)


@dataclass(frozen=True, slots=True)
class PixelShuffle(Operation):
    """Rearranges ``factor`` squared channels into pixels of one finer channel."""

    kind: ClassVar[str] = "pixel_shuffle"

    factor: Pair

    def __init__(self, factor: int | Pair = 2) -> None:
        set_values(self, factor=pair(factor))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the enlarged shape."""
        channels, height, width = inputs[0]
        high, wide = self.factor
        if high != wide or channels % (high * wide):
            raise ValueError(f"channels must be divisible by {high} * {wide}, but got {channels}")
        return (channels // (high * wide), height * high, width * wide)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return one pixel and 1 / factor."""
        return (
            _window(Fraction(1), Fraction(1, self.factor[0])),
            _window(Fraction(1), Fraction(1, self.factor[1])),
        )


@dataclass(frozen=True, slots=True)
class PixelUnshuffle(Operation):
    """Rearranges each block of ``factor`` squared pixels into channels of one pixel."""

    kind: ClassVar[str] = "pixel_unshuffle"

    factor: Pair

    def __init__(self, factor: int | Pair = 2) -> None:
        set_values(self, factor=pair(factor))

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the reduced shape."""
        channels, height, width = inputs[0]
        high, wide = self.factor
        if high != wide or height % high or width % wide:
            raise ValueError(f"a map must be divisible by {high}, but got {height} x {width}")
        return (channels * high * wide, height // high, width // wide)

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the block size as kernel and stride."""
        return ((self.factor[0], self.factor[0]), (self.factor[1], self.factor[1]))
