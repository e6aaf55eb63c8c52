"""Tracks how the axes of a tensor map to the output of a layer.

The graph knows only maps ``(channels, height, width)``, but modules transpose, flatten and split
them in between. A tensor is therefore a layer and, for each of its dimensions, its *atoms*: pieces
of the batch, the channels, the rows or the columns. Reordering then costs no layer. When an
operation needs a map, the atoms show whether reorderings cancel out or shuffle channels.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import prod
from typing import NamedTuple, TypeAlias

from spaces.operations import Shape

_BATCH = ContextVar("batch", default=23)
"""Traced batch size: a prime that is hardly ever another size, to tell the batch from others."""
N, C, H, W = range(4)


def batch() -> int:
    """Return the number of images in the traced batch."""
    return _BATCH.get()


@contextmanager
def single_image() -> Iterator[None]:
    """Trace a batch of one image, for modules that combine or separate the images of a batch."""
    token = _BATCH.set(1)
    try:
        yield
    finally:
        _BATCH.reset(token)


class UnsupportedError(Exception):
    """The graph cannot express an operation; the message continues its name."""


class Atom(NamedTuple):
    """Every ``stride``-th of an axis, ``size`` of them."""

    axis: int
    stride: int
    size: int


Dims: TypeAlias = tuple[tuple[Atom, ...], ...]


@dataclass(frozen=True)
class Map:
    """A tensor with the values of a layer's output.

    Attributes:
        layer: index of the layer.
        dims: atoms of each dimension; none where it has size 1.
        expanded: size of every dimension if a dimension of size 1 is expanded, else None.
    """

    layer: int
    dims: Dims
    expanded: tuple[int, ...] | None = None

    @property
    def sizes(self) -> tuple[int, ...]:
        """Size of every dimension."""
        return self.expanded or tuple(prod([atom.size for atom in dim]) for dim in self.dims)


def axis_atoms(axis: int, size: int) -> tuple[Atom, ...]:
    """Return the atoms of a whole axis."""
    return (Atom(axis, 1, size),) if size > 1 else ()


def map_dims(shape: Shape, rank: int = 4) -> Dims:
    """Return the dimensions of a layer's output: ``[n, c, h, w]``, or ``[n, c]`` for one pixel."""
    return tuple(axis_atoms(axis, size) for axis, size in enumerate((batch(), *shape)))[:rank]


def merged(atoms: Iterable[Atom]) -> tuple[Atom, ...]:
    """Return the same values with contiguous neighbours merged."""
    result: list[Atom] = []
    for axis, stride, size in atoms:
        if result and result[-1].axis == axis and result[-1].stride == stride * size:
            result[-1] = Atom(axis, stride, size * result[-1].size)
        else:
            result.append(Atom(axis, stride, size))
    return tuple(result)


def regrouped(dims: Dims, sizes: Sequence[int]) -> Dims:
    """Return the dimensions after a view or reshape to these sizes.

    Raises:
        UnsupportedError: a new dimension would need a part of an atom that is not a divisor.
    """
    atoms = list(reversed(merged(atom for dim in dims for atom in dim)))
    result = []
    for size in sizes:
        dim: list[Atom] = []
        missing = size
        while missing > 1:
            axis, stride, count = atoms.pop()
            if missing % count == 0:
                dim.append(Atom(axis, stride, count))
                missing //= count
            elif count % missing == 0:
                inner = count // missing
                dim.append(Atom(axis, stride * inner, missing))
                atoms.append(Atom(axis, stride, inner))
                missing = 1
            else:
                raise UnsupportedError("cuts the axes of a map in a way that the graph cannot")
        result.append(merged(dim))
    return tuple(result)


def is_whole(atoms: tuple[Atom, ...], *axes: tuple[int, int]) -> bool:
    """Tell whether atoms are exactly these axes in this order, each given as (axis, size)."""
    return merged(atoms) == merged(atom for axis in axes for atom in axis_atoms(*axis))
