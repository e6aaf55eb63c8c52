"""Records a search in its journal as runs with params, metrics, tags and artifacts.

Params and metrics are few and the same for every family of networks, so that thousands of runs can
be compared. The whole candidate is an artifact.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

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
    DataInput,
    Event,
    Finish,
    Inputs,
    Metrics,
    Model,
    OfDriver,
    Scalar,
    Start,
    Status,
)
from search.tracking.journal_reader import read_all
from search.tracking.network_params import describe, layer_params
from search.tracking.probe_events import is_of_probes, record_probes
from search.tracking.provenance import data_inputs, source_tags, user
from search.tracking.pyfunc_model import PyfuncModel
from search.tracking.run_description import (
    DESCRIPTION,
    FIELDS,
    REPORT,
    describe_network,
    describe_search,
    describe_trial,
)
from search.tracking.run_params import (
    drawn_convolutions,
    search_params,
    search_totals,
    trial_params,
)
from spaces.architecture import Architecture
from spaces.border import find_border
from spaces.candidate import Candidate
from spaces.costs import costs
from trainables.data_identity import DataIdentity
from trainables.epoch_metrics import EpochMetrics
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
        inputs: its data sets.
        seconds: of its training so far.
        costs: of its network, for the metrics of its next epoch.
        has_costs: the run has the costs of its network.
    """

    steps: set[int] = field(default_factory=set)
    is_open: bool = False
    has_probes: bool = False
    model: str | None = None
    inputs: tuple[DataInput, ...] = ()
    seconds: float = 0.0
    costs: Mapping[str, float] = field(default_factory=dict)
    has_costs: bool = False


class JournalRecorder(Observer):
    """Records a search as one run with a child for each trial and each finalist.

    Nothing is written twice, also by a later driver. `complete` writes from the study what a killed
    driver did not write.

    Args:
        journal: of the search.
        experiment: of the search.
        summarise: returns the current summary.
        data: identity of the data.
        search: identity of the search in the store; None for its name.
    """

    is_vital = True

    def __init__(
        self,
        journal: Journal,
        experiment: Experiment,
        summarise: Callable[[], Summary],
        data: DataIdentity | None = None,
        search: str | None = None,
    ) -> None:
        self._journal = journal
        self._experiment = experiment
        self._summarise = summarise
        self._data = data
        self._search = search or experiment.name
        self._written: dict[str, _Written] = {}
        self._totals: dict[str, float] = {}
        for event in read_all(journal.path):
            self._remember(event)
        self._totals_due = 0.0
        self._user = user()

    def begin(self) -> None:
        """Start or resume the search's own run."""
        experiment = self._experiment
        # MLflow's params are immutable: what a resumed search may change is in its artifact.
        known = PARENT in self._written
        self._journal.start(
            PARENT,
            experiment.name,
            params={} if known else search_params(experiment, self._data),
            tags=self._tags("search")
            | source_tags()
            | {DESCRIPTION: describe_search(experiment, self._data, self._search)},
            artifacts={
                "experiment.yaml": experiment.to_yaml(self._data.shape[:2] if self._data else None)
            },
        )
        self._record_inputs(PARENT)

    def _record_inputs(self, key: str) -> None:
        """Record the images of the search as inputs of a run, once for the same images."""
        written = self._written.setdefault(key, _Written())
        inputs = data_inputs(self._experiment.data, self._data) if self._data else ()
        if inputs and written.inputs != inputs:
            self._journal.inputs(key, inputs)
            written.inputs = inputs

    def _remember(self, event: Event) -> None:
        if isinstance(event, OfDriver):
            return
        written = self._written.setdefault(event.run, _Written())
        if isinstance(event, Start | Finish):
            written.is_open = isinstance(event, Start)
        elif isinstance(event, Model):
            written.model = event.weights
        elif isinstance(event, Inputs):
            written.inputs = tuple(event.data)
        elif isinstance(event, Metrics) and is_of_probes(event):
            written.has_probes = True
        elif isinstance(event, Metrics):
            written.steps.add(event.step)
            written.has_costs |= "params" in event.metrics
            # Journals of older versions lack the sum.
            epoch = written.seconds + event.metrics.get("epoch_seconds", 0.0)
            written.seconds = event.metrics.get("seconds", epoch)
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
        was_open, written.is_open = written.is_open, True
        if not written.has_costs:
            written.costs = {"params": trial.costs.params, "macs": trial.costs.macs}
        if known:
            if not was_open:
                self._journal.start(key, f"trial {trial.number}")
            return
        name = f"trial {trial.number}"
        self._journal.start(
            key,
            name,
            params=trial_params(trial),
            tags=self._tags("trial")
            | {"digest": trial.candidate.digest, DESCRIPTION: describe_trial(trial)},
            artifacts={
                "candidate.json": candidate_json(trial.params, trial.candidate.architecture),
                FIELDS: field_plot(trial.border, name),
            },
        )

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Record an epoch once."""
        written = self._written.setdefault(str(number), _Written())
        if metrics.epoch in written.steps:
            return
        written.steps.add(metrics.epoch)
        written.seconds += metrics.epoch_seconds
        values = {**metrics.values, **written.costs, "seconds": written.seconds}
        if written.costs:
            written.has_costs, written.costs = True, {}
        if not metrics.has_diverged:
            values["objective"] = metrics.objective
        self._journal.metrics(str(number), metrics.epoch, values)

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
        self._total(summary.trained, search_totals(summary))

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
        architecture, title = candidate.architecture, f"Finalist {number}"
        analysis = find_border(architecture, self._experiment.screens.rule)
        found = costs(architecture)
        params: dict[str, Scalar] = {
            "trial": number,
            **describe(architecture),
            **layer_params(architecture),
            "truncated_from": drawn_convolutions(candidate),
            "seeds": len(results),
        }
        self._journal.start(
            key,
            f"finalist {number}",
            # MLflow's params are immutable: the first values stay.
            params={} if known else params,
            tags=self._tags("finalist")
            | {DESCRIPTION: describe_network(title, architecture, analysis, found.params)},
            artifacts={} if known else {FIELDS: field_plot(analysis, title)},
        )
        self._record_inputs(key)
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
            "objective": finalist.validation_accuracy,
            "test_accuracy_mean": mean,
            "test_accuracy_std": std,
            "validation_accuracy_mean": finalist.validation_accuracy,
            "params": found.params,
            "macs": found.macs,
            "seconds": sum(result.seconds for result in results),
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
        picture: str | None = None,
    ) -> None:
        """End the search's own run and close the journal.

        Args:
            status: of the search.
            report: web page, if there is one.
            test_accuracy: mean and standard deviation of the best finalist.
            baseline: metrics of the baseline.
            picture: SVG of the growth of the receptive field of the best candidate.
        """
        self.totals()
        if baseline:
            self._total(self._summarise().trained, baseline)
        if test_accuracy is not None:
            mean, std = test_accuracy
            step = self._summarise().trained
            self._total(step, {"test_accuracy_mean": mean, "test_accuracy_std": std})
        if report is not None:
            pictures = {} if picture is None else {FIELDS: picture}
            description = describe_search(
                self._experiment,
                self._data,
                self._search,
                self._result(test_accuracy),
                files=(REPORT, *pictures),
            )
            self._journal.update(
                PARENT, tags={DESCRIPTION: description}, artifacts={REPORT: report, **pictures}
            )
        self._journal.finish(PARENT, status)
        self._journal.close()

    def _result(self, test_accuracy: tuple[float, float] | None) -> str:
        """Return a sentence about the best candidate; empty without one."""
        best = self._summarise().best
        if best is None:
            return ""
        sentence = f"Best validation accuracy: {best.accuracy or 0.0:.4f} (trial {best.number})."
        if test_accuracy is None:
            return sentence
        mean, std = test_accuracy
        return f"{sentence} Test accuracy of the best finalist: {mean:.4f} ± {std:.4f}."

    def _tags(self, kind: str) -> dict[str, str]:
        return {"kind": kind, "search": self._experiment.name, "mlflow.user": self._user}


def candidate_json(params: Mapping[str, object], architecture: Architecture) -> str:
    """Return a candidate as JSON: the parameters that rebuild it, and its graph."""
    graph = json.loads(architecture.to_json())
    return json.dumps({"params": dict(params), "architecture": graph}, indent=1)
