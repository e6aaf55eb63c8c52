"""Describes a recipe by a fixed number of named features."""

from __future__ import annotations

from math import log2, log10

from spaces.recipe import FIRST_LAYERS, INITIALIZATIONS, OPTIMIZERS, SCHEDULES, TRAINABLE, Recipe
from spaces.schedules import Cosine, MultiStep, OneCycle, Schedule, WarmRestarts

RECIPE_FEATURES: tuple[str, ...] = (
    *("learning_rate", "weight_decay", "batch_size", "label_smoothing", "momentum"),
    *("ema", "clip", "clipped", "norm_bias_rate", "lookahead", "small_images", "small_side"),
    *("decay", "first_cycle", "cycle_growth", "floor"),
    *(f"optimizer_{name}" for name in OPTIMIZERS),
    *(f"schedule_{name}" for name in SCHEDULES),
    *(f"trainable_{name}" for name in TRAINABLE[1:]),
    *(f"initialization_{name}" for name in INITIALIZATIONS[1:]),
    *(f"first_layer_{name}" for name in FIRST_LAYERS[1:]),
)
"""Names of the features of a recipe, in order.

Rates are logarithms to base 10, and amounts to base 2. ``momentum`` and ``ema`` are the logarithm
of the number of steps over which they average. Names are 0 or 1. Parameters of a schedule are 0
under the other schedules.
"""

_SMALLEST = 1e-9
"""Rates below are described as this one, because 0 has no logarithm."""


def recipe_features(recipe: Recipe) -> tuple[float, ...]:
    """Return the values of `RECIPE_FEATURES`.

    Example:
        >>> recipe = Recipe(0.1, 1e-4, 128, 0.0, 0.9)
        >>> dict(zip(RECIPE_FEATURES, recipe_features(recipe), strict=True))["learning_rate"]
        -1.0
    """
    schedule = recipe.schedule
    floor = schedule.floor if isinstance(schedule, (Cosine, WarmRestarts)) else 0.0
    return (
        _rate(recipe.learning_rate),
        _rate(recipe.weight_decay),
        log2(recipe.batch_size),
        recipe.label_smoothing,
        _steps(recipe.momentum),
        _steps(recipe.ema),
        _rate(recipe.clip) if recipe.clip else 0.0,
        float(recipe.clip > 0),
        _rate(recipe.norm_bias_rate),
        log2(1 + recipe.lookahead),
        recipe.small_images,
        recipe.small_side,
        -_rate(schedule.factor) if isinstance(schedule, MultiStep) else 0.0,
        log2(1 + schedule.first) if isinstance(schedule, WarmRestarts) else 0.0,
        float(schedule.growth) if isinstance(schedule, WarmRestarts) else 0.0,
        floor,
        *(float(recipe.optimizer == name) for name in OPTIMIZERS),
        *(float(_schedule_name(schedule) == name) for name in SCHEDULES),
        *(float(recipe.trainable == name) for name in TRAINABLE[1:]),
        *(float(recipe.initialization == name) for name in INITIALIZATIONS[1:]),
        *(float(recipe.first_layer == name) for name in FIRST_LAYERS[1:]),
    )


def _rate(rate: float) -> float:
    return log10(max(rate, _SMALLEST))


def _steps(decay: float) -> float:
    """Return the logarithm of the number of steps over which a decay averages."""
    return -log2(max(1 - decay, _SMALLEST))


_SCHEDULE_NAMES: dict[type[Schedule], str] = {
    OneCycle: "one_cycle",
    Cosine: "cosine",
    MultiStep: "multi_step",
    WarmRestarts: "warm_restarts",
}


def _schedule_name(schedule: Schedule) -> str:
    return _SCHEDULE_NAMES.get(type(schedule), "constant")
