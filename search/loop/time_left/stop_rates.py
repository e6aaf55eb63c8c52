"""How many of the trials that reach a rung of ASHA continue."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

_PRIOR = 4.0
"""Trials at a rung that count as much as the assumption that trials are alike."""


def passing(earlier: int, reduction: int) -> float:
    """Return the probability that a trial continues at a rung, if all trials are alike.

    It follows from the rank of a value among those before it, as `search.loop.asha.Asha` compares.

    Args:
        earlier: trials that have reached the rung before.
        reduction: the best 1/reduction of the trials continue.

    Example:
        >>> [round(passing(earlier, 3), 2) for earlier in (0, 1, 2, 100)]
        [1.0, 0.5, 0.44, 0.34]
    """
    if not earlier:
        return 1.0
    return 1 - ((1 - 1 / reduction) * (earlier - 1) + 1) / (earlier + 1)


@dataclass(frozen=True)
class StopRates:
    """The trials at each rung so far, and how much more often than by chance they continue.

    A sampler that learns draws trials that are better than the earlier ones, so that more continue.

    Attributes:
        rungs: epochs.
        reached: trials that have reached each rung.
        reduction: the best 1/reduction of the trials continue.
        advantage: continued trials relative to those by chance.
    """

    rungs: tuple[int, ...]
    reached: tuple[int, ...]
    reduction: int
    advantage: float

    @classmethod
    def of(
        cls, rungs: tuple[int, ...], reduction: int, trainings: Sequence[tuple[int, bool]]
    ) -> StopRates:
        """Return the rates of a search.

        Args:
            rungs: epochs.
            reduction: the best 1/reduction of the trials continue.
            trainings: epochs of each trial, and whether it ended.
        """
        reached = tuple(sum(epochs >= rung for epochs, _ in trainings) for rung in rungs)
        expected = sum(passing(n, reduction) for count in reached for n in range(count))
        continued = sum(
            epochs > rung or (epochs == rung and not ended)
            for rung in rungs
            for epochs, ended in trainings
        )
        advantage = (continued + _PRIOR / reduction) / (expected + _PRIOR / reduction)
        return cls(rungs, reached, reduction, advantage)

    def probability(self, rung: int, more: int) -> float:
        """Return the probability that a trial continues at a rung.

        Args:
            rung: index of the rung.
            more: trials that reach it before this one, beside those so far.
        """
        by_chance = passing(self.reached[rung] + more, self.reduction)
        return min(1.0, by_chance * self.advantage)
