"""Builds the graph of a traced module from its calls."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import Any, TypeAlias

from spaces.architecture import Architecture, Builder
from spaces.operations import (
    ChannelShuffle,
    CollapsedMapError,
    Flatten,
    Operation,
    Padding,
    Resizing,
    Shape,
    Slice,
)
from trainables.tracing.layout import (
    BATCH,
    C,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    is_whole,
    map_dims,
    merged,
)


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the image.

    Attributes:
        shape: of the tensor.
        sources: the parameters it comes from, by name.
    """

    shape: tuple[int, ...]
    sources: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """The result of a split; a part becomes a layer when it is taken.

    Attributes:
        whole: the tensor split.
        dim: along which dimension.
        bounds: where each part starts and stops.
    """

    whole: Map
    dim: int
    bounds: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Results:
    """The results of an operation with several; only the first is a map."""

    first: Map


Value: TypeAlias = Map | Constant | Parts | Results


@dataclass(frozen=True)
class Call:
    """One operation of the traced module.

    Attributes:
        operation: its name in ATen, such as ``conv2d``.
        arguments: by the names of its schema, defaults included, tensors as values.
        shape: of the result; of a list of results None.
        shapes: of all the results.
        name: of the layer, if it becomes one.
    """

    operation: str
    arguments: dict[str, Any]
    shape: tuple[int, ...] | None
    shapes: tuple[tuple[int, ...], ...]
    name: str

    def __getitem__(self, name: str) -> Any:
        """Return one argument."""
        return self.arguments[name]

    @property
    def taken(self) -> Any:
        """The input tensor of the operation."""
        return self.arguments["self" if "self" in self.arguments else "input"]

    @property
    def result_shape(self) -> tuple[int, ...]:
        """Shape of the single result."""
        if self.shape is None:
            raise UnsupportedError("returns several tensors")
        return self.shape


class Graph:
    """Collects layers and their shapes.

    Args:
        image_shape: ``(channels, height, width)``.
        parameters: number of values of every parameter, by name.
    """

    def __init__(self, image_shape: Shape, parameters: dict[str, int]) -> None:
        self._builder = Builder(image_shape)
        self.operations: list[Operation | None] = [None]
        self.shapes: list[Shape] = [image_shape]
        self._parameters = parameters
        self._used: set[str] = set()

    @property
    def image(self) -> Map:
        """The image."""
        return Map(0, map_dims(self.shapes[0]))

    def build(self) -> Architecture:
        """Return the finished graph."""
        return self._builder.build()

    def layer(self, operation: Operation, *inputs: int, name: str) -> int:
        """Add a layer and return its index.

        Raises:
            UnsupportedError: it does not take such inputs.
        """
        try:
            shape = operation.output_shape(tuple([self.shapes[i] for i in inputs]))
        except CollapsedMapError as error:
            raise UnsupportedError(f"leaves no pixel ({error})") from None
        except ValueError as error:
            raise UnsupportedError(f"cannot be expressed: {error}") from None
        self.operations.append(operation)
        self.shapes.append(shape)
        return self._builder.add(operation, *inputs, name=name)

    def sliding(self, operation: Operation, value: object, name: str) -> Map:
        """Add a layer with one input map."""
        x = self.as_map(value, name)
        layer = self.layer(operation, x.layer, name=name)
        return Map(layer, map_dims(self.shapes[layer], len(x.dims)))

    def pointwise(self, operation: Operation, value: object, name: str) -> Map:
        """Add an element-wise layer, regardless of the order of axes."""
        x = tensor(value)
        return Map(self.layer(operation, x.layer, name=name), x.dims, x.expanded)

    def take(self, name: str, *weights: object) -> None:
        """Note that a layer is the one owner of its weights.

        Raises:
            UnsupportedError: it is not, or its weights are calculated.
        """
        for weight in weights:
            if weight is None:
                continue
            if not isinstance(weight, Constant):
                raise UnsupportedError("has weights that are calculated from the image")
            if not weight.sources:
                raise UnsupportedError("has weights that are no parameters")
            if sum(self._parameters[source] for source in weight.sources) != prod(weight.shape):
                sources = ", ".join(sorted(weight.sources))
                raise UnsupportedError(f"has weights that are calculated from {sources}")
            shared = weight.sources & self._used
            if shared:
                raise UnsupportedError(f"shares {min(shared)} with another layer or call")
            self._used |= weight.sources

    def as_map(self, value: object, name: str) -> Map:
        """Return a tensor as ``[n, c, h, w]`` or, one pixel in size, as ``[n, c]``.

        Raises:
            UnsupportedError: its axes are in an order for which there is no layer.
        """
        x = tensor(value)
        if x.expanded is not None:
            x = self._repeated(x, x.expanded, name)
        rank, shape = len(x.dims), self.shapes[x.layer]
        if (
            x.dims == map_dims(shape, rank)
            and rank in (2, 4)
            and (rank == 4 or shape[1:] == (1, 1))
        ):
            return x
        (channels, height, width), layer = shape, x.layer
        axes = (C, channels), (H, height), (W, width)
        if rank not in (2, 4) or not is_whole(x.dims[0], (N, BATCH)):
            raise UnsupportedError(f"takes a tensor of {rank} axes that is no batch of maps")
        pixels = x.dims[2:] or ((), ())
        if not any(pixels) and is_whole(x.dims[1], *axes):
            layer = self.layer(Flatten(), layer, name=f"{name}.flatten")
        elif all(is_whole(dim, axis) for dim, axis in zip(pixels, axes[1:], strict=True)):
            layer = self._shuffled(x, channels, name)
        else:
            raise UnsupportedError("takes a map whose axes were rearranged")
        return Map(layer, map_dims(self.shapes[layer], rank))

    def _shuffled(self, x: Map, channels: int, name: str) -> int:
        atoms = merged(x.dims[1])
        if len(atoms) == 2 and is_whole(atoms[::-1], (C, channels)):
            groups = atoms[1].size
            return self.layer(ChannelShuffle(groups), x.layer, name=f"{name}.shuffle")
        raise UnsupportedError("takes a map whose channels were rearranged")

    def _repeated(self, x: Map, sizes: tuple[int, ...], name: str) -> Map:
        """Return a map with axes of one pixel expanded to the whole size."""
        bare = self.as_map(Map(x.layer, x.dims), name)
        if len(sizes) != 4 or sizes[:2] != bare.sizes[:2]:
            raise UnsupportedError("takes a tensor that was expanded along its channels")
        return self.resized(bare, sizes[2:], f"{name}.expand")

    def resized(self, x: Map, size: tuple[int, ...], name: str) -> Map:
        """Return a map resized by repeating pixels."""
        if x.sizes[2:] == size:
            return x
        layer = self.layer(Resizing((size[0], size[1])), x.layer, name=name)
        return Map(layer, map_dims(self.shapes[layer]))

    def part(self, x: Map, dim: int, start: int, stop: int, name: str) -> Map:
        """Return a slice of channels, rows or columns.

        Raises:
            UnsupportedError: the dimension is not one of these axes.
        """
        if (start, stop) == (0, x.sizes[dim]):
            return x
        if x.expanded is not None:
            x = self._repeated(x, x.expanded, name)
        if not self._axis(x, dim):
            x = self.as_map(x, name)
        axis, shape = self._axis(x, dim), self.shapes[x.layer]
        if axis is None:
            raise UnsupportedError("cuts a dimension that is neither channels, rows nor columns")
        operation: Operation = Slice(start, stop)
        if axis != C:
            operation = _crop(axis, start, stop - shape[axis - 1])
        layer = self.layer(operation, x.layer, name=name)
        dims = list(x.dims)
        dims[dim] = axis_atoms(axis, stop - start)
        return Map(layer, tuple(dims))

    def _axis(self, x: Map, dim: int) -> int | None:
        """Return the axis that a dimension covers completely."""
        shape = self.shapes[x.layer]
        for axis in (C, H, W):
            if x.dims[dim] and is_whole(x.dims[dim], (axis, shape[axis - 1])):
                return axis
        return None


def _crop(axis: int, start: int, end: int) -> Padding:
    """Return the operation that cuts the first ``start`` and last ``-end`` rows or columns."""
    if axis == H:
        return Padding((0, -start, 0), (0, end, 0))
    return Padding((0, 0, -start), (0, 0, end))


TRACED = (Map, Parts, Results)
"""Values that depend on the image."""


def tensor(value: object) -> Map:
    """Return a value that must depend on the image.

    Raises:
        UnsupportedError: it does not.
    """
    if not isinstance(value, Map):
        raise UnsupportedError("takes no tensor that depends on the image")
    return value
