"""Fields of the experiment file that take a number, or a text with a meaning of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pydantic import GetJsonSchemaHandler, GetPydanticSchema
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema


def number_or_text(
    number: CoreSchema, read: Callable[[str], object | None], kind: type, forms: str
) -> GetPydanticSchema:
    """Return the annotation of a field.

    Args:
        number: validates everything that is not such a text.
        read: returns the value of a text, or None for a text that means nothing. Raises ValueError
            for a text with an error.
        kind: class of such values; ``str`` writes them as `read` reads them.
        forms: the numbers and texts in words, for messages.
    """

    def validate(value: Any, rest: core_schema.ValidatorFunctionWrapHandler) -> Any:
        if isinstance(value, kind):
            return value
        if not isinstance(value, str):
            return rest(value)
        found = read(value)
        if found is None and not _is_number(value):
            raise ValueError(f"use {forms}")
        # A number in quotes is refused with its own remedy.
        return rest(value) if found is None else found

    def schema(_source: object, _handler: object) -> CoreSchema:
        return core_schema.no_info_wrap_validator_function(
            validate,
            number,
            serialization=core_schema.plain_serializer_function_ser_schema(
                lambda value: str(value) if isinstance(value, kind) else value
            ),
        )

    def described(_schema: object, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"anyOf": [handler(number), {"type": "string", "description": forms}]}

    return GetPydanticSchema(schema, described)


def _is_number(text: str) -> bool:
    """Tell whether a text is a number, also one that only YAML writes so, such as ``.nan``."""
    try:
        float(text.strip().lstrip("+-."))
    except ValueError:
        return False
    return True
