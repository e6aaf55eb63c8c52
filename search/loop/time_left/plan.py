"""What a search will train, as far as its experiment and its cluster tell before it starts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from search.experiment.schema import Experiment
from search.loop.sampling.options import DEFAULTS
from trainables.folds import Folds


@dataclass(frozen=True)
class FinalistPlan:
    """The trainings of the finalists.

    Attributes:
        count: finalists.
        seeds: of each finalist.
        most_seeds: of finalists within noise of the best.
        cost: time of an epoch of a finalist, relative to one of a trial.
    """

    count: int
    seeds: int
    most_seeds: int
    cost: float = 1.0


@dataclass(frozen=True)
class Plan:
    """The trainings of a search and the limits of its budget.

    Attributes:
        trials: number of candidates to train.
        epochs: length of a whole training.
        rungs: epochs after which a trial may be stopped early; empty without early stopping.
        reduction: the best 1/reduction of the trials at a rung continue.
        workers: most trainings at a time.
        finalists: trainings after the search.
        unlike_others: trials that start the search with the largest networks.
        wall_clock: limit of the search in seconds; None for none.
        device_seconds: likewise of device time.
    """

    trials: int
    epochs: int
    rungs: tuple[int, ...]
    reduction: int
    workers: int
    finalists: FinalistPlan
    unlike_others: int = 0
    wall_clock: float | None = None
    device_seconds: float | None = None

    @classmethod
    def of(cls, experiment: Experiment, workers: int) -> Self:
        """Return the plan of an experiment whose number of epochs is known.

        Args:
            experiment: of the search.
            workers: most trainings at a time.
        """
        scheduler, budget, last = experiment.scheduler, experiment.budget, experiment.finalists
        epochs = experiment.whole_epochs
        rungs = []
        rung = scheduler.grace_epochs
        while scheduler.name == "asha" and rung < epochs:
            rungs.append(rung)
            rung *= scheduler.reduction
        hours = [
            limit
            for limit in (
                budget.device_hours,
                None if budget.money is None else budget.money / budget.price,
            )
            if limit is not None
        ]
        folds = experiment.validation
        cost = 1 / folds.trainings if isinstance(folds, Folds) else 1.0
        starts_large = experiment.sampler == "auto" and not budget.limits_time
        return cls(
            budget.trials,
            epochs,
            tuple(rungs),
            scheduler.reduction,
            workers,
            FinalistPlan(last.count, last.seeds, last.most_seeds, cost),
            DEFAULTS.start if starts_large else 0,
            budget.wall_clock,
            3600 * min(hours) if hours else None,
        )

    @classmethod
    def of_json(cls, stored: Mapping[str, Any]) -> Self:
        """Return the plan whose fields a JSON document holds."""
        fields = {**stored, "rungs": tuple(stored["rungs"])}
        return cls(**{**fields, "finalists": FinalistPlan(**stored["finalists"])})
