"""Chooses the settings that an experiment leaves open, by its training images.

A search stores what it has chosen, so a later version that chooses otherwise does not change it.
`benchmarks/recipes.py` and `benchmarks/batch_size.py` measure the choices.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from search.experiment.batch_size import default_batch_size
from search.experiment.length import Length
from search.experiment.schema import Experiment
from search.experiment.training_length import TrainingLength, with_whole_epochs
from trainables.specs import Augmentation

SHIFT, LEAST_SIDE = 0.125, 12
"""Default of ``augmentation.translate``, and the smallest images in pixels that shift: a pixel of a
smaller one is too large a part. A shift never changes the class, as a flip can."""
FEWEST_STEPS = 1000
"""Steps of a training unless ``epochs``, milestones or restarts are given."""
_RECIPE: dict[str, Any] = {"optimizer": "muon", "label_smoothing": 0.1}
_BY_OPTIMIZER: dict[str, dict[str, Any]] = {
    "sgd": {"learning_rate": [0.03, 0.3], "weight_decay": [1e-5, 1e-2]},
    "adamw": {"learning_rate": [0.0005, 0.005], "weight_decay": [0.001, 0.1]},
    "muon": {"learning_rate": [0.03, 0.3], "weight_decay": [0.0005, 0.05]},
}
_SHOWN = ("optimizer", "learning_rate", "weight_decay", "batch_size", "label_smoothing")
"""Order of the chosen options in the line about them."""
_GRACE = 9
"""The default grace period is this part of the training: with a reduction of 3, trials are compared
after a ninth and a third of it."""


def complete(experiment: Experiment, images: int, side: int) -> tuple[Experiment, str]:
    """Return the experiment with all settings that follow from the training images.

    Settings that the experiment gives stay.

    Args:
        experiment: what the user gave.
        images: number of training images.
        side: their shorter side in pixels.

    Returns:
        The experiment, and a line for people about the number of epochs; empty if it was given.

    Raises:
        BadInputError: the number of epochs does not fit other settings.
    """
    chosen: dict[str, Any] = {"recipe": _recipe(experiment, images)}
    if side >= LEAST_SIDE and not _shifts(experiment):
        chosen["augmentation"] = _shifted(experiment, SHIFT)
    whole, line = with_whole_epochs(
        _lengthened(experiment.model_copy(update=chosen), images), images
    )
    whole.check_length()
    if line and "epochs" not in experiment.model_fields_set:
        line += _beyond_usual(experiment, images, whole.whole_epochs)
    return with_grace(whole), line


def describe_choices(given: Experiment, completed: Experiment) -> str:
    """Return a line for people with the settings that `complete` has chosen; empty for none.

    Args:
        given: what the user gave.
        completed: what `complete` returned.
    """
    names = [name for name in _SHOWN if name in completed.recipe and name not in given.recipe]
    parts = [f"{name} {_shown(completed.recipe[name])}" for name in names]
    shift = completed.augmentation.translate
    if shift and not _shifts(given):
        parts.append(f"augmentation.translate {shift:g}")
    return f"chosen by default: {', '.join(parts)}" if parts else ""


def _shown(value: object) -> str:
    """Return a value of the recipe in words: a range, one for each optimiser, or a single one."""
    if isinstance(value, Mapping):
        return " or ".join(f"{_shown(each)} ({name})" for name, each in value.items())
    return " to ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _beyond_usual(experiment: Experiment, images: int, epochs: int) -> str:
    """Say how much longer trainings are than with the default batch size; empty if they are not."""
    size = default_batch_size(images)
    recipe = {**experiment.recipe, "batch_size": size}
    usual = _lengthened(experiment.model_copy(update={"recipe": recipe}), images)
    fewest = with_whole_epochs(usual, images)[0].whole_epochs
    if epochs <= fewest:
        return ""
    return (
        f": {epochs / fewest:.2g} times the {fewest:,} epochs of the default batch size {size}; "
        "set epochs for shorter trainings"
    )


def as_completed(experiment: Experiment, stored: Experiment) -> Experiment:
    """Return the experiment with what a stored search has chosen where the experiment is silent.

    Raises:
        BadInputError: other settings do not fit the stored number of epochs or sampler.
    """
    kept = {
        name: stored.recipe[name]
        for name in (*_RECIPE, "batch_size", "learning_rate", "weight_decay")
        if name in stored.recipe
    }
    chosen: dict[str, Any] = {"recipe": {**kept, **experiment.recipe}}
    if "epochs" not in experiment.model_fields_set:
        chosen["epochs"] = stored.epochs
    if "sampler" not in experiment.model_fields_set:
        chosen["sampler"] = stored.sampler
    if not _shifts(experiment):
        chosen["augmentation"] = _shifted(experiment, stored.augmentation.translate)
    if "grace_epochs" not in experiment.scheduler.model_fields_set:
        update = {"grace_epochs": stored.scheduler.grace_epochs}
        chosen["scheduler"] = experiment.scheduler.model_copy(update=update)
    completed = experiment.model_copy(update=chosen)
    if not isinstance(completed.epochs, Length):
        completed.check_length()
    completed.check_until()
    return completed


def with_grace(experiment: Experiment) -> Experiment:
    """Return the experiment with a grace period in which a training learns something."""
    if "grace_epochs" in experiment.scheduler.model_fields_set:
        return experiment
    # Rounded up, so that no rung is just before the end.
    epochs = -(-experiment.whole_epochs // _GRACE)
    scheduler = experiment.scheduler.model_copy(update={"grace_epochs": epochs})
    return experiment.model_copy(update={"scheduler": scheduler})


def _lengthened(experiment: Experiment, images: int) -> Experiment:
    """Return the experiment with more epochs if its default number gives too few steps.

    Milestones and restarts are written for a number of epochs, so they keep it.
    """
    schedules = _names(experiment.recipe.get("schedule"))
    in_epochs = any(each in schedules for each in ("multi_step", "warm_restarts"))
    if "epochs" in experiment.model_fields_set or in_epochs:
        return experiment
    if TrainingLength.of(experiment, images).steps >= FEWEST_STEPS:
        return experiment
    return experiment.model_copy(update={"epochs": Length(FEWEST_STEPS, "steps")})


def _recipe(experiment: Experiment, images: int) -> dict[str, Any]:
    recipe = {**_RECIPE, "batch_size": default_batch_size(images), **experiment.recipe}
    return {**_ranges(recipe["optimizer"]), **recipe}


def _ranges(optimizer: object) -> dict[str, Any]:
    """Return the default ranges: a mapping by optimiser where drawn optimisers differ."""
    names = [str(name) for name in _names(optimizer)]
    if not names or not all(name in _BY_OPTIMIZER for name in names):
        return {}  # The recipe refuses the name.
    ranges = {}
    for option in _BY_OPTIMIZER[names[0]]:
        given = {name: _BY_OPTIMIZER[name][option] for name in names}
        first = given[names[0]]
        ranges[option] = first if all(each == first for each in given.values()) else given
    return ranges


def _names(option: object) -> Sequence[object]:
    """Return the values of an option that nothing has checked yet."""
    return option if isinstance(option, list | tuple) else [option]


def _shifts(experiment: Experiment) -> bool:
    return bool(experiment.augmentation.model_fields_set & {"crop", "translate"})


def _shifted(experiment: Experiment, translate: float) -> Augmentation:
    return experiment.augmentation.model_copy(update={"translate": translate})
