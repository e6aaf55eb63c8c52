"""Proposes candidates: draws at random, and mutations of good candidates.

A mutation runs the space function again on the parameters of a parent, of which some are changed.
Parameters that only the new network has are drawn at random. So every define-by-run space can be
mutated, however its parameters depend on each other.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, TypeAlias, TypeVar, cast

import numpy as np
from numpy.typing import NDArray
from optuna.trial import BaseTrial

from search.loop.screens import Screen, judge
from spaces.candidate import CandidateSpace
from spaces.errors import InvalidCandidateError

Params: TypeAlias = Mapping[str, Any]
Floats: TypeAlias = NDArray[np.float64]
T = TypeVar("T")

STEP = 0.2
"""Standard deviation of a changed number, as a fraction of its range."""
RESTART = 0.3
"""Probability that a changed number is drawn anew from its whole range."""
CROSSOVER = 0.25
"""Probability that a child takes each parameter from one of two parents."""
TRIES = 8
"""Draws per wanted candidate, most of which the screens may reject."""
DRY_AFTER = 500
"""Draws without a new candidate after which a space counts as exhausted; rejected ones do not
count."""


@dataclass(frozen=True)
class Proposal:
    """A candidate that every screen accepts.

    Attributes:
        params: from which the space draws it.
        digest: of the candidate.
        features: see `CandidateSpace.features`.
        macs: multiply-accumulates for one image.
    """

    params: dict[str, Any]
    digest: str
    features: tuple[float, ...]
    macs: int


def random_of(seed: int, *parts: object) -> Random:
    """Return random numbers that depend on a seed and on what they are for, in every process."""
    return Random(" ".join(map(str, (seed, *parts))))  # noqa: S311 - nothing is secret here


class ProposalTrial:
    """Answers a space function from the parameters of parents, with some of them changed.

    Args:
        random: source of all choices.
        parent: parameters that are kept unless they are changed; empty draws everything.
        changed: names of the parameters that are changed.

    Attributes:
        params: the values suggested so far.
    """

    def __init__(
        self, random: Random, parent: Params | None = None, changed: Collection[str] = ()
    ) -> None:
        self.params: dict[str, Any] = {}
        self._random = random
        self._parent = parent or {}
        self._changed = changed

    def suggest_float(
        self, name: str, low: float, high: float, *, step: float | None = None, log: bool = False
    ) -> float:
        """Suggest a float."""
        if name in self.params:
            return float(self.params[name])
        kept: Any = self._parent.get(name)
        known = type(kept) in (int, float) and low <= kept <= high
        if known and name not in self._changed and _is_step(kept - low, step):
            # Computed again from its step, it could differ in the last digit.
            self.params[name] = float(kept)
            return float(kept)
        if known and name not in self._changed:
            value = float(kept)
        elif low == high:
            value = low
        else:
            ends = (math.log(low), math.log(high)) if log else (low, high)
            start = None if not known else math.log(kept) if log else kept
            value = self._number(*ends, start)
            value = math.exp(value) if log else value
        if step is not None:
            # Optuna, too, lowers an end that is no step; 3 * 0.1 is above 0.3 by rounding alone.
            steps = math.floor((high - low) / step + 1e-8)
            value = low + min(round((value - low) / step), steps) * step
        value = min(max(value, low), high)
        self.params[name] = value
        return value

    def suggest_int(
        self, name: str, low: int, high: int, *, step: int = 1, log: bool = False
    ) -> int:
        """Suggest an integer."""
        if name in self.params:
            return int(self.params[name])
        kept: Any = self._parent.get(name)
        known = type(kept) is int and low <= kept <= high and (kept - low) % step == 0
        value: int = kept
        if not known or name in self._changed:
            # The ends lie half a step further, so that each integer is equally likely.
            wide = (low - step / 2, high + step / 2)
            ends = (math.log(wide[0]), math.log(wide[1])) if log else wide
            start = None if not known else math.log(value) if log else value
            found = self._number(*ends, start)
            found = math.exp(found) if log else found
            value = min(max(low + round((found - low) / step) * step, low), high)
            value -= (value - low) % step
            if known and value == kept:
                value = kept + step if self._random.random() < 0.5 else kept - step
                value = value if low <= value <= high else 2 * kept - value
                value = value if low <= value <= high else kept
        self.params[name] = value
        return value

    def suggest_categorical(self, name: str, choices: Sequence[T]) -> T:
        """Suggest a choice."""
        if name in self.params:
            return cast("T", self.params[name])
        known = name in self._parent and _contains(choices, self._parent[name])
        value = cast("T", self._parent.get(name))
        if not known:
            value = self._random.choice(choices)
        elif name in self._changed and len(choices) > 1:
            value = self._random.choice([each for each in choices if each != value] or choices)
        self.params[name] = value
        return value

    def _number(self, low: float, high: float, start: float | None) -> float:
        """Draw a number, near the start if there is one."""
        if start is None or self._random.random() < RESTART:
            return self._random.uniform(low, high)
        return min(max(self._random.gauss(start, STEP * (high - low)), low), high)


def _is_step(distance: float, step: float | None) -> bool:
    """Tell whether a distance is a whole number of steps, up to rounding."""
    return step is None or abs(distance / step - round(distance / step)) < 1e-8


def _contains(choices: Sequence[object], value: object) -> bool:
    """Tell whether a value is a choice; True is not 1."""
    return any(each == value and type(each) is type(value) for each in choices)


class Proposer:
    """Draws candidates that every screen accepts; no trial of the study is used for it.

    Args:
        space: to draw from.
        screens: that reject candidates.
    """

    def __init__(self, space: CandidateSpace, screens: Sequence[Screen]) -> None:
        self._space = space
        self._screens = screens

    def at_random(self, random: Random, count: int, avoid: Collection[str] = ()) -> list[Proposal]:
        """Return up to so many different candidates, drawn at random.

        Args:
            random: source of all choices.
            count: number of candidates.
            avoid: digests of candidates that are left out.
        """
        return self._collect(count, lambda: ProposalTrial(random), avoid)

    def mutated(self, random: Random, parents: Sequence[Params], count: int) -> list[Proposal]:
        """Return up to so many different mutations of parents, the best of which come first.

        Better parents have more children: the first of n has n times as many as the last.
        """
        weights = list(range(len(parents), 0, -1))

        def child() -> ProposalTrial:
            first, second = random.choices(parents, weights, k=2)
            return _child(random, first, second)

        return self._collect(count, child) if parents else []

    def describe(self, params: Params, digest: str = "") -> Proposal | None:
        """Describe the candidate of a trial; None if the space no longer draws it.

        Raises:
            BadInputError: the function of the space's own features fails.
        """
        try:
            candidate = self._space.rebuild(params, digest)
            macs = candidate.costs.macs
        except ValueError:
            return None
        features = self._space.features(candidate)
        return Proposal(dict(params), candidate.digest, features, macs)

    def accepts(self, proposal: Proposal) -> bool:
        """Tell whether every screen accepts a proposal."""
        return judge(self._space.rebuild(proposal.params), self._screens) is None

    def _collect(
        self, count: int, make: Callable[[], ProposalTrial], avoid: Collection[str] = ()
    ) -> list[Proposal]:
        found: dict[str, Proposal] = {}
        repeated = 0
        for _ in range(TRIES * count):
            trial = make()
            try:
                candidate = self._space.draw(cast("BaseTrial", trial))
            except InvalidCandidateError:
                continue
            digest = candidate.digest
            if digest in found or digest in avoid:
                repeated += 1
                if repeated == DRY_AFTER:
                    break
                continue
            self._space.check_output(candidate)
            if judge(candidate, self._screens) is not None:
                continue
            features = self._space.features(candidate)
            found[digest] = Proposal(trial.params, digest, features, candidate.costs.macs)
            repeated = 0
            if len(found) == count:
                break
        return list(found.values())


def _child(random: Random, first: Params, second: Params) -> ProposalTrial:
    if random.random() < CROSSOVER:
        mixed = {**second, **first}
        for name in second:
            if name in first and random.random() < 0.5:
                mixed[name] = second[name]
        first = mixed
        changes = 0 if random.random() < 0.5 else 1
    else:
        # One change, with probability 1/2 a second one, and so on.
        changes = 1
        while random.random() < 0.5:
            changes += 1
    names = list(first)
    return ProposalTrial(random, first, set(random.sample(names, min(changes, len(names)))))


def features_of(proposals: Sequence[Proposal]) -> Floats:
    """Return the features of proposals, of shape (proposals, features)."""
    return np.array([each.features for each in proposals], dtype=np.float64)
