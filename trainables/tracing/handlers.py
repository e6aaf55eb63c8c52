"""The table of handlers: what each operation of a traced module becomes."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from trainables.tracing.graph import Call, Graph, Value

Handler: TypeAlias = Callable[[Graph, Call], Value]

HANDLERS: dict[str, Handler] = {}
"""By the name of the operation in ATen, without the underscore of its in-place variant."""


def handles(*operations: str) -> Callable[[Handler], Handler]:
    """Register a function as the handler of these operations."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(operations, handler))
        return handler

    return register
