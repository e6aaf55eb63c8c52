"""What every operation answers about itself, and how windows slide."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, TypeAlias

Shape: TypeAlias = tuple[int, int, int]
Pair: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[int, int] | tuple[Fraction, Fraction]
"""Effective kernel size and stride along one axis, in pixels of the operation's input.

Fractions where a map is resampled: an output pixel of a transposed convolution with stride 2 and
kernel 4 takes two input pixels, and the next one starts half a pixel on.
"""


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


def slide(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
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
