"""An architecture: a frozen graph of layers from which everything else is derived.

Receptive fields, border, costs, the duplicate hash, the JSON and the ``torch.nn.Module`` are all
functions of this graph; building and analysing one never touches torch.
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
    Input,
    Operation,
    Shape,
    Window,
    check_values,
)

FORMAT = 1


@lru_cache(maxsize=1 << 16)
def _text(operation: Operation) -> str:
    """Return all of an operation as text; most layers of most candidates recur."""
    return repr(operation)


class Layer(NamedTuple):
    """One operation and the layers (by index) whose outputs it takes."""

    operation: Operation
    inputs: tuple[int, ...] = ()
    name: str = ""


class CollapsedLayerError(CollapsedMapError):
    """A feature map of an architecture would have no pixel left.

    Attributes:
        index: the first layer concerned.
    """

    def __init__(self, index: int, problem: str) -> None:
        self.index = index
        super().__init__(f"layer {index}: {problem}")


@dataclass(frozen=True)
class Architecture:
    """A directed acyclic graph of layers in forward order.

    Layer 0 is the image, the last layer is the output, and every layer takes its inputs from
    layers before it.

    Args:
        layers: the layers, in forward order.

    Raises:
        ValueError: the layers do not form such a graph.
    """

    layers: tuple[Layer, ...]

    def __post_init__(self) -> None:
        if not self.layers or not isinstance(self.layers[0].operation, Input):
            raise ValueError("layer 0 must be the Input")
        for index, (operation, inputs, _) in enumerate(self.layers):
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
            CollapsedLayerError: a feature map has no pixel left.
            ValueError: inputs do not fit an operation.
        """
        shapes: list[Shape] = []
        for index, (operation, inputs, _) in enumerate(self.layers):
            try:
                shapes.append(operation.output_shape(tuple([shapes[i] for i in inputs])))
            except CollapsedMapError as error:
                raise CollapsedLayerError(index, str(error)) from None
            except ValueError as error:
                raise ValueError(f"layer {index} ({operation.kind}): {error}") from None
        return tuple(shapes)

    @cached_property
    def windows(self) -> tuple[tuple[Window, Window] | None, ...]:
        """Sliding window (height, width) of every layer, None where each pixel stays alone.

        Raises:
            CollapsedLayerError: a feature map has no pixel left.
        """
        shapes = self.shapes
        return tuple(
            [
                operation.windows(tuple([shapes[i] for i in inputs]))
                for operation, inputs, _ in self.layers
            ]
        )

    def indices(self, *kinds: type[Operation]) -> list[int]:
        """Return the indices of the layers of these kinds, in forward order."""
        return [i for i, layer in enumerate(self.layers) if type(layer.operation) in kinds]

    @cached_property
    def digest(self) -> str:
        """Hash of the function space the graph spans: 32 hexadecimal digits.

        Equal for graphs that differ only in names, in the order in which independent layers are
        listed, in the order of the summands of an addition, or in layers that do not reach the
        output. Different graphs get different digests: the hash is taken over a complete
        serialisation, in which every layer stands once, in the order of a walk from the output.
        (Summands that are equal below but used differently above keep their order: such a twin may
        be missed as a duplicate, never a different graph taken for one.)
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
        """Return the layers that reach the output, each with its inputs, inputs first.

        The order depends on the graph alone, not on the order in which its layers are listed.
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
            operation, inputs, _ = self.layers[index]
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
        """Return for every layer a key of all that lies below it, to put summands in order."""
        keys: list[bytes] = []
        for operation, inputs, _ in self.layers:
            below = [keys[i] for i in inputs]
            if type(operation) is Add:
                below.sort()
            keys.append(hashlib.blake2b(repr((operation, below)).encode()).digest())
        return keys

    def to_json(self) -> str:
        """Return the graph as JSON; ``from_json`` gives back an equal one."""
        layers = []
        for operation, inputs, name in self.layers:
            entry: dict[str, Any] = {"kind": operation.kind, "inputs": inputs, "name": name}
            for field in fields(operation):
                entry[field.name] = getattr(operation, field.name)
            layers.append(entry)
        return json.dumps({"format": FORMAT, "layers": layers})

    @classmethod
    def from_json(cls, text: str) -> Architecture:
        """Rebuild a graph from ``to_json``.

        Raises:
            ValueError: the text is not such a graph.
        """
        try:
            document = json.loads(text)
            if document["format"] != FORMAT:
                raise ValueError(f"format must be {FORMAT}, but got {document['format']!r}")
            layers = []
            for entry in document["layers"]:
                operation = OPERATIONS[entry.pop("kind")]
                inputs, name = tuple(entry.pop("inputs")), entry.pop("name")
                values = {k: tuple(v) if isinstance(v, list) else v for k, v in entry.items()}
                layers.append(Layer(operation(**values), inputs, name))
                check_values(layers[-1].operation)
                if type(name) is not str or any(type(source) is not int for source in inputs):
                    raise ValueError(f"no name and inputs of a layer: {name!r}, {inputs!r}")
        except (KeyError, TypeError, AttributeError, RecursionError) as error:
            raise ValueError(f"not an architecture: {type(error).__name__} {error}") from None
        return cls(tuple(layers))


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
    """Index of the image, the first layer's input."""

    def __init__(self, image_shape: Shape) -> None:
        self._layers = [Layer(Input(*image_shape))]

    def add(self, operation: Operation, *inputs: int, name: str = "") -> int:
        """Append a layer and return its index."""
        self._layers.append(Layer(operation, inputs, name))
        return len(self._layers) - 1

    def build(self) -> Architecture:
        """Return the graph; the layer added last is its output."""
        return Architecture(tuple(self._layers))
