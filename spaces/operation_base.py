"""The interface of all operations, and the arithmetic of sliding windows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from fractions import Fraction
from functools import cache
from math import inf, isfinite
from typing import ClassVar, NamedTuple, TypeAlias

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
    memory from them. Values are checked when an operation is made; see `check_values`.

    Raises:
        ValueError: a value has the wrong type, is out of range or is no known name.
    """

    kind: ClassVar[str]
    arity: ClassVar[int | None] = 1
    """Number of inputs; None for one or more."""
    keeps_input: ClassVar[bool] = False
    keeps_output: ClassVar[bool] = False
    names: ClassVar[Mapping[str, Sequence[str]]] = {}
    """Known values of each field that holds text."""
    least: ClassVar[Mapping[str, float]] = {}
    """Lowest value of each number for which it is not the usual one."""

    def __post_init__(self) -> None:
        """Check the values."""
        check_values(self)

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


def set_values(operation: Operation, **values: object) -> None:
    """Set the fields of an operation with a constructor of its own, and check them."""
    for name, value in values.items():
        object.__setattr__(operation, name, value)
    check_values(operation)


_LEAST: Mapping[str, float] = {
    "padding": 0,
    "output_padding": 0,
    "start": 0,
    "before": -inf,
    "after": -inf,
}


class _Rule(NamedTuple):
    """What a field of an operation may hold."""

    name: str
    kind: str
    least: float
    known: Sequence[str]

    def fits(self, value: object) -> bool:
        if self.kind == "int":
            return type(value) is int and value >= self.least
        if self.kind in ("Pair", "Shape"):
            length = 2 if self.kind == "Pair" else 3
            if type(value) is not tuple or len(value) != length:
                return False
            return all(type(number) is int and number >= self.least for number in value)
        if self.kind == "tuple[Shape, ...]":
            return type(value) is tuple and all(self._replace(kind="Shape").fits(v) for v in value)
        if self.kind == "tuple[bool, bool]":
            return type(value) is tuple and [type(flag) for flag in value] == [bool, bool]
        if self.kind == "str":
            return value in self.known if self.known else type(value) is str
        if self.kind == "bool":
            return type(value) is bool
        if type(value) not in (int, float) or not isfinite(value):  # type: ignore[arg-type]
            return False
        return self.name != "rate" or 0 <= value <= 1  # type: ignore[operator]

    @property
    def wanted(self) -> str:
        least = "" if self.least == -inf else f" of {self.least} or more"
        if self.kind == "Pair":
            return f"use a whole number{least}, or a pair (height, width) of them"
        return {
            "int": f"use a whole number{least}",
            "tuple[Shape, ...]": "use shapes (channels, height, width)",
            "tuple[bool, bool]": "use two of True and False",
            "Shape": f"use three whole numbers{least}",
            "str": f"use {', '.join(self.known) or 'text'}",
            "bool": "use True or False",
        }.get(self.kind, "use a number from 0 to 1" if self.name == "rate" else "use a number")


def _least(kind: type[Operation], name: str) -> float:
    return kind.least.get(name, _LEAST.get(name, 1))


@cache
def _rules(kind: type[Operation]) -> tuple[_Rule, ...]:
    return tuple(
        _Rule(each.name, str(each.type), _least(kind, each.name), kind.names.get(each.name, ()))
        for each in fields(kind)
    )


def check_values(operation: Operation) -> None:
    """Check the values of an operation.

    Raises:
        ValueError: a value has the wrong type, is out of range or is no known name.
    """
    for rule in _rules(type(operation)):  # type: ignore[arg-type]  # Classes are hashable.
        value = getattr(operation, rule.name)
        if not rule.fits(value):
            problem = f"{rule.name} of {operation.kind} cannot be {value!r}"
            raise ValueError(f"{problem}; {rule.wanted}")


def same_padding(kernel: int | Pair, dilation: int | Pair) -> Pair:
    """Return the padding that keeps the size of a map at stride 1.

    Raises:
        ValueError: no symmetric padding does, because the kernel is even.

    Example:
        >>> same_padding(5, 1), same_padding((3, 1), 2)
        ((2, 2), (2, 0))
    """
    sizes, spread = pair(kernel), pair(dilation)
    if not all(_Rule("", "Pair", 1, ()).fits(each) for each in (sizes, spread)):
        return (0, 0)  # The kernel or the dilation is refused.
    uneven = [(size - 1) * gap % 2 for size, gap in zip(sizes, spread, strict=True)]
    around = [(size - 1) * gap // 2 for size, gap in zip(sizes, spread, strict=True)]
    if any(uneven):
        raise ValueError(
            f"no padding keeps the size of a map under an even kernel ({kernel!r}); "
            "give one, such as padding=0"
        )
    return (around[0], around[1])


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
