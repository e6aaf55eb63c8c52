"""The accepted candidates of a space: how many there are, and the range of their costs."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles

from spaces.candidate import Candidate

MB = 1e6


@dataclass(frozen=True)
class Range:
    """The range of a cost over random accepted candidates.

    Attributes:
        least: smallest value.
        low: a tenth of the candidates is below.
        median: half of them is below.
        high: a tenth is above.
        most: largest value.
    """

    least: float
    low: float
    median: float
    high: float
    most: float

    @classmethod
    def of(cls, values: Sequence[float]) -> Range:
        """Return the range of one value or more."""
        if len(values) == 1:
            return cls(*[values[0]] * 5)
        deciles = quantiles(values, n=10, method="inclusive")
        return cls(min(values), deciles[0], deciles[4], deciles[-1], max(values))


@dataclass(frozen=True)
class SpaceSize:
    """An estimate of how many networks a space holds, without their recipes.

    Random draws repeat themselves more often in a small space. A space that draws some networks
    more often than others looks smaller than it is, so that the estimate is a lower bound.

    Attributes:
        least: lower end of a 95 % interval.
        most: upper end; None where no network was drawn twice.
    """

    least: float
    most: float | None

    @classmethod
    def of(cls, digests: Sequence[str]) -> SpaceSize:
        """Estimate the size from the digests of random networks."""
        pairs_drawn = len(digests) * (len(digests) - 1) / 2
        equal = sum(count * (count - 1) / 2 for count in Counter(digests).values())
        # A Poisson count: its 95 % interval is that of the square root, 2 * sqrt(n) +- 2.
        high = (math.sqrt(equal) + 1) ** 2 if equal else 3.0
        low = max(0.0, math.sqrt(equal) - 1) ** 2
        return cls(pairs_drawn / high, pairs_drawn / low if low else None)

    @property
    def shown(self) -> str:
        """The estimate in words."""
        least = f"{_rounded(self.least):,}"
        if self.most is None:
            return f"at least about {least} networks"
        return f"about {least} to {_rounded(self.most):,} networks, or more"


def costs_of(accepted: Sequence[Candidate]) -> dict[str, Range]:
    """Return the ranges of the costs of one accepted candidate or more, by name with unit."""
    costs = [each.costs for each in accepted]
    memory = [each.training_memory() / MB for each in accepted]
    return {
        "parameters": Range.of([each.params for each in costs]),
        "MMACs for one image": Range.of([each.macs / 1e6 for each in costs]),
        "MB to train": Range.of(memory),
    }


def _rounded(number: float) -> int:
    """Return a number with two digits."""
    if number < 10:
        return max(1, round(number))
    unit = 10.0 ** (int(math.log10(number)) - 1)
    return round(round(number / unit) * unit)
