"""How a search ends: with an outcome, or with an error that its user can resolve."""

from __future__ import annotations

from dataclasses import dataclass

from search.study.finalists import Finalist
from search.study.summary import Summary


class SearchFailedError(RuntimeError):
    """A search with a valid experiment that ended without a result."""


@dataclass(frozen=True)
class Outcome:
    """How a search ended.

    Attributes:
        interrupted: whether it was stopped before its budget was spent.
        summary: of its study.
        finalists: best first.
    """

    interrupted: bool
    summary: Summary
    finalists: list[Finalist]
