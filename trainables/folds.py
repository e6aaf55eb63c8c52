"""The setting of cross-validation: into how many folds the training images are divided."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WRITTEN = re.compile(r"folds\s*=\s*([0-9]{1,4})(?:\s*x\s*([0-9]{1,4}))?", re.IGNORECASE)
MOST = 20
"""Most folds, and most repetitions; each fold of each repetition is a training."""


@dataclass(frozen=True)
class Folds:
    """Validation by folds instead of one held-out split.

    Attributes:
        count: number of folds; each is held out once.
        repetitions: how often the images are divided, each time in another way.
    """

    count: int
    repetitions: int = 1

    def __str__(self) -> str:
        repeated = f"x{self.repetitions}" if self.repetitions > 1 else ""
        return f"folds={self.count}{repeated}"

    @property
    def trainings(self) -> int:
        """Number of networks that each trial trains."""
        return self.count * self.repetitions

    @classmethod
    def parse(cls, text: str) -> Folds | None:
        """Return the folds that a text describes; None for a text about something else.

        Raises:
            ValueError: the text starts with ``folds``, but its numbers cannot be used.

        Example:
            >>> Folds.parse("folds=5x2"), Folds.parse("a fifth")
            (Folds(count=5, repetitions=2), None)
        """
        if not text.strip().lower().startswith("fold"):
            return None
        match = _WRITTEN.fullmatch(text.strip())
        found = cls(int(match[1]), int(match[2] or 1)) if match else None
        if found is None or not (2 <= found.count <= MOST and 1 <= found.repetitions <= MOST):
            raise ValueError(
                f"use folds=5 (2 to {MOST} folds), or folds=5x2 for two repetitions (up to {MOST})"
            )
        return found
