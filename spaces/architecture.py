"""Defines an architecture: a frozen graph of layers.

Receptive fields, border layer, costs, digest, JSON and the ``torch.nn.Module`` derive from this
graph. Building and analysing a graph never imports torch.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from typing import Any, NamedTuple

from spaces.operations import (
    OPERATIONS,
    Add,
    CollapsedMapError,
    Generic,
    Input,
    Operation,
    Shape,
    Window,
)

FORMAT = 1


@lru_cache(maxsize=1 << 16)
def _text(operation: Operation) -> str:
    """Return an operation as text; cached because layers recur across candidates."""
    return repr(operation)


class Weights(NamedTuple):
    """The cost of weights that are not a layer's own parameters: shared or calculated ones.

    Attributes:
        params: number of parameters that no earlier layer uses.
        macs: multiply-accumulates that calculate the weights, whatever the batch.
    """

    params: int
    macs: int = 0


class Layer(NamedTuple):
    """An operation and the indices of its input layers.

    Attributes:
        operation: what the layer computes.
        inputs: indices of its input layers.
        name: for people.
        weights: if they are not the operation's own.
    """

    operation: Operation
    inputs: tuple[int, ...] = ()
    name: str = ""
    weights: Weights | None = None

    def params(self, inputs: tuple[Shape, ...]) -> int:
        """Return the number of trainable parameters that no earlier layer uses."""
        return self.operation.params(inputs) if self.weights is None else self.weights.params

    def macs(self, inputs: tuple[Shape, ...], output: Shape) -> int:
        """Return multiply-accumulates per sample, including those that calculate the weights."""
        own = self.operation.macs(inputs, output)
        return own if self.weights is None else own + self.weights.macs


def _weights(layer: Layer) -> str:
    return "" if layer.weights is None else repr(layer.weights)


class CollapsedLayerError(CollapsedMapError):
    """A feature map of an architecture shrinks to less than one pixel.

    Attributes:
        index: the first such layer.
    """

    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        super().__init__(f"layer {index}: {problem}")


@dataclass(frozen=True)
class Architecture:
    """A directed acyclic graph of layers in forward order.

    Layer 0 is the image, the last layer is the output, and the inputs of every layer precede it.

    Args:
        layers: the layers, in forward order.

    Raises:
        ValueError: the layers violate these rules.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers or not isinstance(self.layers[0].operation, Input):
            raise ValueError("layer 0 must be the Input")
        for index, (operation, inputs, *_) in enumerate(self.layers):
            arity = operation.arity
            if len(inputs) != arity and (arity is not None or not inputs):
                raise ValueError(
                    f"layer {index} ({operation.kind}) takes "
                    f"{'at least one' if arity is None else arity} input(s), but got {inputs}"
                )
            if not inputs and index:
                raise ValueError(f"layer {index} is a second Input, but only layer 0 can be one")
            for source in inputs:
                if not 0 <= source < index:
                    raise ValueError(
                        f"layer {index} ({operation.kind}) must take its inputs from layers "
                        f"before it, but got {inputs}"
                    )

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape ``(channels, height, width)`` of every layer.

        Raises:
            CollapsedLayerError: a feature map has less than one pixel.
            ValueError: an operation does not accept its inputs.
        """
        shapes: list[Shape] = []
        for index, (operation, inputs, *_) in enumerate(self.layers):
            try:
                shapes.append(operation.output_shape(tuple([shapes[i] for i in inputs])))
            except CollapsedMapError as error:
                raise CollapsedLayerError(index, str(error)) from None
            except ValueError as error:
                raise ValueError(f"layer {index} ({operation.kind}): {error}") from None
        return tuple(shapes)

    @cached_property
    def windows(self) -> tuple[tuple[Window, Window] | None, ...]:
        """Sliding window (height, width) of every layer; None for pixel-wise layers.

        Raises:
            CollapsedLayerError: a feature map has less than one pixel.
        """
        shapes = self.shapes
        return tuple(
            [
                operation.windows(tuple([shapes[i] for i in inputs]))
                for operation, inputs, *_ in self.layers
            ]
        )

    @cached_property
    def unbounded(self) -> dict[int, tuple[bool, bool]]:
        """The layers that may reach further than their window, and along which axes."""
        return {
            index: layer.operation.unbounded
            for index, layer in enumerate(self.layers)
            if type(layer.operation) is Generic and any(layer.operation.unbounded)
        }

    def indices(self, *kinds: type[Operation]) -> list[int]:
        """Return the indices of the layers of these kinds, in forward order."""
        return [i for i, layer in enumerate(self.layers) if type(layer.operation) in kinds]

    @cached_property
    def digest(self) -> str:
        """Hash of the graph as 32 hexadecimal digits, equal for equivalent graphs.

        The digest ignores names, the order of independent layers, the order of summands, and
        layers that do not reach the output. It hashes a complete serialisation in the order of a
        walk from the output, so different graphs have different digests.

        Limitation: summands with equal subgraphs that are used differently elsewhere keep their
        order. Such a duplicate may be missed, but different graphs are never confused.
        """
        order = self._walk_from_output()
        numbers = {index: number for number, (index, _) in enumerate(order)}
        text = "\n".join(
            [
                f"{_text(self.layers[index].operation)}{[numbers[i] for i in inputs]}"
                for index, inputs in order
            ]
        )
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()

    def _walk_from_output(self) -> list[tuple[int, tuple[int, ...]]]:
        """Return the layers that reach the output with their inputs, in topological order.

        The order does not depend on the order in which the layers are listed.
        """
        if [layer.inputs for layer in self.layers[1:]] == [
            (i,) for i in range(len(self.layers) - 1)
        ]:
            return [(index, layer.inputs) for index, layer in enumerate(self.layers)]
        commutative = any(type(layer.operation) is Add for layer in self.layers)
        keys = self._subtree_keys() if commutative else None
        order: list[tuple[int, tuple[int, ...]]] = []
        done: set[int] = set()
        stack = [len(self.layers) - 1]
        while stack:
            index = stack[-1]
            if index in done:
                stack.pop()
                continue
            operation, inputs, *_ = self.layers[index]
            if keys is not None and type(operation) is Add:
                inputs = tuple(sorted(inputs, key=keys.__getitem__))
            missing = [i for i in inputs if i not in done]
            if missing:
                stack.extend(reversed(missing))
            else:
                stack.pop()
                done.add(index)
                order.append((index, inputs))
        return order

    def _subtree_keys(self) -> list[bytes]:
        """Return a key of the subgraph below every layer, by which summands are sorted."""
        keys: list[bytes] = []
        for layer in self.layers:
            operation = layer.operation
            below = [keys[i] for i in layer.inputs]
            if type(operation) is Add:
                below.sort()
            text = f"{(operation, below)}{_weights(layer)}"
            keys.append(hashlib.blake2b(text.encode()).digest())
        return keys

    def to_json(self) -> str:
        """Return the graph as JSON, the inverse of `from_json`."""
        layers = []
        for operation, inputs, name, weights in self.layers:
            entry: dict[str, Any] = {"kind": operation.kind, "inputs": inputs, "name": name}
            if weights is not None:
                entry["weights"] = weights
            for field in fields(operation):
                entry[field.name] = getattr(operation, field.name)
            layers.append(entry)
        return json.dumps({"format": FORMAT, "layers": layers})

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Rebuild a graph from the JSON of `to_json`.

        Raises:
            ValueError: the text does not describe a valid graph.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format must be {FORMAT}, but got {document['format']!r}")
            layers = []
            for entry in document["layers"]:
                operation = OPERATIONS[entry.pop("kind")]
                inputs, name = tuple(entry.pop("inputs")), entry.pop("name")
                weights = entry.pop("weights", None)
                if weights is not None:
                    weights = _checked_weights(weights)
                values = {k: _as_tuples(v) for k, v in entry.items()}
                layers.append(Layer(operation(**values), inputs, name, weights))
                _check_as_read(layers[-1].operation, values)
                if type(name) is not str or any(type(source) is not int for source in inputs):
                    raise ValueError(f"no name and inputs of a layer: {name!r}, {inputs!r}")
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not an architecture: {type(error).__name__} {error}") from None
        return cls(tuple(layers))


def _as_tuples(value: Any) -> Any:
    return tuple([_as_tuples(v) for v in value]) if isinstance(value, list) else value


def _checked_weights(value: Any) -> Weights:
    weights = Weights(*value)
    if any(type(count) is not int or count < 0 for count in weights):
        raise ValueError(f"the weights of a layer cannot be {value!r}")
    return weights


def _check_as_read(operation: Operation, values: dict[str, Any]) -> None:
    """Refuse short forms of values: they are for code, and JSON has one form for each graph."""
    for name, value in values.items():
        if getattr(operation, name) != value:
            raise ValueError(f"{name} of {operation.kind} cannot be {value!r}")


class Builder:
    """Collects layers in forward order.

    Example:
        >>> from spaces.operations import Convolution, GlobalPooling, Linear
        >>> builder = Builder((3, 32, 32))
        >>> x = builder.add(Convolution(16), builder.image)
        >>> x = builder.add(GlobalPooling(), x)
        >>> builder.add(Linear(10), x)
        3
        >>> builder.build().shapes[-1]
        (10, 1, 1)
    """

    image = 0
    """Index of the image."""

    def __init__(self, image_shape: Shape) -> None:
        self._layers = [Layer(Input(*image_shape))]

    def add(
        self, operation: Operation, *inputs: int, name: str = "", weights: Weights | None = None
    ) -> int:
        """Append a layer and return its index."""
        self._layers.append(Layer(operation, inputs, name, weights))
        return len(self._layers) - 1

    def build(self) -> Architecture:
        """Return the graph; its output is the layer that was added last."""
        return Architecture(tuple(self._layers))
