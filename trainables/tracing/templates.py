"""Describes the dimensions of a result, and how far the operation behind it reaches."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from math import prod
from typing import NamedTuple, TypeAlias

from spaces.operations import Pair, Shape
from trainables.tracing.layout import (
    Atom,
    C,
    Dims,
    H,
    Map,
    UnsupportedError,
    W,
    axis_atoms,
    is_whole,
    merged,
)

Template: TypeAlias = Sequence[Sequence[Atom]]
"""Dimensions of a result: of channels only the sizes count, positions are those of the inputs."""


class Reach(NamedTuple):
    """How far an operation reaches along one axis; see `spaces.operations.Generic`."""

    kernel: int = 1
    stride: int = 1
    unbounded: bool = False


UNKNOWN = Reach(1, 0, unbounded=True)
KEPT = Reach(1, 1, unbounded=True)
"""At least the same position."""
PIXELWISE: Mapping[int, Reach] = {}
"""The reach of an operation on equal positions."""


def channels(size: int) -> tuple[Atom, ...]:
    """Return a dimension of channels for a template."""
    return axis_atoms(C, size)


def numbered(template: Template) -> tuple[Shape, Dims]:
    """Return the shape of a layer and the dimensions with its strides."""
    totals: dict[int, int] = {}
    strides: dict[int, int] = {}
    positions: dict[tuple[int, int], int] = {}
    for axis in (H, W):
        total = 1
        for atom in sorted([a for dim in template for a in dim if a.axis == axis]):
            positions[axis, atom.stride] = total
            total *= atom.size
        totals[axis] = total
    totals[C] = strides[C] = prod(a.size for dim in template for a in dim if a.axis == C)
    dims = []
    for dim in template:
        atoms = []
        for axis, stride, size in dim:
            if axis == C:
                strides[C] //= size
                atoms.append(Atom(C, strides[C], size))
            else:
                atoms.append(Atom(axis, positions.get((axis, stride), stride), size))
        dims.append(merged(atoms))
    return (totals[C], totals[H], totals[W]), tuple(dims)


def broadcast(operands: Sequence[Dims], sizes: Sequence[int]) -> list[tuple[Atom, ...]]:
    """Return the dimensions of the result of tensors that broadcast to these sizes.

    Raises:
        UnsupportedError: different positions meet.
    """
    template: list[tuple[Atom, ...]] = []
    rank = len(sizes)
    for place, size in enumerate(sizes):
        dims = [x[place - rank + len(x)] for x in operands if place - rank + len(x) >= 0]
        template.append(_common(dims, size))
    _check_single(template)
    return template


def _common(dims: Sequence[Sequence[Atom]], size: int) -> tuple[Atom, ...]:
    placed = [merged(dim) for dim in dims if any(atom.axis != C for atom in dim)]
    if not placed:
        return channels(size)
    if len({tuple(pattern(dim)) for dim in placed}) > 1:
        raise UnsupportedError("combines different positions")
    return placed[0]


def pattern(dim: Sequence[Atom]) -> list[tuple[int, ...]]:
    """Return a dimension without the strides of its channels."""
    return [(C, atom.size) if atom.axis == C else tuple(atom) for atom in dim]


def _check_single(template: Template) -> None:
    """Check that no position occurs twice."""
    located = [(a.axis, a.stride) for dim in template for a in dim if a.axis != C]
    if len(set(located)) != len(located):
        raise UnsupportedError("combines different positions")


def window(size: int, kept: Iterable[Atom], lost: Iterable[Atom]) -> Reach:
    """Return the window of an operation that combines some positions of an axis.

    Args:
        size: of the axis.
        kept: atoms of the axis that remain positions.
        lost: atoms of the axis that are combined.

    Raises:
        UnsupportedError: the remaining positions are not evenly spaced.
    """
    kept, lost = _sorted(kept), _sorted(lost)
    if prod(a.size for a in (*kept, *lost)) != size:
        raise UnsupportedError("uses a part of an axis")
    if not lost:
        return Reach()
    if not kept:
        return Reach(size, size)
    if len(kept) > 1 or len(lost) > 1:
        raise UnsupportedError("combines unevenly spaced positions")
    (inner,) = lost
    extent = (inner.size - 1) * inner.stride + 1
    return Reach(extent, kept[0].stride)


def _sorted(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    return merged(sorted(atoms, reverse=True))


def windows(x: Map, shape: Shape, lost: Sequence[Atom]) -> dict[int, Reach]:
    """Return the windows of an operation on one tensor that combines some positions.

    Args:
        x: the tensor.
        shape: of its layer.
        lost: the positions.

    Raises:
        UnsupportedError: the remaining positions are not evenly spaced.
    """
    gone = set(lost)
    reach = {}
    for axis in (H, W):
        kept = [a for dim in x.dims for a in dim if a.axis == axis and a not in gone]
        combined = [a for a in lost if a.axis == axis]
        reach[axis] = window(shape[axis - 1], kept, combined)
    return reach


def finer(x: Map, shape: Shape) -> tuple[Template, Pair] | None:
    """Return the order of channels for a pixel shuffle, and its factor."""
    rows, columns = merged(x.dims[2]), merged(x.dims[3])
    if len(rows) != 2 or len(columns) != 2 or any(a.axis != C for a in x.dims[1]):
        return None
    if not (is_whole(rows[:1], (H, shape[1])) and is_whole(columns[:1], (W, shape[2]))):
        return None
    if rows[1].axis != C or columns[1].axis != C or rows[1].size != columns[1].size:
        return None
    template = (x.dims[0], (*x.dims[1], rows[1], columns[1]), rows[:1], columns[:1])
    return template, (rows[1].size, columns[1].size)
