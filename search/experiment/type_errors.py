"""Explains values of the wrong type or size in an experiment: what is wrong, and what to write."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any

_LONGEST = 40


def explain_value(kind: str, value: object, context: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return problem and remedy of an error of pydantic; None for a kind that is not known here.

    Args:
        kind: of the error, as pydantic names it.
        value: that was given.
        context: of the error, such as the limit that the value exceeds.

    Example:
        >>> explain_value("greater_than_equal", 0, {"ge": 1})
        ('is under 1', 'use 1 or more')
        >>> explain_value("literal_error", "tpa", {"expected": "'auto', 'tpe' or 'random'"})
        ('is none of auto, tpe, random', 'did you mean tpe?')
    """
    explain = _BY_KIND.get(kind)
    return None if explain is None else explain(value, context)


def _limit(problem: str, key: str, remedy: str) -> Callable[..., tuple[str, str]]:
    def explain(_value: object, context: Mapping[str, Any]) -> tuple[str, str]:
        limit = context[key]
        shown = f"{limit:,.15g}".replace(",", "") if isinstance(limit, float) else str(limit)
        return problem.format(shown), remedy.format(shown)

    return explain


def _fixed(problem: str, remedy: str) -> Callable[..., tuple[str, str]]:
    return lambda _value, _context: (problem, remedy)


def _text(value: object, _context: object) -> tuple[str, str]:
    if isinstance(value, list | dict):
        return (
            f"is a {'list' if isinstance(value, list) else 'mapping'}, not text",
            "write one text",
        )
    shown = str(value).lower() if isinstance(value, bool) else str(value)
    return "is not text", f'write "{shown}" in quotes'


def _list(value: object, _context: object) -> tuple[str, str]:
    short = len(str(value)) <= _LONGEST and not isinstance(value, dict)
    return "is not a list", f"write [{value}]" if short else "write [first, second]"


def _choice(value: object, context: Mapping[str, Any]) -> tuple[str, str]:
    known = [each.strip("'") for each in context["expected"].replace(" or ", ", ").split(", ")]
    close = get_close_matches(str(value).lower(), known, n=1)
    remedy = f"did you mean {close[0]}?" if close else "use one of them"
    return f"is none of {', '.join(known)}", remedy


_BY_KIND: Mapping[str, Callable[..., tuple[str, str]]] = {
    "int_type": _fixed("is not a whole number", "write digits only, such as 8"),
    "float_type": _fixed("is not a number", "write a number, such as 0.5"),
    "bool_type": _fixed("is neither true nor false", "use one of the two"),
    "finite_number": _fixed("is not finite", "use a finite number"),
    "string_type": _text,
    "string_too_short": _fixed("is empty", "write text, or leave it out"),
    "list_type": _list,
    "dict_type": _fixed("is not a mapping", "write {name: value}"),
    "literal_error": _choice,
    "greater_than_equal": _limit("is under {}", "ge", "use {} or more"),
    "greater_than": _limit("is not over {}", "gt", "use more than {}"),
    "less_than_equal": _limit("is over {}", "le", "use {} or less"),
    "less_than": _limit("is not under {}", "lt", "use less than {}"),
}
