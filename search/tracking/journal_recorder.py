"""Records a search in its journal as runs with params, metrics, tags and artifacts.

Params and metrics are few and the same for every family of networks, so that thousands of runs can
be compared. The whole candidate is an artifact.
"""

from __future__ import annotations

import getpass
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby

from optuna.trial import TrialState

from search.experiment.schema import Experiment
from search.study.events import Observer, StartedTrial
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.summary import Summary
from search.tracking.field_plot import field_plot
from search.tracking.journal import Journal
from search.tracking.journal_events import (
    PARENT,
    Event,
    Finish,
    Metrics,
    Model,
    OfDriver,
    Scalar,
    Start,
    Status,
)
from search.tracking.journal_reader import read_all
from search.tracking.probe_events import is_of_probes, record_probes
from search.tracking.pyfunc_model import PyfuncModel
from spaces.architecture import Architecture
from spaces.candidate import Candidate
from spaces.operations import Convolution, Pooling
from spaces.receptive_field import gate_branches
from trainables.data_identity import DataIdentity
from trainables.epoch_metrics import EpochMetrics
from trainables.folds import Folds
from trainables.probes.records import NetworkProbes

_STATUS: dict[TrialState, Status] = {
    TrialState.COMPLETE: "FINISHED",
    TrialState.PRUNED: "FINISHED",
    TrialState.FAIL: "FAILED",
}
_TOTALS_EVERY = 5.0
"""Seconds between two updates of the totals on the search's own run."""


@dataclass
class _Written:
    """What the journal holds of a run.

    Attributes:
        steps: that have metrics.
        is_open: the run has started or resumed, and has not ended since.
        has_probes: the run has the probes of its network.
        model: path of the weights of its model; None without a model.
    """

    steps: set[int] = field(default_factory=set)
    is_open: bool = False
    has_probes: bool = False
    model: str | None = None


class JournalRecorder(Observer):
    """Records a search as one run with a child for each trial and each finalist.

    Nothing is written twice, also by a later driver. `complete` writes from the study what a killed
    driver did not write.

    Args:
        journal: of the search.
        experiment: of the search.
        summarise: returns the current summary.
        data: identity of the data.
    """

    is_vital = True

    def __init__(
        self,
        journal: Journal,
        experiment: Experiment,
        summarise: Callable[[], Summary],
        data: DataIdentity | None = None,
    ) -> None:
        self._journal = journal
        self._experiment = experiment
        self._summarise = summarise
        self._data = data
        self._written: dict[str, _Written] = {}
        self._totals: dict[str, float] = {}
        for event in read_all(journal.path):
            self._remember(event)
        self._totals_due = 0.0
        self._user = _user()

    def begin(self) -> None:
        """Start or resume the search's own run."""
        experiment = self._experiment
        # MLflow's params are immutable: what a resumed search may change is in its artifact.
        known = PARENT in self._written
        params: dict[str, object] = {}
        if not known:
            resolution = experiment.resolution
            params = {
                "data": experiment.data,
                "data_digest": self._data.digest if self._data else None,
                "resolution": resolution if isinstance(resolution, int | None) else str(resolution),
                "subset": experiment.subset,
                "validation": self._validation(),
                "folds": experiment.validation.trainings
                if isinstance(experiment.validation, Folds)
                else None,
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
        self._journal.start(
            PARENT,
            experiment.name,
            params=params,
            tags=self._tags("search"),
            artifacts={
                "experiment.yaml": experiment.to_yaml(self._data.shape[:2] if self._data else None)
            },
        )

    def _validation(self) -> str:
        """Return how candidates are validated, with the number of images if it is known."""
        experiment = self._experiment
        setting = experiment.validation_list or str(experiment.validation)
        return f"{setting}, {self._data.validation_images:,} images" if self._data else setting

    def _remember(self, event: Event) -> None:
        if isinstance(event, OfDriver):
            return
        written = self._written.setdefault(event.run, _Written())
        if isinstance(event, Start | Finish):
            written.is_open = isinstance(event, Start)
        elif isinstance(event, Model):
            written.model = event.weights
        elif isinstance(event, Metrics) and is_of_probes(event):
            written.has_probes = True
        elif isinstance(event, Metrics):
            written.steps.add(event.step)
            if event.run == PARENT:
                self._totals |= event.metrics

    def complete(self, trial: TrialRecord, rebuild: Callable[[], StartedTrial]) -> None:
        """Write what a killed driver did not write of an ended trial.

        Args:
            trial: from the study.
            rebuild: returns the event of its start.
        """
        written = self._written.get(str(trial.number))
        if written is not None and not written.is_open:
            return
        self.started(rebuild())
        for metrics in trial.history.values():
            self.reported(trial.number, metrics)
        self.finished(trial.number, trial.outcome, trial.reason)

    def paused(self, number: int) -> None:
        """End the run of an interrupted trial, unless it has ended."""
        if not self._written.setdefault(str(number), _Written()).is_open:
            return
        self._journal.update(str(number), tags={"verdict": "interrupted"})
        self._finish(str(number), "KILLED")

    def _finish(self, key: str, status: Status) -> None:
        self._journal.finish(key, status)
        self._written.setdefault(key, _Written()).is_open = False

    def started(self, trial: StartedTrial) -> None:
        """Start or resume the run of a trial."""
        key = str(trial.number)
        known = key in self._written
        written = self._written.setdefault(key, _Written())
        if written.is_open:
            return
        written.is_open = True
        if known:
            self._journal.start(key, f"trial {trial.number}")
            return
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
                "truncated_from": _drawn(trial.candidate),
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
            },
            tags=self._tags("trial") | {"digest": trial.candidate.digest},
            artifacts={
                "candidate.json": candidate_json(trial.params, architecture),
                "receptive_field.svg": field_plot(trial.border, name),
            },
        )

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Record an epoch once."""
        steps = self._written.setdefault(str(number), _Written()).steps
        if metrics.epoch not in steps:
            self._journal.metrics(str(number), metrics.epoch, metrics.values)
            steps.add(metrics.epoch)

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """End the run of a trial."""
        tag = "stopped" if outcome is TrialState.PRUNED else "cause"
        tags = {"verdict": outcome.name.lower()} | ({tag: reason} if reason else {})
        self._journal.update(str(number), tags=tags)
        self._finish(str(number), _STATUS[outcome])
        if time.monotonic() >= self._totals_due:
            self.totals()
            # Totals are computed from all trials: too costly for every trial of a large search.
            self._totals_due = time.monotonic() + _TOTALS_EVERY

    def totals(self) -> None:
        """Record the totals of the search on its own run."""
        summary = self._summarise()
        totals: dict[str, float] = {
            "trials_complete": summary.complete,
            "trials_pruned": summary.pruned,
            "trials_failed": summary.failed,
            "rejected": summary.rejected,
            # The lower end: an interval may have no upper end.
            "saved_device_hours": summary.savings.total.low / 3600,
            "trained_device_hours": summary.savings.trained_seconds / 3600,
        }
        totals |= {f"rejected_{reason}": n for reason, n in summary.rejections.items()}
        if summary.best is not None:
            totals["best_validation_accuracy"] = summary.best.accuracy or 0.0
        if summary.front:
            totals["pareto_front"] = len(summary.front)
        if summary.truncated:
            totals["truncated"] = summary.truncated
        self._total(summary.trained, totals)

    def _total(self, step: int, totals: Mapping[str, float]) -> None:
        """Record totals that have changed."""
        if not totals.items() <= self._totals.items():
            self._journal.metrics(PARENT, step, totals)
            self._totals |= totals

    def finalist(self, finalist: Finalist, candidate: Candidate) -> None:
        """Record a finalist, with one step for each seed."""
        number, results = finalist.number, finalist.results
        key = f"finalist-{number}"
        known = key in self._written
        written = self._written.setdefault(key, _Written())
        steps = {result.seed - self._experiment.seed: result for result in results}
        if steps.keys() <= written.steps and not written.is_open:
            return
        params: dict[str, Scalar] = {
            "trial": number,
            **describe(candidate.architecture),
            "truncated_from": _drawn(candidate),
            "seeds": len(results),
        }
        self._journal.start(
            key,
            f"finalist {number}",
            # MLflow's params are immutable: the first values stay.
            params={} if known else params,
            tags=self._tags("finalist"),
        )
        for step, result in steps.items():
            accuracies = {
                "validation_accuracy": result.validation_accuracy,
                "test_accuracy": result.test_accuracy,
            }
            if step not in written.steps:
                self._journal.metrics(key, step, accuracies)
                written.steps.add(step)
        mean, std = finalist.test_accuracy
        spread = {
            "test_accuracy_mean": mean,
            "test_accuracy_std": std,
            "validation_accuracy_mean": finalist.validation_accuracy,
            # The param of this name keeps the first value.
            "seeds": len(results),
        }
        self._journal.metrics(key, max(steps), spread)
        self._finish(key, "FINISHED")

    def probes(self, key: str, probes: NetworkProbes) -> None:
        """Record the probes of a finalist once."""
        written = self._written.setdefault(key, _Written())
        if not written.has_probes:
            record_probes(self._journal, key, probes)
            written.has_probes = True

    def model(self, key: str, weights: str, describe: Callable[[], PyfuncModel]) -> None:
        """Record the network of a finalist as a model, unless it has one with these weights.

        Args:
            key: of the run.
            weights: path of the file of its weights, relative to the folder of the search.
            describe: returns the model.
        """
        written = self._written.setdefault(key, _Written())
        if written.model != weights:
            self._journal.model(key, describe(), weights)
            written.model = weights

    def end(
        self,
        status: Status,
        report: str | None = None,
        test_accuracy: tuple[float, float] | None = None,
        baseline: Mapping[str, float] | None = None,
    ) -> None:
        """End the search's own run and close the journal.

        Args:
            status: of the search.
            report: web page, if there is one.
            test_accuracy: mean and standard deviation of the best finalist.
            baseline: metrics of the baseline.
        """
        self.totals()
        if baseline:
            self._total(self._summarise().trained, baseline)
        if test_accuracy is not None:
            mean, std = test_accuracy
            step = self._summarise().trained
            self._total(step, {"test_accuracy_mean": mean, "test_accuracy_std": std})
        if report is not None:
            self._journal.update(PARENT, artifacts={"report.html": report})
        self._journal.finish(PARENT, status)
        self._journal.close()

    def _tags(self, kind: str) -> dict[str, str]:
        return {"kind": kind, "search": self._experiment.name, "mlflow.user": self._user}


def describe(architecture: Architecture) -> dict[str, str | int]:
    """Return a short description that fits networks of any family."""
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


def _drawn(candidate: Candidate) -> int | None:
    """Return the number of drawn convolutions of a truncated candidate."""
    return None if candidate.truncated is None else candidate.truncated.drawn


def _runs(amounts: Sequence[int]) -> Iterator[str]:
    """Yield 64x3 for three equal amounts in a row, which deep networks often have."""
    for amount, group in groupby(amounts):
        count = len(list(group))
        yield str(amount) if count == 1 else f"{amount}x{count}"


def _user() -> str:
    # On shared machines all members of a team may be the same system user.
    if known := os.environ.get("MLFLOW_TRACKING_USERNAME"):
        return known
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"  # The user of a container may have no name.


def candidate_json(params: Mapping[str, object], architecture: Architecture) -> str:
    """Return a candidate as JSON: the parameters that rebuild it, and its graph."""
    graph = json.loads(architecture.to_json())
    return json.dumps({"params": dict(params), "architecture": graph}, indent=1)
