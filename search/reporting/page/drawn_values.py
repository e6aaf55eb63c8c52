"""The drawn parameters of trials as numbers: each of its own, and means over layers."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from search.study.records import TrialRecord

_INDEXED = re.compile(r"(.+)_(\d+)")


@dataclass(frozen=True)
class Drawn:
    """A parameter of a space, or the mean of one that each layer has.

    Attributes:
        name: as a chart shows it.
        values: by number of the trial; trials without the parameter are missing.
        log: whether its values span more than a factor of 20.
    """

    name: str
    values: Mapping[int, float]

    @property
    def log(self) -> bool:
        """Whether a logarithmic axis suits the values."""
        found = list(self.values.values())
        return min(found) > 0 and max(found) / min(found) > 20

    @property
    def varies(self) -> bool:
        """Whether there are two different values."""
        return len(set(self.values.values())) > 1


def drawn_values(records: Sequence[TrialRecord]) -> list[Drawn]:
    """Return the numeric parameters of trials.

    Parameters that end with a number, such as ``features_3``, count together as their mean over the
    layers. Texts such as the name of an optimiser are left out.
    """
    own: dict[str, dict[int, float]] = {}
    grouped: dict[str, dict[int, list[float]]] = {}
    for record in records:
        for name, value in record.params.items():
            if isinstance(value, str) or not isinstance(value, int | float):
                continue
            if match := _INDEXED.fullmatch(name):
                grouped.setdefault(match[1], {}).setdefault(record.number, []).append(float(value))
            else:
                own.setdefault(name, {})[record.number] = float(value)
    means = [
        Drawn(f"mean {_words(name)}", {number: fmean(each) for number, each in found.items()})
        for name, found in grouped.items()
    ]
    return [*(Drawn(_words(name), found) for name, found in own.items()), *means]


def _words(name: str) -> str:
    return name.replace("_", " ")
