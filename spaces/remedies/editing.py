"""Edits the downsampling and dilation of a network, and names the changes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Literal, NamedTuple

from spaces.architecture import Architecture, Layer
from spaces.operations import Convolution, Operation, Pair, Pooling


class Change(NamedTuple):
    """One change of a network.

    Attributes:
        action: ``unstride`` sets the stride of a convolution to 1 or removes a pooling layer,
            ``undilate`` sets the dilation of a convolution to 1, ``stride`` sets its stride to 2,
            and ``pool`` adds a pooling layer behind a layer.
        layer: index of the layer in the original.
    """

    action: Literal["unstride", "undilate", "stride", "pool"]
    layer: int


class Argument(NamedTuple):
    """A new value of an argument of a module.

    Attributes:
        module: name of the module.
        name: of the attribute.
        value: of the attribute.
    """

    module: str
    name: str
    value: int | Pair


def apply_changes(
    architecture: Architecture, changes: Iterable[Change], pooling: Pooling | None = None
) -> Architecture:
    """Return the changed network; its shapes may not fit any more.

    Args:
        architecture: the network.
        changes: of its layers.
        pooling: operation of added layers; None for the usual one of the network.
    """
    added = pooling or usual_pooling(architecture)
    remove: set[int] = set()
    replaced: dict[int, Operation] = {}
    inserted: dict[int, Layer] = {}
    for action, index in changes:
        operation = replaced.get(index, architecture.layers[index].operation)
        if action == "pool":
            inserted[index] = Layer(added, name=f"pool{index}")
        elif isinstance(operation, Pooling):
            remove.add(index)
        elif isinstance(operation, Convolution):
            replaced[index] = _changed(operation, action)
    return edit(architecture, remove=remove, replaced=replaced, inserted=inserted)


def _changed(operation: Convolution, action: str) -> Convolution:
    if action == "undilate":
        return replace(operation, dilation=(1, 1), padding=_undilated_padding(operation))
    return replace(operation, stride=(1, 1) if action == "unstride" else (2, 2))


def _undilated_padding(operation: Convolution) -> Pair:
    """Return the padding with which the map keeps its size without dilation."""
    sizes = zip(operation.padding, operation.kernel, operation.dilation, strict=True)
    height, width = [max(0, pad - (size - 1) * (gap - 1) // 2) for pad, size, gap in sizes]
    return height, width


def usual_pooling(architecture: Architecture) -> Pooling:
    """Return a pooling layer of the network's most frequent kind, with windows of 2x2 pixels."""
    modes = [
        layer.operation.mode
        for layer in architecture.layers
        if isinstance(layer.operation, Pooling) and layer.operation.mode != "blur"
    ]
    return Pooling(max(modes, key=modes.count, default="max"), 2)


def describe_changes(architecture: Architecture, changes: Iterable[Change]) -> str:
    """Return the changes in words."""
    names: dict[str, list[str]] = {}
    words = {
        "unstride": "no downsampling in",
        "undilate": "dilation 1 in",
        "stride": "stride 2 in",
        "pool": "pool behind",
    }
    for action, index in changes:
        names.setdefault(words[action], []).append(layer_name(architecture, index))
    return "; ".join(f"{word} {', '.join(layers)}" for word, layers in names.items())


def module_arguments(
    architecture: Architecture, changes: Iterable[Change]
) -> tuple[Argument, ...] | None:
    """Return the changes as arguments of the modules from which a network was traced.

    None if a change adds a layer.
    """
    found: list[Argument] = []
    for action, index in changes:
        name, operation = architecture.layers[index].name, architecture.layers[index].operation
        if action == "pool":
            return None
        if isinstance(operation, Pooling):
            values: tuple[tuple[str, int | Pair], ...] = (
                ("kernel_size", 1),
                ("stride", 1),
                ("padding", 0),
            )
        elif isinstance(operation, Convolution):
            changed = _changed(operation, action)
            values = (("stride", changed.stride),)
            if action == "undilate":
                values = (("dilation", changed.dilation), ("padding", changed.padding))
        else:
            return None
        found += [Argument(name, attribute, value) for attribute, value in values]
    return tuple(found)


def edit(
    architecture: Architecture,
    *,
    remove: set[int],
    replaced: Mapping[int, Operation] | None = None,
    inserted: Mapping[int, Layer] | None = None,
) -> Architecture:
    """Remove layers with one input, replace operations, insert layers after others."""
    replaced, inserted = replaced or {}, inserted or {}
    layers: list[Layer] = []
    numbers: dict[int, int] = {}
    for index, layer in enumerate(architecture.layers):
        inputs = tuple([numbers[i] for i in layer.inputs])
        if index in remove:
            numbers[index] = inputs[0]
        else:
            operation = replaced.get(index, layer.operation)
            layers.append(layer._replace(operation=operation, inputs=inputs))
            numbers[index] = len(layers) - 1
        if index in inserted:
            layers.append(inserted[index]._replace(inputs=(numbers[index],)))
            numbers[index] = len(layers) - 1
    return Architecture(tuple(layers))


def waists(architecture: Architecture) -> list[int]:
    """Return the layers that no edge bypasses."""
    reach = 0
    found = []
    farthest = [0] * len(architecture.layers)
    for index, layer in enumerate(architecture.layers):
        for source in layer.inputs:
            farthest[source] = max(farthest[source], index)
    for index in range(len(architecture.layers)):
        if reach <= index:
            found.append(index)
        reach = max(reach, farthest[index])
    return found


def end_of_layer(architecture: Architecture, convolution: int) -> int:
    """Return the last of the norm and activation that follow a convolution."""
    index = convolution
    while index + 1 < len(architecture.layers):
        following = architecture.layers[index + 1]
        if following.inputs != (index,) or following.operation.kind not in ("norm", "activation"):
            break
        index += 1
    return index


def stride_of(operation: Operation) -> Pair:
    """Return the stride of a convolution or pooling layer; (1, 1) for other operations."""
    return operation.stride if isinstance(operation, (Convolution, Pooling)) else (1, 1)


def layer_name(architecture: Architecture, index: int) -> str:
    """Return the name of a layer, or its number."""
    return architecture.layers[index].name or f"layer {index}"
