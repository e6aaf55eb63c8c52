"""Draws candidates from a space, or rebuilds them from the parameters of a trial."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property, partial
from typing import Any, TypeAlias

from optuna.trial import BaseTrial, FixedTrial

from spaces.architecture import Architecture, CollapsedLayerError
from spaces.convmixer import convmixer
from spaces.costs import Costs, costs
from spaces.densenet import densenet
from spaces.errors import BadInputError, InvalidCandidateError
from spaces.recipe import Recipe, recipe
from spaces.resnet import resnet
from spaces.task import Task
from spaces.user_code import load_object, place_of
from spaces.vgg import vgg

Space: TypeAlias = Callable[[BaseTrial, Task], Architecture]

FAMILIES: dict[str, Callable[..., Architecture]] = {
    "vgg": vgg,
    "resnet": resnet,
    "densenet": densenet,
    "convmixer": convmixer,
}


@dataclass(frozen=True)
class Candidate:
    """An architecture and the recipe that trains it."""

    architecture: Architecture
    recipe: Recipe

    @cached_property
    def costs(self) -> Costs:
        """Costs of the architecture; see `spaces.costs.costs`."""
        return costs(self.architecture)

    def training_memory(self, *, bfloat16: bool = False) -> int:
        """Predict the training memory in bytes; see `spaces.costs.Costs.training_memory`."""
        recipe = self.recipe
        kept = 2 if recipe.optimizer == "adamw" else int(recipe.momentum > 0)
        kept += recipe.ema > 0
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
        space: a family's name (``vgg``) or ``module:function``.
        space_options: keyword arguments of the space function.
        recipe_options: keyword arguments of `spaces.recipe.recipe`.
        folders: absolute folders of users' modules; see `spaces.user_code.search_folders`.

    Raises:
        BadInputError: the function cannot be imported or does not accept an option.
    """

    def __init__(
        self,
        task: Task,
        space: str,
        space_options: Mapping[str, Any],
        recipe_options: Mapping[str, Any],
        folders: Sequence[str] = (),
    ) -> None:
        self.task = task
        self.name = space
        function = _space_function(space, folders)
        _check_options("space", function, space_options)
        _check_options("recipe", recipe, recipe_options)
        self._space: Space = partial(function, **space_options)
        self.recipe_options = dict(recipe_options)

    def draw(self, trial: BaseTrial) -> Candidate:
        """Draw a candidate; the trial suggests every searched value.

        Raises:
            BadInputError: the space function fails or does not return an architecture.
            InvalidCandidateError: the drawn values do not describe a network.
        """
        try:
            architecture = self._space(trial, self.task)
        except (BadInputError, InvalidCandidateError):
            raise
        except Exception as error:
            cause = f"{type(error).__name__}: {error}{place_of(error)}"
            problem = f"the space function raised {cause}"
            remedy = f"fix {self.name} or its options"
            raise BadInputError("space", self.name, problem, remedy) from error
        if not isinstance(architecture, Architecture):
            problem = f"the space function returned a {type(architecture).__name__}"
            raise BadInputError("space", self.name, problem, "return a spaces.Architecture")
        return Candidate(architecture, recipe(trial, self.task, **self.recipe_options))

    def rebuild(self, params: Mapping[str, Any]) -> Candidate:
        """Rebuild the candidate that a trial drew with these parameters.

        Raises:
            BadInputError: as for `draw`, or the parameters do not describe a network.
        """
        try:
            return self.draw(FixedTrial(dict(params)))
        except InvalidCandidateError as error:
            problem = f"they describe no network ({error})"
            raise BadInputError("params", dict(params), problem, "use another trial") from None

    def check_output(self, candidate: Candidate) -> None:
        """Check that a network outputs one value per class.

        Raises:
            BadInputError: it does not, or its layers do not fit together.
        """
        try:
            output = candidate.architecture.shapes[-1]
        except CollapsedLayerError:
            return  # A screen rejects it.
        except Exception as error:
            problem = f"its networks cannot be built ({type(error).__name__}: {error})"
            raise BadInputError("space", self.name, problem, "fix the space") from error
        if output != (self.task.classes, 1, 1):
            problem = f"its networks end in {output}, but there are {self.task.classes} classes"
            raise BadInputError("space", self.name, problem, "end with Linear(task.classes)")


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
