"""How a candidate is trained: the hyperparameters that are searched with the architecture."""

from __future__ import annotations

from dataclasses import dataclass

from optuna.trial import BaseTrial

from spaces.errors import BadInputError
from spaces.options import Choices, FloatRange, choices, draw_choice, draw_float
from spaces.task import Task


@dataclass(frozen=True)
class Recipe:
    """Training hyperparameters of one candidate.

    Attributes:
        learning_rate: peak learning rate of SGD with Nesterov momentum.
        weight_decay: L2 penalty.
        batch_size: samples a step.
        label_smoothing: probability mass spread over all classes.
        momentum: of SGD.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    label_smoothing: float
    momentum: float


def recipe(
    trial: BaseTrial,
    task: Task,
    *,
    learning_rate: FloatRange = (0.01, 0.3),
    weight_decay: FloatRange = (1e-5, 1e-2),
    batch_size: Choices[int] = 128,
    label_smoothing: FloatRange = 0.0,
    momentum: FloatRange = 0.9,
) -> Recipe:
    """Draw a recipe.

    Learning rate and weight decay are drawn on a logarithmic scale; ``batch_size`` is one value
    or a list of choices; see `Recipe` for the rest.

    Raises:
        BadInputError: an option is out of range.
    """
    drawn = Recipe(
        learning_rate=draw_float(
            trial, "learning_rate", learning_rate, field="recipe.learning_rate", log=True
        ),
        weight_decay=draw_float(
            trial, "weight_decay", weight_decay, field="recipe.weight_decay", log=True
        ),
        batch_size=draw_choice(trial, "batch_size", batch_size, field="recipe.batch_size"),
        label_smoothing=draw_float(
            trial, "label_smoothing", label_smoothing, field="recipe.label_smoothing", below=1
        ),
        momentum=draw_float(trial, "momentum", momentum, field="recipe.momentum", below=1),
    )
    for size in choices(batch_size):
        if type(size) is not int or size < 1:
            problem = f"{size} is no batch size"
            raise BadInputError("recipe.batch_size", batch_size, problem, "use 1 or more")
    return drawn
