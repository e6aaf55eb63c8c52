"""Draws the training hyperparameters that are searched with the architecture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeAlias, cast

from optuna.trial import BaseTrial

from spaces.errors import BadInputError
from spaces.options import (
    Choices,
    FloatRange,
    IntRange,
    choices,
    draw_choice,
    draw_float,
    draw_int,
    draw_name,
)
from spaces.schedules import (
    Constant,
    Cosine,
    MultiStep,
    OneCycle,
    Schedule,
    WarmRestarts,
    check_milestones,
)
from spaces.task import Task

ByOptimizer: TypeAlias = FloatRange | Mapping[str, FloatRange]
"""One value or range, or one for each optimiser by its name."""
OPTIMIZERS = ("sgd", "adamw", "muon")
SCHEDULES = ("one_cycle", "cosine", "multi_step", "warm_restarts", "constant")
BATCH_SIZE = 128
"""Default batch size."""
TRAINABLE = ("all", "batchnorm")
INITIALIZATIONS = ("standard", "dirac", "random_scale")
FIRST_LAYERS = ("standard", "whitening")
SMALL_SIDE = 0.75
"""Default side of small images, as a fraction of the full one."""
DRAWN = (
    "optimizer",
    "learning_rate",
    "weight_decay",
    "batch_size",
    "schedule",
    "decay",
    "first_cycle",
    "cycle_growth",
    "floor",
    "momentum",
    "label_smoothing",
    "ema",
    "clip",
    "trainable",
    "norm_bias_rate",
    "initialization",
    "lookahead",
    "first_layer",
    "small_images",
    "small_side",
)
"""Parameters of a recipe in a study, in the order in which tables show them."""


@dataclass(frozen=True)
class Recipe:
    """Training hyperparameters of one candidate.

    Attributes:
        learning_rate: peak learning rate.
        weight_decay: for kernels and weight matrices only: L2 penalty of SGD, decoupled from the
            gradient in AdamW (Loshchilov & Hutter 2019, arXiv 1711.05101) and for the kernels that
            Muon trains.
        batch_size: samples per step.
        label_smoothing: probability mass spread over all classes.
        momentum: momentum of SGD and Muon, or beta1 of AdamW.
        optimizer: ``sgd`` (with Nesterov momentum), ``adamw`` or ``muon`` (Jordan et al. 2024); see
            `trainables.training.muon`.
        schedule: learning-rate schedule.
        ema: decay per step of an exponential moving average of the weights, in [0, 1); 0 for none.
        clip: maximum norm of the gradient over all parameters; 0 for no limit.
        trainable: ``all`` parameters, or only scale and shift of batch norms (``batchnorm``); other
            parameters keep their initial values (Frankle et al. 2021, arXiv 2003.00152).
        norm_bias_rate: factor of the learning rate of batch-norm biases; 0 keeps them at 0.
        initialization: ``standard`` (He et al. 2015), or ``dirac``: the first filters of each
            convolution copy its input channels, if it has no more inputs than outputs; or
            ``random_scale``: scales of batch norms are uniform in [0, 1) (Frankle et al. 2021).
        lookahead: number of steps after which the weights move back half of their way (Zhang et
            al. 2019, arXiv 1907.08610), also after each epoch; 0 for never.
        first_layer: ``standard``, or ``whitening``: the kernel of the first convolution is fixed to
            whitening filters of the images; see `trainables.training.whitening`.
        small_images: fraction of the epochs, from the first, that train on smaller images; 0 for
            none. Images are always scored at their full size.
        small_side: side of the smaller images, as a fraction of the full one; see
            `trainables.training.small_images`. It is the default without smaller images.
    """

    learning_rate: float
    weight_decay: float
    batch_size: int
    label_smoothing: float
    momentum: float
    optimizer: str = "sgd"
    schedule: Schedule = field(default_factory=OneCycle)
    ema: float = 0.0
    clip: float = 0.0
    trainable: str = "all"
    norm_bias_rate: float = 1.0
    initialization: str = "standard"
    lookahead: int = 0
    first_layer: str = "standard"
    small_images: float = 0.0
    small_side: float = SMALL_SIDE

    def __repr__(self) -> str:
        """Return the text that digests of candidates hash.

        Fields after ``trainable`` appear only if they differ from their defaults: stored searches
        know candidates by digests from before these fields.
        """
        shown = [f"{name}={getattr(self, name)!r}" for name in _ALWAYS_SHOWN]
        for name, default in _ADDED.items():
            value = getattr(self, name)
            if value != default:
                shown.append(f"{name}={value!r}")
        return f"Recipe({', '.join(shown)})"


_NAMES = [each.name for each in fields(Recipe)]
_ALWAYS_SHOWN = _NAMES[: _NAMES.index("trainable") + 1]
_ADDED = {each.name: each.default for each in fields(Recipe) if each.name not in _ALWAYS_SHOWN}


def recipe(
    trial: BaseTrial,
    task: Task,
    *,
    learning_rate: ByOptimizer = (0.01, 0.3),
    weight_decay: ByOptimizer = (1e-5, 1e-2),
    batch_size: Choices[int] = BATCH_SIZE,
    label_smoothing: FloatRange = 0.0,
    momentum: FloatRange = 0.9,
    optimizer: Choices[str] = "sgd",
    schedule: Choices[str] = "one_cycle",
    milestones: Sequence[int] | None = None,
    decay: FloatRange = 0.1,
    first_cycle: IntRange = 10,
    cycle_growth: IntRange = 2,
    floor: FloatRange = 0.0,
    ema: FloatRange = 0.0,
    clip: FloatRange = 0.0,
    trainable: Choices[str] = "all",
    norm_bias_rate: FloatRange = 1.0,
    initialization: Choices[str] = "standard",
    lookahead: IntRange = 0,
    first_layer: Choices[str] = "standard",
    small_images: FloatRange = 0.0,
    small_side: FloatRange = SMALL_SIDE,
) -> Recipe:
    """Draw a recipe.

    Learning rate, weight decay and ``norm_bias_rate`` are drawn on a logarithmic scale. Names and
    ``batch_size`` are one value or a list of choices. See `Recipe` for more about each quantity.

    Args:
        trial: suggests or replays the values.
        task: the images and classes.
        learning_rate: peak learning rate; a mapping such as ``{"sgd": (0.03, 0.3), "adamw": 1e-3}``
            gives each optimiser its own.
        weight_decay: see `Recipe`; takes a mapping, too.
        batch_size: see `Recipe`.
        label_smoothing: see `Recipe`.
        momentum: see `Recipe`.
        optimizer: ``sgd``, ``adamw`` or ``muon``.
        schedule: ``one_cycle``, ``cosine``, ``multi_step``,
            ``warm_restarts`` or ``constant``; see `spaces.schedules`.
        milestones: of ``multi_step``: epochs after which the learning rate drops; not searched.
        decay: of ``multi_step``: factor of each drop.
        first_cycle: of ``warm_restarts``: epochs of the first cycle.
        cycle_growth: of ``warm_restarts``: length of each cycle relative to the previous one.
        floor: of ``cosine`` and ``warm_restarts``: lowest learning rate relative to the peak.
        ema: see `Recipe`.
        clip: see `Recipe`.
        trainable: ``all`` or ``batchnorm``.
        norm_bias_rate: see `Recipe`.
        initialization: ``standard``, ``dirac`` or ``random_scale``.
        lookahead: see `Recipe`.
        first_layer: ``standard`` or ``whitening``.
        small_images: see `Recipe`.
        small_side: see `Recipe`.

    Raises:
        BadInputError: an option is out of range, even if this trial does not draw it.
    """
    chosen = draw_name(trial, "optimizer", optimizer, OPTIMIZERS, field="recipe.optimizer")
    rates = _by_optimizer(learning_rate, optimizer, "recipe.learning_rate")
    decays = _by_optimizer(weight_decay, optimizer, "recipe.weight_decay")
    for name, rate in rates.items():
        given = trial if name == chosen else _CHECK_ONLY
        found = (
            draw_float(
                given,
                "learning_rate",
                rate,
                field="recipe.learning_rate",
                positive=True,
                log=True,
            ),
            draw_float(given, "weight_decay", decays[name], field="recipe.weight_decay", log=True),
        )
        _check_decay_per_step(rate, decays[name])
        if name == chosen:
            drawn_rate, drawn_decay = found
    drawn = Recipe(
        learning_rate=drawn_rate,
        weight_decay=drawn_decay,
        batch_size=draw_choice(trial, "batch_size", batch_size, field="recipe.batch_size"),
        label_smoothing=draw_float(
            trial, "label_smoothing", label_smoothing, field="recipe.label_smoothing", below=1
        ),
        momentum=draw_float(trial, "momentum", momentum, field="recipe.momentum", below=1),
        optimizer=chosen,
        schedule=_draw_schedule(
            trial, schedule, milestones, decay, first_cycle, cycle_growth, floor
        ),
        ema=draw_float(trial, "ema", ema, field="recipe.ema", below=1),
        clip=draw_float(trial, "clip", clip, field="recipe.clip"),
        trainable=draw_name(trial, "trainable", trainable, TRAINABLE, field="recipe.trainable"),
        norm_bias_rate=draw_float(
            trial, "norm_bias_rate", norm_bias_rate, field="recipe.norm_bias_rate", log=True
        ),
        initialization=draw_name(
            trial,
            "initialization",
            initialization,
            INITIALIZATIONS,
            field="recipe.initialization",
        ),
        lookahead=draw_int(trial, "lookahead", lookahead, field="recipe.lookahead", minimum=0),
        first_layer=draw_name(
            trial, "first_layer", first_layer, FIRST_LAYERS, field="recipe.first_layer"
        ),
        small_images=draw_float(
            trial, "small_images", small_images, field="recipe.small_images", below=1
        ),
    )
    sides = trial if drawn.small_images else _CHECK_ONLY
    side = draw_float(
        sides, "small_side", small_side, field="recipe.small_side", below=1, positive=True
    )
    if drawn.small_images:
        drawn = replace(drawn, small_side=side)
    for size in choices(batch_size):
        if type(size) is not int or size < 1:
            problem = f"{size} is no batch size"
            raise BadInputError("recipe.batch_size", batch_size, problem, "use 1 or more")
    return drawn


def _by_optimizer(
    option: ByOptimizer, optimizer: Choices[str], field: str
) -> Mapping[str, FloatRange]:
    """Return the range of each optimiser that can be drawn."""
    names = [str(name) for name in choices(optimizer)]
    if not isinstance(option, Mapping):
        return dict.fromkeys(names, option)
    missing = [name for name in names if name not in option]
    if missing:
        problem = f"has no value for {missing[0]}"
        raise BadInputError(field, option, problem, f"add {missing[0]}: [LOW, HIGH]")
    unused = [str(name) for name in option if name not in names]
    if unused:
        problem = f"{unused[0]!r} is none of the optimizers ({', '.join(names)})"
        raise BadInputError(field, option, problem, "remove it")
    return {name: option[name] for name in names}


def _check_decay_per_step(learning_rate: FloatRange, weight_decay: FloatRange) -> None:
    """Refuse a weight decay that removes all of each weight in one step.

    A step multiplies each weight by 1 - learning rate * weight decay.
    """
    rate, decay = (
        float(each if isinstance(each, (int, float)) else each[1])
        for each in (learning_rate, weight_decay)
    )
    if rate * decay < 1:
        return
    subtracts = f"a step subtracts {rate * decay:.3g} times each weight"
    if decay >= 1:
        problem = f"with learning_rate {rate:g} {subtracts}"
        raise BadInputError("recipe.weight_decay", weight_decay, problem, "use less")
    problem = f"with weight_decay {decay:g} {subtracts}"
    raise BadInputError("recipe.learning_rate", learning_rate, problem, "use less")


def _draw_schedule(
    trial: BaseTrial,
    schedule: Choices[str],
    milestones: Sequence[int] | None,
    decay: FloatRange,
    first_cycle: IntRange,
    cycle_growth: IntRange,
    floor: FloatRange,
) -> Schedule:
    """Draw a schedule and its parameters; only check the parameters of the others."""
    name = draw_name(trial, "schedule", schedule, SCHEDULES, field="recipe.schedule")
    if milestones is not None or "multi_step" in choices(schedule):
        check_milestones(milestones)
    steps = trial if name == "multi_step" else _CHECK_ONLY
    restarts = trial if name == "warm_restarts" else _CHECK_ONLY
    cosines = trial if name in ("cosine", "warm_restarts") else _CHECK_ONLY
    factor = draw_float(steps, "decay", decay, field="recipe.decay", below=1, positive=True)
    first = draw_int(restarts, "first_cycle", first_cycle, field="recipe.first_cycle")
    growth = draw_int(restarts, "cycle_growth", cycle_growth, field="recipe.cycle_growth")
    lowest = draw_float(cosines, "floor", floor, field="recipe.floor", below=1)
    if name == "multi_step":
        return MultiStep(tuple(milestones or ()), factor)
    if name == "warm_restarts":
        return WarmRestarts(first, growth, lowest)
    if name == "cosine":
        return Cosine(lowest)
    return OneCycle() if name == "one_cycle" else Constant()


class _CheckOnly:
    """Replaces the trial to check an option without drawing it."""

    def suggest_int(self, name: str, low: int, high: int, *, log: bool) -> int:
        return low

    def suggest_float(self, name: str, low: float, high: float, *, log: bool) -> float:
        return low


_CHECK_ONLY = cast("BaseTrial", _CheckOnly())
