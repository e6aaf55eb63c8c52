"""Writes what happens in a search into its journal, in the terms of the tracking server.

A small, stable set of params, metrics and tags, the same for every family of networks, so that
thousands of runs can be compared; the whole candidate is an artifact.
"""

from __future__ import annotations

import getpass
import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import groupby

from optuna.trial import TrialState

from search.experiment import Experiment
from search.figure import field_plot
from search.finalists import Finalist
from search.journal import PARENT, Journal, Status
from search.summary import Summary
from search.trials import INTERRUPTED, Observer, StartedTrial
from search.verdict import accuracy
from spaces.architecture import Architecture
from spaces.operations import Convolution, Pooling
from spaces.receptive_field import gate_branches

_STATUS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.FAIL: "FAILED",
}
_TOTALS_EVERY = 5.0
"""Seconds between two updates of the parent's totals."""


class Logbook(Observer):
    """Journals a search: the parent run, a child per trial and per finalist.

    Args:
        journal: of the search.
        experiment: what is searched.
        summarise: returns what the search has come to.
    """

    def __init__(
        self, journal: Journal, experiment: Experiment, summarise: Callable[[], Summary]
    ) -> None:
        self._journal = journal
        self._experiment = experiment
        self._summarise = summarise
        self._totals_due = 0.0
        self._user = _user()

    def begin(self) -> None:
        """Open the parent run."""
        experiment = self._experiment
        self._journal.start(
            PARENT,
            experiment.name,
            params={
                "data": experiment.data,
                "resolution": experiment.resolution,
                "subset": experiment.subset,
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
            },
            tags=self._tags("search"),
            artifacts={"experiment.yaml": experiment.to_yaml()},
        )

    def started(self, trial: StartedTrial) -> None:
        """Open the trial's run."""
        architecture = trial.candidate.architecture
        recipe = trial.candidate.recipe
        name = f"trial {trial.number}"
        self._journal.start(
            str(trial.number),
            name,
            params={
                "trial": trial.number,
                **describe(architecture),
                "params": trial.costs.params,
                "macs": trial.costs.macs,
                "border": trial.border.border,
                "beyond": trial.border.beyond,
                "learning_rate": recipe.learning_rate,
                "weight_decay": recipe.weight_decay,
                "batch_size": recipe.batch_size,
                "label_smoothing": recipe.label_smoothing,
            },
            tags=self._tags("trial") | {"digest": trial.candidate.digest},
            artifacts={
                "candidate.json": candidate_json(trial.params, architecture),
                "receptive_field.svg": field_plot(trial.border, name),
            },
        )

    def reported(self, number: int, epoch: int, metrics: Mapping[str, float]) -> None:
        """Log an epoch."""
        self._journal.metrics(str(number), epoch, metrics)

    def finished(self, number: int, state: TrialState, cause: str) -> None:
        """Close the trial's run."""
        reason = "stopped" if state is TrialState.PRUNED else "cause"
        tags = {"verdict": state.name.lower()} | ({reason: cause} if cause else {})
        self._journal.update(str(number), tags=tags)
        self._journal.finish(str(number), "KILLED" if cause == INTERRUPTED else _STATUS[state])
        if time.monotonic() >= self._totals_due:
            self.totals()
            # Totals are derived from all trials: often enough to follow, too rarely to be felt.
            self._totals_due = time.monotonic() + _TOTALS_EVERY

    def totals(self) -> None:
        """Log the search's totals on the parent."""
        summary = self._summarise()
        totals: dict[str, float] = {
            "trials_complete": summary.complete,
            "trials_pruned": summary.pruned,
            "trials_failed": summary.failed,
            "rejected": summary.rejected,
            "saved_device_hours": summary.savings.total / 3600,
            "trained_device_hours": summary.savings.trained_seconds / 3600,
        }
        totals |= {f"rejected_{reason}": n for reason, n in summary.rejections.items()}
        if summary.best is not None:
            totals["best_validation_accuracy"] = accuracy(summary.best) or 0.0
        if summary.front:
            totals["pareto_front"] = len(summary.front)
        self._journal.metrics(PARENT, summary.trained, totals)

    def finalist(self, finalist: Finalist, architecture: Architecture) -> None:
        """Log one finalist with all its seeds."""
        number, results = finalist.number, finalist.results
        key = f"finalist-{number}"
        self._journal.start(
            key,
            f"finalist {number}",
            params={"trial": number, **describe(architecture), "seeds": len(results)},
            tags=self._tags("finalist"),
        )
        for step, result in enumerate(results, start=1):
            accuracies = {
                "validation_accuracy": result.validation_accuracy,
                "test_accuracy": result.test_accuracy,
            }
            self._journal.metrics(key, step, accuracies)
        mean, std = finalist.test_accuracy
        spread = {"test_accuracy_mean": mean, "test_accuracy_std": std}
        self._journal.metrics(key, len(finalist.results), spread)
        self._journal.finish(key, "FINISHED")

    def end(
        self,
        status: Status,
        report: str | None = None,
        test_accuracy: tuple[float, float] | None = None,
    ) -> None:
        """Close the parent run.

        Args:
            status: how the search ended.
            report: as a web page, if it came to one.
            test_accuracy: mean and standard deviation of the best finalist.
        """
        self.totals()
        if test_accuracy is not None:
            mean, std = test_accuracy
            step = self._summarise().trained
            self._journal.metrics(
                PARENT, step, {"test_accuracy_mean": mean, "test_accuracy_std": std}
            )
        if report is not None:
            self._journal.update(PARENT, artifacts={"report.html": report})
        self._journal.finish(PARENT, status)
        self._journal.close()

    def _tags(self, kind: str) -> dict[str, str]:
        return {"kind": kind, "search": self._experiment.name, "mlflow.user": self._user}


def describe(architecture: Architecture) -> dict[str, str | int]:
    """Return what tells networks of any family apart at a glance."""
    layers = architecture.layers
    convolutions = architecture.indices(Convolution)
    features: list[int] = []
    kernels: set[int] = set()
    aside = gate_branches(architecture)
    for index in convolutions:
        operation = layers[index].operation
        if index not in aside and isinstance(operation, Convolution):
            features.append(operation.features)
            kernels.add(max(operation.kernel))
    pools = [
        sum(1 for convolution in convolutions if convolution < index)
        for index in architecture.indices(Pooling)
    ]
    return {
        "convolutions": len(convolutions),
        "features": "-".join(_runs(features)),
        "pools_after": ",".join(map(str, pools)) or "none",
        "kernel": "/".join(map(str, sorted(kernels))),
    }


def _runs(amounts: Sequence[int]) -> Iterator[str]:
    """Yield 64x3 for three equal amounts in a row: deep networks repeat them."""
    for amount, group in groupby(amounts):
        count = len(list(group))
        yield str(amount) if count == 1 else f"{amount}x{count}"


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # A container's user need not have a name.


def candidate_json(params: Mapping[str, object], architecture: Architecture) -> str:
    """Return the whole candidate: the parameters it is rebuilt from, and its graph."""
    graph = json.loads(architecture.to_json())
    return json.dumps({"params": dict(params), "architecture": graph}, indent=1)
