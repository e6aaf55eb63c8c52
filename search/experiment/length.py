"""The length of a training in steps or images, which the number of images turns into epochs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Literal

from pydantic_core import core_schema

from search.experiment.number_or_text import number_or_text

_WRITTEN = re.compile(
    r"([0-9][0-9_,]*(?:\.[0-9]+)?)\s*([km]?)\s*(epoch|step|image)s?", re.IGNORECASE
)
_POINT_FOR_THOUSANDS = re.compile(r"([1-9][0-9]{0,2})\.([0-9]{3})")
_MULTIPLES = {"": 1, "k": 1_000, "m": 1_000_000}
_MOST = 10**15


@dataclass(frozen=True)
class Length:
    """The length of a training in a unit other than epochs.

    Attributes:
        amount: number of steps or images, at least 1.
        unit: ``steps``, or ``images`` (each counts as often as a training sees it).
    """

    amount: int
    unit: Literal["steps", "images"]

    def __str__(self) -> str:
        return f"{self.amount} {self.unit}"

    def epochs(self, images: int, batch_size: int) -> int:
        """Return the fewest whole epochs that have this length.

        Args:
            images: number of training images.
            batch_size: images of a step.

        Example:
            >>> Length(2000, "steps").epochs(images=215, batch_size=8)
            75
        """
        wanted = self.amount * (batch_size if self.unit == "steps" else 1)
        return -(-wanted // images)


def parse_length(text: str) -> Length | int | None:
    """Return the length that a text describes: epochs as a number; None for any other text.

    Raises:
        ValueError: it is a length, but not a whole number above 0.

    Example:
        >>> parse_length("300k images"), parse_length("20 epochs"), parse_length("ten")
        (Length(amount=300000, unit='images'), 20, None)
    """
    match = _WRITTEN.fullmatch(text.strip())
    if match is None:
        if re.match(r"\s*[0-9].*[a-z]{2}", text, re.IGNORECASE):  # Not 1e3.
            raise ValueError("use a number of epochs, or a text such as 2000 steps or 300k images")
        return None
    thousands = _POINT_FOR_THOUSANDS.fullmatch(match[1])
    if thousands and not match[2]:
        whole, last = thousands.groups()
        short = f"{whole}k" if last == "000" else f"{whole},{last}"
        raise ValueError(f"a point separates decimals; write {whole}{last} or {short}")
    number = Decimal(re.sub("[_,]", "", match[1])) * _MULTIPLES[match[2].lower()]
    unit = match[3].lower()
    if number % 1 or not 1 <= number < _MOST:
        raise ValueError(f"use a whole number of {unit}s, 1 or more")
    if unit == "epoch":
        return int(number)
    return Length(int(number), "steps" if unit == "step" else "images")


LENGTH = number_or_text(
    core_schema.int_schema(ge=1, strict=True),
    parse_length,
    Length,
    "a number of epochs, or a text such as 2000 steps or 300k images",
)
"""Annotation of a field that takes a number of epochs, or a text for a `Length`."""
