"""Draws candidates from a space, or rebuilds them from the parameters of a trial."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from math import inf
from typing import Any, TypeAlias

from optuna.trial import BaseTrial, FixedTrial

from spaces.architecture import Architecture, CollapsedLayerError
from spaces.convmixer import convmixer
from spaces.costs import Costs, costs
from spaces.densenet import densenet
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.features.description import Description
from spaces.recipe import DRAWN, Recipe, recipe
from spaces.remedies import Truncated, Truncation
from spaces.resnet import resnet
from spaces.suggestions.checked_trial import CheckedTrial
from spaces.task import Task
from spaces.user_code import RAISED_BY_USERS, defined_at, load_object, place_of, remedy_of
from spaces.vgg import vgg

Space: TypeAlias = Callable[[BaseTrial, Task], Architecture]

FAMILIES: dict[str, Callable[..., Architecture]] = {
    "vgg": vgg,
    "resnet": resnet,
    "densenet": densenet,
    "convmixer": convmixer,
}

_RESERVED = frozenset(DRAWN)
_PURE = (
    "use suggested values alone: no random numbers, clock, files, order of a set, or state of an "
    "earlier call"
)


@dataclass(frozen=True)
class Candidate:
    """An architecture and the recipe that trains it.

    Attributes:
        architecture: the network.
        recipe: that trains it.
        truncated: how far the network was truncated after it was drawn; None if it was not.
    """

    architecture: Architecture
    recipe: Recipe
    truncated: Truncated | None = None

    @cached_property
    def costs(self) -> Costs:
        """Costs of the architecture; see `spaces.costs.costs`."""
        return costs(self.architecture)

    def training_memory(self, *, bfloat16: bool = False) -> int:
        """Predict the training memory in bytes; see `spaces.costs.Costs.training_memory`."""
        recipe = self.recipe
        kept = 2 if recipe.optimizer == "adamw" else int(recipe.momentum > 0)
        kept += (recipe.ema > 0) + (recipe.lookahead > 0)
        return self.costs.training_memory(
            recipe.batch_size, bfloat16=bfloat16, optimizer_values=kept
        )

    @cached_property
    def digest(self) -> str:
        """Hash that is equal for equal networks with equal recipes."""
        text = f"{self.architecture.digest} {self.recipe!r}"
        return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()


class CandidateSpace:
    """A space with its options: draws candidates on the driver and rebuilds them on workers.

    Args:
        task: the images and classes.
        space: a family's name (``vgg``), ``module:function``, or the function itself. Specs for
            workers need a name.
        space_options: keyword arguments of the space function.
        recipe_options: keyword arguments of `spaces.recipe.recipe`.
        folders: absolute folders of users' modules; see `spaces.user_code.search_folders`.
        truncation: replaces drawn networks by their truncated twins; None to keep them whole.

    Raises:
        BadInputError: the function cannot be imported or does not accept an option.
    """

    def __init__(
        self,
        task: Task,
        space: str | Callable[..., Architecture],
        space_options: Mapping[str, Any],
        recipe_options: Mapping[str, Any],
        folders: Sequence[str] = (),
        truncation: Truncation | None = None,
    ) -> None:
        self.task = task
        self.name = space if isinstance(space, str) else _name_of(space)
        function = _space_function(space, folders) if isinstance(space, str) else space
        _check_options("space", function, space_options)
        _check_options("recipe", recipe, recipe_options)
        # Tests hold that a family is a function of its parameters.
        self._may_change = self.name not in FAMILIES
        self._function = function
        self._space_options = dict(space_options)
        self._space: Space = partial(function, **space_options)
        self._description = Description(self.name, getattr(function, "features", None))
        self.recipe_options = dict(recipe_options)
        self._truncation = truncation

    def draw(self, trial: BaseTrial) -> Candidate:
        """Draw a candidate; the trial suggests every searched value.

        Raises:
            BadInputError: the space function fails, does not return an architecture, or suggests
                values that a study would misread; see
                `spaces.suggestions.checked_trial.CheckedTrial`.
            InvalidCandidateError: the drawn values do not describe a network.
        """
        return self._candidate(trial, self._draw(trial, _RESERVED))

    def _candidate(self, trial: BaseTrial, architecture: Architecture) -> Candidate:
        drawn = recipe(trial, self.task, **self.recipe_options)
        if self._truncation is None:
            return Candidate(architecture, drawn)
        twin, truncated = self._truncation.apply(architecture)
        return Candidate(twin, drawn, truncated)

    def _draw(self, trial: BaseTrial, reserved: Collection[str]) -> Architecture:
        checked = CheckedTrial(trial, self.name, reserved)
        try:
            architecture = self._space(checked, self.task)
        except InvalidCandidateError as error:
            self._check_violation(error)
            raise checked.refused or error from None
        except BadInputError as error:
            raise checked.refused or _placed(error) from error
        except RAISED_BY_USERS as error:
            cause = f"{type(error).__name__}: {error}{place_of(error)}"
            problem = f"the space function raised {cause}"
            remedy = remedy_of(error, f"fix {self.name} or its options")
            failed = BadInputError("space", self.name, problem, remedy)
            raise checked.refused or failed from error
        if checked.refused is not None:
            raise checked.refused
        if not isinstance(architecture, Architecture):
            problem = f"the space function returned a {type(architecture).__name__}{self._where}"
            raise BadInputError("space", self.name, problem, "return a spaces.Architecture")
        return architecture

    def _check_violation(self, error: InvalidCandidateError) -> None:
        """Check that samplers can learn from a violation: 0 or less means a valid candidate."""
        violation = error.violation
        if not isinstance(violation, (int, float)) or not 0 < violation < inf:
            problem = (
                f"raises InvalidCandidateError with the violation {violation!r}{place_of(error)}"
            )
            raise BadInputError("space", self.name, problem, "use a number greater than 0")

    def _redraw(self, params: Mapping[str, Any]) -> Candidate:
        # A space that shared a parameter with the recipe drew what is rebuilt here.
        trial = FixedTrial(dict(params))
        architecture = self._draw(trial, ())
        try:
            return self._candidate(trial, architecture)
        except BadInputError:
            raise
        except ValueError as error:
            problem = f"they describe no recipe ({error})"
            raise BadInputError("params", dict(params), problem, "use another trial") from None

    @property
    def _where(self) -> str:
        """File and line of a user's space function; empty for a family."""
        return defined_at(self._function)

    @property
    def options(self) -> dict[str, tuple[object, bool]]:
        """Value of each option of the space function, and whether the experiment gives it."""
        parameters = inspect.signature(self._function).parameters
        defaults = {
            name: parameter.default
            for name, parameter in parameters.items()
            if parameter.default is not parameter.empty
        }
        given = self._space_options
        return {
            name: (given.get(name, defaults.get(name)), name in given)
            for name in dict.fromkeys([*defaults, *given])
        }

    def features(self, candidate: Candidate) -> tuple[float, ...]:
        """Describe a candidate for a surrogate; see `spaces.features.description.Description`.

        Raises:
            BadInputError: the features that the space adds cannot be used.
            CollapsedLayerError: a feature map has less than one pixel.
        """
        known = candidate.costs
        return self._description.features(candidate.architecture, candidate.recipe, known)

    @property
    def feature_names(self) -> tuple[str, ...]:
        """Names of the features; those that the space adds follow with the first candidate."""
        return self._description.names

    def rebuild(self, params: Mapping[str, Any], digest: str = "") -> Candidate:
        """Rebuild the candidate that a trial drew with these parameters.

        Args:
            params: of the trial.
            digest: of the drawn candidate; empty for no comparison.

        Raises:
            BadInputError: as for `draw`, the parameters do not describe a network, or they describe
                another network than the drawn one.
        """
        try:
            candidate = self._redraw(params)
        except InvalidCandidateError as error:
            problem = f"they describe no network ({error})"
            raise BadInputError("params", dict(params), problem, "use another trial") from None
        if digest and candidate.digest != digest:
            problem = "draws another network from the parameters of a trial than the search did"
            remedy = f"restore {self.name} if it was edited; else {_PURE}"
            raise BadInputError("space", self.name, problem, remedy)
        return candidate

    def check_rebuild(self, params: Mapping[str, Any], candidate: Candidate | None) -> None:
        """Check that the parameters of a drawn candidate lead to the same candidate again.

        Args:
            params: of the trial that drew it.
            candidate: as drawn; None if the values described no network.

        Raises:
            BadInputError: the space function depends on more than its parameters.
        """
        if not self._may_change:
            return
        try:
            again = self._redraw(params)
        except InvalidCandidateError:
            again = None
        except BadInputError as error:
            raise self._changing(f" ({error.problem})") from error
        if _identity(candidate) != _identity(again):
            raise self._changing()

    def _changing(self, detail: str = "") -> BadInputError:
        problem = f"draws another network from the same parameters{detail}{self._where}"
        return BadInputError("space", self.name, problem, _PURE)

    def check_output(self, candidate: Candidate) -> None:
        """Check that a network takes the images of the task and outputs one value per class.

        Raises:
            BadInputError: it does not, or its layers do not fit together.
        """
        image = candidate.architecture.layers[0].operation.output_shape(())
        if image != self.task.image_shape:
            problem = f"its networks take images of {image}, but these are {self.task.image_shape}"
            problem += self._where
            raise BadInputError("space", self.name, problem, "start with Builder(task.image_shape)")
        try:
            output = candidate.architecture.shapes[-1]
        except CollapsedLayerError:
            return  # A screen rejects it.
        except Exception as error:
            problem = f"its networks cannot be built ({type(error).__name__}: {error}){self._where}"
            raise BadInputError("space", self.name, problem, "fix the space") from error
        if output != (self.task.classes, 1, 1):
            problem = f"its networks end in {output}, but there are {self.task.classes} classes"
            problem += self._where
            raise BadInputError("space", self.name, problem, "end with Linear(task.classes)")


def _placed(error: BadInputError) -> BadInputError:
    """Return an error with the line of the user's space that caused it."""
    place = place_of(error)
    if not place:
        return error
    return BadInputError(error.field, error.value, f"{error.problem}{place}", error.remedy)


def _identity(candidate: Candidate | None) -> object:
    """Return what a rebuilt candidate shares with the drawn one: checkpoints go by layer names."""
    if candidate is None:
        return None
    return candidate.digest, [layer.name for layer in candidate.architecture.layers]


def _name_of(function: Callable[..., object]) -> str:
    """Return a name for messages."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", "")
    return f"{module}:{name}" if name else repr(function)


def _space_function(reference: str, folders: Sequence[str]) -> Callable[..., Architecture]:
    """Return the family or the user's function of that name."""
    if reference in FAMILIES:
        return FAMILIES[reference]
    if not reference.partition(":")[2]:
        close = get_close_matches(reference, FAMILIES, n=1)
        hint = f"did you mean {close[0]}?" if close else f"use one of {', '.join(FAMILIES)}"
        raise BadInputError("space", reference, "unknown family", f"{hint} or module:function")
    function = load_object("space", reference, folders)
    if not callable(function):
        raise BadInputError("space", reference, "is not a function", "name a function(trial, task)")
    return function


def _check_options(field: str, function: Callable[..., object], options: Mapping[str, Any]) -> None:
    """Refuse options that the function does not accept, and suggest the nearest name."""
    parameters = inspect.signature(function).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    known = [name for name in parameters if name not in ("trial", "task")]
    for name, value in options.items():
        if name not in known:
            close = get_close_matches(str(name), known, n=1)
            hint = (
                f"did you mean {close[0]}?"
                if close
                else f"it takes {', '.join(known) or 'no options'}"
            )
            raise BadInputError(f"{field}.{name}", value, "unknown option", hint)
