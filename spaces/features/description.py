"""Joins the features of a candidate: its network, its recipe, and what a user's space adds."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from spaces.architecture import Architecture
from spaces.costs import Costs
from spaces.errors import BadInputError
from spaces.features.network import NETWORK_FEATURES, network_features
from spaces.features.training import RECIPE_FEATURES, recipe_features
from spaces.recipe import Recipe
from spaces.user_code import RAISED_BY_USERS, place_of

OwnFeatures: TypeAlias = Callable[[Architecture], Mapping[str, float]]


class Description:
    """The features of the candidates of one space.

    A space adds features of its own by an attribute of its function::

        def my_space(trial, task): ...

        my_space.features = lambda architecture: {"branches": float(count(architecture))}

    The function returns finite numbers under the same names for every architecture.

    Args:
        space: name of the space, for errors.
        own: the features that the space adds; None adds none.
    """

    def __init__(self, space: str, own: OwnFeatures | None = None) -> None:
        self._space = space
        self._own = own
        self._own_names: tuple[str, ...] | None = None if own else ()

    def features(
        self, architecture: Architecture, recipe: Recipe, known_costs: Costs | None = None
    ) -> tuple[float, ...]:
        """Return the features of a candidate: of its network, its recipe, and the space's own.

        The order is that of `NETWORK_FEATURES`, then `RECIPE_FEATURES`, then the names that the
        space returns for the first architecture. The length is the same for all candidates.

        Args:
            architecture: of the candidate.
            recipe: of the candidate.
            known_costs: of the architecture; None derives them.

        Raises:
            BadInputError: the space's function fails, or returns other names than before, or
                values that are not finite numbers.
            CollapsedLayerError: a feature map has less than one pixel.
        """
        shared = network_features(architecture, known_costs) + recipe_features(recipe)
        return shared if self._own is None else shared + self._added(self._own, architecture)

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the features; those of the space follow once an architecture is described."""
        return NETWORK_FEATURES + RECIPE_FEATURES + (self._own_names or ())

    def _added(self, own: OwnFeatures, architecture: Architecture) -> tuple[float, ...]:
        try:
            found = dict(own(architecture))
        except RAISED_BY_USERS as error:
            cause = f"{type(error).__name__}: {error}{place_of(error)}"
            raise self._refuse(f"the function of its features raised {cause}", "fix it") from error
        if self._own_names is None:
            self._own_names = tuple(found)
        if found.keys() != set(self._own_names):
            odd = ", ".join(sorted(map(str, found.keys() ^ set(self._own_names))))
            problem = f"has {odd} among the features of some networks only"
            raise self._refuse(problem, "return the same names for every architecture")
        for name, value in found.items():
            if not isinstance(value, (int, float)) or not math.isfinite(value):
                problem = f"returns {value!r} as the feature {name}"
                raise self._refuse(problem, "return finite numbers")
        return tuple([float(found[name]) for name in self._own_names])

    def _refuse(self, problem: str, remedy: str) -> BadInputError:
        return BadInputError("space", self._space, problem, remedy)
