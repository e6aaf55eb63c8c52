"""Settings of an experiment that have no effect, because another setting is missing."""

from __future__ import annotations

import math
from collections.abc import Iterator

from search.experiment.schema import Experiment
from spaces.options import choices

_SCHEDULES = {
    "milestones": ("multi_step",),
    "decay": ("multi_step",),
    "first_cycle": ("warm_restarts",),
    "cycle_growth": ("warm_restarts",),
    "floor": ("cosine", "warm_restarts"),
}
"""Options of a recipe that belong to some schedules alone."""


def unused_settings(experiment: Experiment) -> Iterator[str]:
    """Yield a line for people about each given setting that changes nothing.

    Args:
        experiment: with a number of epochs and a valid recipe.
    """
    recipe = experiment.recipe
    most = _largest(recipe.get("small_images", 0.0))
    if "small_side" in recipe and not most:
        yield "note: recipe.small_side has no effect without recipe.small_images"
    elif most and not math.floor(round(most * experiment.whole_epochs, 6)):
        yield (
            f"note: recipe.small_images has no effect: {most:g} of {experiment.whole_epochs} "
            f"{'epoch' if experiment.whole_epochs == 1 else 'epochs'} is less than one epoch"
        )
    drawn = [str(name) for name in choices(recipe.get("schedule", "one_cycle"))]
    for option, schedules in _SCHEDULES.items():
        if option in recipe and not set(schedules) & set(drawn):
            yield (
                f"note: recipe.{option} has no effect with schedule {' or '.join(drawn)}; it "
                f"belongs to {' and '.join(schedules)}"
            )


def _largest(option: object) -> float:
    """Return the largest value of a number or a range."""
    return float(max(option)) if isinstance(option, list | tuple) else float(str(option))
