"""The calls of a traced module and the values that they take and return."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from trainables.tracing.layout import Map, UnsupportedError


@dataclass(frozen=True)
class Constant:
    """A tensor that does not depend on the image.

    Attributes:
        shape: of the tensor.
        sources: the parameters it comes from, by name.
        calculations: the operations that calculate it, if they cost multiply-accumulates.
    """

    shape: tuple[int, ...]
    sources: frozenset[str] = frozenset()
    calculations: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Parts:
    """The result of a split; a part becomes a layer when it is taken.

    Attributes:
        whole: the tensor split.
        dim: along which dimension.
        bounds: where each part starts and stops.
        single: whether the dimension is removed from the parts, which are one wide.
    """

    whole: Map
    dim: int
    bounds: tuple[tuple[int, int], ...]
    single: bool = False


@dataclass(frozen=True)
class Results:
    """The results of an operation with several."""

    items: tuple[Value, ...]


Value: TypeAlias = "Map | Constant | Parts | Results"


@dataclass(frozen=True)
class Call:
    """One operation of the traced module.

    Attributes:
        operation: its name in ATen, such as ``conv2d``.
        arguments: by the names of its schema, defaults included, tensors as values.
        shape: of the result; of a list of results None.
        shapes: of all the results.
        name: of the layer, if it becomes one.
        count_macs: counts multiply-accumulates per sample.
    """

    operation: str
    arguments: dict[str, Any]
    shape: tuple[int, ...] | None
    shapes: tuple[tuple[int, ...], ...]
    name: str
    count_macs: Callable[[], int] = lambda: 0

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
