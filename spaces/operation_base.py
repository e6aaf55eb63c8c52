"""The interface of all operations, and the arithmetic of sliding windows."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from typing import ClassVar, TypeAlias

Shape: TypeAlias = tuple[int, int, int]
Pair: TypeAlias = tuple[int, int]
Window: TypeAlias = tuple[int, int] | tuple[Fraction, Fraction]
"""Effective kernel size and stride along one axis, in pixels of the operation's input.

Resampling operations use fractions: an output pixel of a transposed convolution with stride 2 and
kernel 4 covers two input pixels, and the next output pixel starts half an input pixel later.
"""


class CollapsedMapError(ValueError):
    """A feature map shrinks to less than one pixel."""


def pair(value: int | Pair) -> Pair:
    """Return a number as a (height, width) pair; return a pair unchanged.

    Example:
        >>> pair(3)
        (3, 3)
        >>> pair((3, 5))
        (3, 5)
    """
    return (value, value) if isinstance(value, int) else value


@dataclass(frozen=True, slots=True)
class Operation:
    """Base class of all operations; its defaults describe an element-wise operation.

    The class attributes state which tensors backpropagation keeps; `spaces.costs` estimates
    memory from them.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1
    """Number of inputs; None for one or more."""
    keeps_input: ClassVar[bool] = False
    keeps_output: ClassVar[bool] = False

    def output_shape(self, inputs: tuple[Shape, ...]) -> Shape:
        """Return the shape of the output.

        Raises:
            CollapsedMapError: the output has less than one pixel.
            ValueError: the operation does not accept the inputs.
        """
        return inputs[0]

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the number of trainable parameters."""
        return 0

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return multiply-accumulates per sample: half of what torch's FLOP counter reports."""
        return 0

    def windows(self, inputs: tuple[Shape, ...]) -> tuple[Window, Window] | None:
        """Return the sliding window per axis (height, width); None for pixel-wise operations."""
        return None


def slide(size: int, kernel: int, stride: int, padding: int, ceil: bool = False) -> int:
    """Return the number of window positions along one axis (PyTorch's formula)."""
    span = size + 2 * padding - kernel
    if ceil and -stride < span < 0:
        return 1  # A single, partial window.
    if span < 0:
        raise CollapsedMapError(f"a window of {kernel} does not fit into {size} + 2 * {padding}")
    positions = span // stride + 1
    # A last, partial window counts only if it starts inside the image or its left padding.
    if ceil and span % stride and positions * stride < size + padding:
        positions += 1
    return positions
