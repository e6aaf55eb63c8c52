"""Builds the graph of a traced module from its calls."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from math import prod

from spaces.architecture import Architecture, Layer, Weights
from spaces.operations import (
    ChannelShuffle,
    CollapsedMapError,
    Flatten,
    Generic,
    Input,
    Operation,
    Padding,
    PixelShuffle,
    Resizing,
    Shape,
    Slice,
)
from trainables.tracing.calls import Constant, tensor
from trainables.tracing.layout import (
    C,
    H,
    Map,
    N,
    UnsupportedError,
    W,
    axis_atoms,
    batch,
    is_whole,
    map_dims,
    merged,
)
from trainables.tracing.templates import (
    PIXELWISE,
    UNKNOWN,
    Reach,
    Template,
    channels,
    finer,
    numbered,
    windows,
)


class Graph:
    """Collects layers and their shapes.

    Attributes:
        shapes: of the layers' outputs.
        mixes_batch: whether an operation combines or separates the images of a batch.

    Args:
        image_shape: ``(channels, height, width)``.
        parameters: number of values of every parameter, by name.
    """

    def __init__(self, image_shape: Shape, parameters: dict[str, int]) -> None:
        self._layers = [Layer(Input(*image_shape))]
        self.shapes: list[Shape] = [image_shape]
        self._parameters = parameters
        self._used: frozenset[str] = frozenset()
        self._calculations: dict[str, int] = {}
        self.mixes_batch = False

    @property
    def image(self) -> Map:
        """The image."""
        return Map(0, map_dims(self.shapes[0]))

    def build(self) -> Architecture:
        """Return the finished graph."""
        return Architecture(tuple(self._layers))

    def operation(self, x: Map) -> Operation:
        """Return the operation whose output a tensor is."""
        return self._layers[x.layer].operation

    def mark(self) -> tuple[int, frozenset[str]]:
        """Return the present state for `reset`."""
        return len(self._layers), self._used

    def reset(self, mark: tuple[int, frozenset[str]]) -> None:
        """Remove the layers added since a mark."""
        count, self._used = mark
        del self._layers[count:], self.shapes[count:]

    def calculation(self, name: str, macs: int) -> frozenset[str]:
        """Note the cost of calculating a constant, which the first layer that uses it bears."""
        if macs == 0:
            return frozenset()
        self._calculations[name] = macs
        return frozenset({name})

    def layer(
        self,
        operation: Operation,
        *inputs: int,
        name: str,
        weights: Iterable[object] | None = None,
    ) -> int:
        """Add a layer and return its index.

        Args:
            operation: what it computes.
            inputs: indices of its input layers.
            name: of the layer.
            weights: constants among its arguments; parameters count for the first layer that uses
                them. None if they are the operation's own.

        Raises:
            UnsupportedError: it does not take such inputs.
        """
        shapes = tuple([self.shapes[i] for i in inputs])
        try:
            shape = operation.output_shape(shapes)
        except CollapsedMapError as error:
            raise UnsupportedError(f"leaves no pixel ({error})") from None
        except ValueError as error:
            raise UnsupportedError(f"cannot be expressed: {error}") from None
        due = None
        if weights is not None:
            due = self._due(weights)
            if due == Weights(operation.params(shapes)):
                due = None
        self.shapes.append(shape)
        self._layers.append(Layer(operation, inputs, name, due))
        return len(self._layers) - 1

    def _due(self, weights: Iterable[object]) -> Weights:
        """Return the cost of weights that no earlier layer has borne."""
        constants = [weight for weight in weights if isinstance(weight, Constant)]
        empty = frozenset[str]()
        sources = empty.union(*[c.sources for c in constants]) - self._used
        calculations = empty.union(*[c.calculations for c in constants]) - self._used
        self._used |= sources | calculations
        return Weights(
            sum(self._parameters[source] for source in sources),
            sum(self._calculations[name] for name in calculations),
        )

    def sliding(
        self,
        operation: Operation,
        value: object,
        name: str,
        weights: Iterable[object] | None = None,
    ) -> Map:
        """Add a layer with one input map."""
        x = self.as_map(value, name)
        layer = self.layer(operation, x.layer, name=name, weights=weights)
        return Map(layer, map_dims(self.shapes[layer], len(x.dims)))

    def pointwise(
        self,
        operation: Operation,
        value: object,
        name: str,
        weights: Iterable[object] | None = None,
    ) -> Map:
        """Add an element-wise layer, regardless of the order of axes."""
        x = tensor(value)
        layer = self.layer(operation, x.layer, name=name, weights=weights)
        return Map(layer, x.dims, x.expanded)

    def generic(
        self,
        function: str,
        operands: Sequence[Map],
        template: Template,
        reach: Mapping[int, Reach] = PIXELWISE,
        *,
        name: str,
        weights: Sequence[object] = (),
        macs: int = 0,
    ) -> Map:
        """Add a generic layer whose output has the dimensions of a template.

        Args:
            function: what it computes.
            operands: its input tensors.
            template: dimensions of the result.
            reach: along axes that are not pixel-wise.
            name: of the layer.
            weights: constants among its arguments.
            macs: multiply-accumulates per sample.

        Raises:
            UnsupportedError: the batch is mixed.
        """
        if prod(atom.size for dim in template for atom in dim if atom.axis == N) != batch():
            self.mixes_batch = True
            raise UnsupportedError("mixes the images of a batch")
        sizes, dims = numbered(template)
        along = [reach.get(axis, Reach()) for axis in (H, W)]
        layers = tuple(dict.fromkeys(operand.layer for operand in operands))
        operation = Generic(
            function,
            tuple(self.shapes[layer] for layer in layers),
            sizes,
            (along[0].kernel, along[1].kernel),
            (along[0].stride, along[1].stride),
            (along[0].unbounded, along[1].unbounded),
            macs,
        )
        layer = self.layer(operation, *layers, name=name, weights=weights)
        return Map(layer, dims)

    def as_map(self, value: object, name: str, *, unbounded: bool = False) -> Map:
        """Return a tensor as ``[n, c, h, w]`` or, one pixel in size, as ``[n, c]``.

        Args:
            value: the tensor.
            name: of the layer that needs a map.
            unbounded: accept an order of axes that leaves the reach unbounded.

        Raises:
            UnsupportedError: it is no batch of maps.
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
        if rank not in (2, 4) or not is_whole(x.dims[0], (N, batch())):
            raise UnsupportedError(f"takes a tensor of {rank} axes that is no batch of maps")
        pixels = x.dims[2:] or ((), ())
        if not any(pixels) and is_whole(x.dims[1], *axes):
            layer = self.layer(Flatten(), layer, name=f"{name}.flatten")
        elif all(is_whole(dim, axis) for dim, axis in zip(pixels, axes[1:], strict=True)) and (
            groups := _shuffled_groups(x, channels)
        ):
            layer = self.layer(ChannelShuffle(groups), layer, name=f"{name}.shuffle")
        else:
            return self._rearranged(x, name, understood=not unbounded)
        return Map(layer, map_dims(self.shapes[layer], rank))

    def _rearranged(self, x: Map, name: str, *, understood: bool) -> Map:
        """Return a tensor of four dimensions as a map ``[n, c, h, w]``.

        Positions that become channels make a window.

        Raises:
            UnsupportedError: the first dimension is not the batch, or the rearrangement has to be
                understood and is not.
        """
        if len(x.dims) != 4 or not is_whole(x.dims[0], (N, batch())):
            raise UnsupportedError(f"takes a tensor of {len(x.dims)} axes that is no batch of maps")
        shape = self.shapes[x.layer]
        sizes: Shape = (x.sizes[1], x.sizes[2], x.sizes[3])
        whole: Template = map_dims(sizes)
        if shape[1:] == (1, 1):
            return self.generic(
                "rearrange", [x], whole, {H: Reach(1, 0), W: Reach(1, 0)}, name=f"{name}.rearrange"
            )
        pixels = x.dims[2:]
        axes = tuple({a.axis for a in dim} for dim in pixels)
        if axes[0] <= {H} and axes[1] <= {W}:
            lost = [a for a in x.dims[1] if a.axis in (H, W)]
            try:
                reach = windows(x, shape, lost)
            except UnsupportedError:
                pass
            else:
                return self.generic("rearrange", [x], whole, reach, name=f"{name}.rearrange")
        fine = finer(x, shape)
        if fine is not None:
            ordered, factor = fine
            layer = self.generic("rearrange", [x], ordered, name=f"{name}.rearrange").layer
            layer = self.layer(PixelShuffle(factor), layer, name=f"{name}.shuffle")
            return Map(layer, map_dims(self.shapes[layer]))
        if understood:
            raise UnsupportedError("takes a map whose axes were rearranged")
        return self.generic(
            "rearrange", [x], whole, {H: UNKNOWN, W: UNKNOWN}, name=f"{name}.rearrange"
        )

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
        if self.axis(x, dim) is None:
            with suppress(UnsupportedError):
                x = self.as_map(x, name)
        axis, shape = self.axis(x, dim), self.shapes[x.layer]
        if axis is None:
            self.mixes_batch |= any(atom.axis == N for atom in x.dims[dim])
            return self._channels_of(x, dim, stop - start, name)
        operation: Operation = Slice(start, stop)
        if axis != C:
            operation = _crop(axis, start, stop - shape[axis - 1])
        layer = self.layer(operation, x.layer, name=name)
        dims = list(x.dims)
        dims[dim] = axis_atoms(axis, stop - start)
        return Map(layer, tuple(dims))

    def _channels_of(self, x: Map, dim: int, size: int, name: str) -> Map:
        """Return a part of a dimension that holds some of the channels."""
        if any(atom.axis != C for atom in x.dims[dim]):
            raise UnsupportedError("cuts a dimension that is neither channels, rows nor columns")
        template = [*x.dims[:dim], channels(size), *x.dims[dim + 1 :]]
        return self.generic("slice", [x], template, name=name)

    def axis(self, x: Map, dim: int) -> int | None:
        """Return the axis that a dimension covers completely."""
        shape = self.shapes[x.layer]
        for axis in (C, H, W):
            if x.dims[dim] and is_whole(x.dims[dim], (axis, shape[axis - 1])):
                return axis
        return None


def _shuffled_groups(x: Map, channels: int) -> int:
    """Return the groups between which channels are shuffled, 0 for any other order."""
    atoms = merged(x.dims[1])
    return atoms[1].size if len(atoms) == 2 and is_whole(atoms[::-1], (C, channels)) else 0


def _crop(axis: int, start: int, end: int) -> Padding:
    """Return the operation that cuts the first ``start`` and last ``-end`` rows or columns."""
    if axis == H:
        return Padding((0, -start, 0), (0, end, 0))
    return Padding((0, 0, -start), (0, 0, end))
