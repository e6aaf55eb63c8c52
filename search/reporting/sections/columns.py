"""The columns of a report that describe a candidate."""

from __future__ import annotations

from optuna.trial import TrialState

from search.reporting.intervals import wilson
from search.study.records import TrialRecord
from search.tracking.network_params import describe
from spaces.candidate import CandidateSpace
from spaces.recipe import DRAWN

SHOWN = 10
"""Rows of a table at most."""
_WIDEST = 40
STRUCTURE = ("features", "pools after", "kernel", "recipe")
_SHORT = {
    "learning_rate": "lr",
    "weight_decay": "decay",
    "batch_size": "batch",
    "label_smoothing": "smoothing",
}


def structure(trial: TrialRecord, space: CandidateSpace) -> tuple[str, str, str, str]:
    """Return the cells of the columns `STRUCTURE`, from the network that the space draws."""
    found = describe(space.rebuild(trial.params).architecture)
    features = str(found["features"])
    if len(features) > _WIDEST:
        features = f"{features[: _WIDEST - 2]}.."
    if trial.truncated is not None:
        features += f" ({trial.truncated})"
    return features, str(found["pools_after"]), str(found["kernel"]), _recipe(trial)


def _recipe(trial: TrialRecord) -> str:
    """Return the drawn values of the recipe; a text such as adamw needs no name."""
    parts = []
    for name in DRAWN:
        if name in trial.params:
            value = trial.params[name]
            shown = f"{value:.2g}" if isinstance(value, float) else str(value)
            parts.append(shown if isinstance(value, str) else f"{_SHORT.get(name, name)} {shown}")
    return ", ".join(parts) or "as given"


def epochs_of(trial: TrialRecord) -> str:
    """Return the epochs of a trial, and whether it was stopped early."""
    stopped = "" if trial.outcome is TrialState.COMPLETE else ", stopped"
    return f"{trial.epochs}{stopped}"


def interval(accuracy: float, images: int | None) -> str:
    """Return the confidence interval of an accuracy; - for an unknown number of images."""
    return "-" if images is None else str(wilson(accuracy, images))
