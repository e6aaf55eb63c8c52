"""Stores choices such that a database returns them unchanged.

Optuna stores the choices of a parameter as JSON, which turns a tuple into a list and cannot hold
bytes. A choice that JSON changes is stored as text. The space passes the same choices again when it
rebuilds a candidate, so the text leads back to the choice.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from enum import Enum
from typing import Any, TypeAlias

import numpy as np

Stored: TypeAlias = bool | int | float | str | None
"""A value that JSON and the database return unchanged."""

_EXACT = (bool, int, type(None))


class StoredChoices:
    """The choices of one parameter, as the space passes them and as the study stores them.

    NumPy scalars become Python's. A tuple, a list or a member of an enumeration is stored as text.

    Args:
        choices: as passed by the space.

    Attributes:
        stored: of each choice, in the same order.

    Raises:
        ValueError: a choice cannot be stored, or two choices cannot be told apart.

    Example:
        >>> pairs = StoredChoices([(3, 3), (3, 5)])
        >>> pairs.stored
        ('(3, 3)', '(3, 5)')
        >>> pairs.restore("(3, 5)")
        (3, 5)
    """

    def __init__(self, choices: Iterable[Any]) -> None:
        if isinstance(choices, AbstractSet):
            raise ValueError(f"the choices {choices} have no fixed order, use a list")
        self._values = tuple([_plain(choice) for choice in choices])
        self.stored = tuple([_stored(value) for value in self._values])
        if len(set(self.stored)) < len(self.stored):
            self._refuse_ambiguous()

    def restore(self, stored: Stored) -> Any:
        """Return the choice that is stored as this value."""
        return self._values[self.stored.index(stored)]

    def _refuse_ambiguous(self) -> None:
        known: dict[Stored, Any] = {}
        for stored, value in zip(self.stored, self._values, strict=True):
            first = known.setdefault(stored, value)
            if type(first) is not type(value) or repr(first) != repr(value):
                raise ValueError(f"the choices {first!r} and {value!r} cannot be told apart")


def check_text(text: str) -> None:
    """Check that every database and terminal accepts a text.

    Raises:
        ValueError: it contains a NUL or half of a surrogate pair.
    """
    if not text.isprintable() and ("\0" in text or not _is_unicode(text)):
        raise ValueError(f"the text {text!a} contains a NUL or a lone surrogate")


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _plain(choice: Any) -> Any:
    """Return a choice with NumPy scalars as Python's."""
    if isinstance(choice, np.generic):
        return choice.item()
    if type(choice) in (tuple, list):
        return type(choice)([_plain(each) for each in choice])
    return choice


def _stored(value: Any) -> Stored:
    kind = type(value)
    if kind in _EXACT:
        return value  # type: ignore[no-any-return]
    if kind is float:
        if not math.isfinite(value):
            raise ValueError(f"the choice {value} is not finite")
        return value  # type: ignore[no-any-return]
    if kind is str:
        check_text(value)
        return value  # type: ignore[no-any-return]
    return _text(value)


def _text(value: Any) -> str:
    """Return a text that identifies a choice in every process."""
    kind = type(value)
    if kind in (tuple, list):
        parts = ", ".join([_text(each) for each in value])
        if kind is list:
            return f"[{parts}]"
        return f"({parts},)" if len(value) == 1 else f"({parts})"
    if isinstance(value, Enum) and value.name is not None:
        return f"{kind.__name__}.{value.name}"
    if kind in _EXACT or kind in (float, str):
        return repr(_stored(value))
    shown = ascii(value)[:60]
    raise ValueError(f"the choice {shown} is a {kind.__name__}, which a database cannot store")
