"""The params of runs, which define a search and each of its trials, and the totals of a search."""

from __future__ import annotations

import json

from search.experiment.schema import Experiment
from search.study.events import StartedTrial
from search.study.summary import Summary
from search.tracking.network_params import describe, layer_params
from spaces.candidate import Candidate
from trainables.data_identity import DataIdentity
from trainables.folds import Folds


def search_params(experiment: Experiment, data: DataIdentity | None) -> dict[str, object]:
    """Return the params of a search's own run.

    Args:
        experiment: of the search.
        data: identity of its data; None if it is unknown.
    """
    resolution, validation = experiment.resolution, experiment.validation
    return {
        "data": experiment.data,
        "data_digest": data.digest if data else None,
        "resolution": resolution if isinstance(resolution, int | None) else str(resolution),
        "subset": experiment.subset,
        "validation": _validation(experiment, data),
        "folds": validation.trainings if isinstance(validation, Folds) else None,
        "space": experiment.space.name,
        "space_options": json.dumps(experiment.space.options),
        "recipe": json.dumps(dict(experiment.recipe)),
        "epochs": experiment.epochs,
        "objectives": ", ".join(experiment.objectives),
        "sampler": experiment.sampler,
        "scheduler": experiment.scheduler.name,
        "border_screen": experiment.screens.border.value,
        "trials": experiment.budget.trials,
        "seed": experiment.seed,
    }


def trial_params(trial: StartedTrial) -> dict[str, object]:
    """Return the params of a trial's run: its network and its recipe."""
    recipe = trial.candidate.recipe
    return {
        "trial": trial.number,
        **describe(trial.candidate.architecture),
        **layer_params(trial.candidate.architecture),
        "params": trial.costs.params,
        "macs": trial.costs.macs,
        "border": trial.border.border,
        "beyond": trial.border.beyond,
        "truncated_from": drawn_convolutions(trial.candidate),
        "learning_rate": recipe.learning_rate,
        "weight_decay": recipe.weight_decay,
        "batch_size": recipe.batch_size,
        "label_smoothing": recipe.label_smoothing,
        "momentum": recipe.momentum,
        "optimizer": recipe.optimizer,
        "schedule": type(recipe.schedule).__name__,
        "ema": recipe.ema,
        "clip": recipe.clip,
        "trainable": recipe.trainable,
        "norm_bias_rate": recipe.norm_bias_rate,
        "initialization": recipe.initialization,
        "lookahead": recipe.lookahead,
        "first_layer": recipe.first_layer,
        "small_images": recipe.small_images,
        "small_side": recipe.small_side,
    }


def search_totals(summary: Summary) -> dict[str, float]:
    """Return the metrics of a search's own run; params and MACs are those of its best trial."""
    totals: dict[str, float] = {
        "trials_complete": summary.complete,
        "trials_pruned": summary.pruned,
        "trials_failed": summary.failed,
        "rejected": summary.rejected,
        # The lower end: an interval may have no upper end.
        "saved_device_hours": summary.savings.total.low / 3600,
        "trained_device_hours": summary.savings.trained_seconds / 3600,
        "seconds": summary.savings.trained_seconds,
    }
    totals |= {f"rejected_{reason}": n for reason, n in summary.rejections.items()}
    if summary.best is not None:
        best = summary.best
        totals["best_validation_accuracy"] = totals["objective"] = best.accuracy or 0.0
        totals |= {"params": best.param_count or 0, "macs": best.macs or 0}
    if summary.front:
        totals["pareto_front"] = len(summary.front)
    if summary.truncated:
        totals["truncated"] = summary.truncated
    return totals


def drawn_convolutions(candidate: Candidate) -> int | None:
    """Return the number of drawn convolutions of a truncated candidate."""
    return None if candidate.truncated is None else candidate.truncated.drawn


def _validation(experiment: Experiment, data: DataIdentity | None) -> str:
    """Return how candidates are validated, with the number of images if it is known."""
    setting = experiment.validation_list or str(experiment.validation)
    return f"{setting}, {data.validation_images:,} images" if data else setting
