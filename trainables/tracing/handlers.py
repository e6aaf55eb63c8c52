"""The table of handlers, which convert operations of a traced module to layers."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from trainables.tracing.calls import Call, Value
from trainables.tracing.graph import Graph

Handler: TypeAlias = Callable[[Graph, Call], Value]

HANDLERS: dict[str, Handler] = {}
"""Handlers by ATen name, without the underscore of in-place variants."""


def handles(*operations: str) -> Callable[[Handler], Handler]:
    """Register a function as the handler of these operations."""

    def register(handler: Handler) -> Handler:
        HANDLERS.update(dict.fromkeys(operations, handler))
        return handler

    return register


RULES: dict[str, Handler] = {}
"""Rules by ATen name, for operations that no handler expresses."""


def rule(*operations: str) -> Callable[[Handler], Handler]:
    """Register a function as the rule of these operations."""

    def register(handler: Handler) -> Handler:
        RULES.update(dict.fromkeys(operations, handler))
        return handler

    return register
