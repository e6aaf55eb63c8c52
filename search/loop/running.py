"""A trial in training, as its driver knows it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from optuna.trial import TrialState

from search.experiment.objectives import Objective, cost_values
from search.study.events import StartedTrial
from search.study.records import TrialAttributes, told_constraints
from trainables.epoch_metrics import EpochMetrics


@dataclass(frozen=True)
class Ending:
    """How a training ended, as `search.study.study.Study.finish` stores it.

    Attributes:
        outcome: COMPLETE, PRUNED (stopped early) or FAIL.
        attributes: what the study stores of the training.
        costs: values of the objectives beyond accuracy; empty where they are unknown.
        constraints: which the sampler is told the candidate violates, and by how much.
    """

    outcome: TrialState
    attributes: TrialAttributes
    costs: Sequence[float]
    constraints: dict[str, float]


@dataclass
class RunningTrial:
    """A trial in training and what its epochs have reported so far."""

    trial: StartedTrial
    device_fraction: float
    stored: frozenset[int] = frozenset()
    """Epochs that an earlier driver has stored in the study."""
    seconds_stored: float = 0.0
    """Training time in the study. The first report of a resumed trial repeats these epochs."""
    history: dict[int, EpochMetrics] = field(default_factory=dict)
    """Metrics of each epoch."""

    @property
    def epoch(self) -> int:
        """Number of epochs done."""
        return max(self.history, default=0)

    @property
    def metrics(self) -> EpochMetrics | None:
        """Metrics of the last epoch; None before the first."""
        return self.history.get(self.epoch)

    @property
    def seconds(self) -> float:
        """Training time of the reported epochs; any thread may ask."""
        return math.fsum(metrics.epoch_seconds for metrics in list(self.history.values()))

    @property
    def spent(self) -> float:
        """Training time so far, including what an earlier driver stored."""
        return max(self.seconds, self.seconds_stored)

    @property
    def device_seconds(self) -> float:
        """Device time so far; one second on half a device counts as 0.5."""
        return self.spent * self.device_fraction

    @property
    def attributes(self) -> TrialAttributes:
        """What the study stores of the training."""
        found = TrialAttributes(
            seconds=self.spent,
            epochs=self.epoch,
            history={str(epoch): metrics.values for epoch, metrics in self.history.items()},
        )
        if self.metrics is not None:
            found["train_accuracy"] = self.metrics.train_accuracy
        return found

    def end(
        self,
        epochs: int,
        objectives: Sequence[Objective],
        cause: str = "",
        *,
        violation: float = 0.0,
        stopped: str = "",
    ) -> Ending:
        """Return how the training ended.

        It failed if there is a cause or a latency was not measured. Otherwise it is complete after
        its last epoch and pruned before.

        Args:
            epochs: length of a whole training.
            objectives: of the study.
            cause: why it failed.
            violation: over 0 if it ran out of memory: the excess relative to the limit.
            stopped: why it stopped itself early.
        """
        costs: Sequence[float] = ()
        try:
            measured = self.metrics.values if self.metrics else {}
            costs = cost_values(objectives, self.trial.costs, measured)
        except KeyError as error:
            if self.epoch:
                cause = cause or f"the trial did not report {error.args[0]}"
        outcome = TrialState.COMPLETE if self.epoch >= epochs else TrialState.PRUNED
        attributes = self.attributes
        if cause:
            outcome = TrialState.FAIL
            attributes["cause"] = cause
        elif stopped and outcome is TrialState.PRUNED:
            attributes["stopped"] = stopped
        constraints = told_constraints(
            outcome, objectives=len(objectives), violation=violation, stopped=stopped
        )
        return Ending(outcome, attributes, costs, constraints)
