"""The space of one named network: baselines are candidates of it."""

from __future__ import annotations

from optuna.trial import BaseTrial

from spaces.architecture import Architecture
from spaces.named import named
from spaces.task import Task

REFERENCE = f"{__name__}:named_network"
"""Name of the space in an experiment."""


def named_network(trial: BaseTrial, task: Task, network: str) -> Architecture:
    """Return a named network; the trial draws the recipe alone.

    Args:
        trial: any.
        task: the images and classes.
        network: name of the network, such as ``resnet18c``.

    Raises:
        BadInputError: the name is unknown.
    """
    return named(network, task)
