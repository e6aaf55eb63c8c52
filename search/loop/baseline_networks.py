"""Named networks that are trained for comparison under the protocol of the finalists."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from search.experiment.schema import Experiment
from search.experiment.sections import BorderRule, SpaceSection
from spaces.architecture import CollapsedLayerError
from spaces.errors import BadInputError
from spaces.named import named
from spaces.recipe import DRAWN
from spaces.task import Task
from trainables.named_space import REFERENCE


def check_baselines(names: Sequence[str], task: Task) -> None:
    """Check that baselines are networks for the images of a search.

    Raises:
        BadInputError: a name is unknown or repeated, or a network is too deep for the images.
    """
    for name, count in Counter(names).items():
        if count > 1:
            problem = f"is named {count} times"
            raise BadInputError("baselines", name, problem, "name each network once")
        try:
            _ = named(name, task).shapes
        except CollapsedLayerError:
            problem = f"leaves less than one pixel of images of {task.height}x{task.width}"
            remedy = "name a network for small images, such as resnet20c, or raise the resolution"
            raise BadInputError("baselines", name, problem, remedy) from None
        except BadInputError as error:
            raise BadInputError("baselines", name, error.problem, error.remedy) from None


def as_baseline(experiment: Experiment, network: str) -> Experiment:
    """Return the experiment whose only candidate is a named network, trained as a finalist."""
    space = SpaceSection.model_validate({"name": REFERENCE, "network": network})
    screens = experiment.screens.model_copy(update={"border": BorderRule.OFF})
    return experiment.model_copy(update={"space": space, "screens": screens})


def recipe_of(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return those parameters of a trial that its recipe drew."""
    return {name: params[name] for name in DRAWN if name in params}
