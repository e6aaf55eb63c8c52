"""The record of a trial: what the study stores beside parameters and values, and how it is read.

The state of a stored trial is what the sampler was told, which is not always what happened; see
`told_state`. Read `TrialRecord.outcome` to learn what happened.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self, TypedDict, cast

from optuna.trial import FrozenTrial, TrialState

from spaces.candidate import Candidate
from spaces.remedies import Truncated
from trainables.epoch_metrics import EpochMetrics

AHEAD = 20
"""Number of further trials whose improvement is estimated; see ``prospect`` below."""


@dataclass(frozen=True)
class Rejection:
    """Why a candidate is not trained.

    Attributes:
        reason: the screen: collapsed, untrainable, border, params, macs, memory, duplicate; or
            invalid: the drawn values describe no network.
        violation: how far the candidate exceeds the limit, over 0: convolutions beyond the border
            layer, or the excess relative to the limit, or what the space says.
        detail: the same in words.
    """

    reason: str
    violation: float
    detail: str


class TrialAttributes(TypedDict, total=False):
    """User attributes of a stored trial. Stored studies are read by these keys: rename none."""

    digest: str
    """Digest of the candidate. Candidates with the same digest train alike."""
    params: int
    """Number of parameters of the network; absent where it collapses or is invalid."""
    macs: int
    """Multiply-accumulates for one image; absent where the parameters are."""
    activation_bytes: int
    """Bytes for one image that backpropagation keeps, in float32; absent likewise, or in studies of
    older versions."""
    layers: int
    """Layers of the graph; absent likewise."""
    batch_size: int
    """Images per step; absent likewise."""
    beyond: int
    """Convolutions beyond the border layer."""
    truncated_from: int
    """Convolutions of the drawn network; absent if it was not truncated."""
    truncated_to: int
    """Convolutions of the trained network; absent likewise."""
    share: float
    """Fraction of a device that the trial occupies."""
    prospect: float
    """By how much the next `AHEAD` trials, this one first, were expected to improve the best
    validation accuracy; absent where no estimate was possible."""
    seconds: float
    """Training time so far."""
    epochs: int
    """Epochs that were trained."""
    history: dict[str, dict[str, float]]
    """Metrics of each epoch, complete, so that tracking can be restored from the study alone."""
    train_accuracy: float
    """Training accuracy of the last epoch."""
    cause: str
    """Why the trial failed."""
    stopped: str
    """Why the trial stopped itself early."""
    rejected: str
    """Reason of the rejection; absent if the candidate was not rejected."""
    detail: str
    """The rejection in words."""
    saved_low: float
    """Lower end of the device seconds that the rejection saved, estimated once; absent if too few
    trials had ended."""
    saved_high: float
    """Upper end; absent if the candidate exceeds all trained ones in a cost."""
    duplicate_of: int
    """Number of the trial that trained the same candidate."""
    inherited: str
    """Name of the other search that trained the candidate."""
    inherited_number: int
    """Number of the trial in that search."""
    same_task: bool
    """Whether that search trained on the same data by the same protocol, so that accuracies are
    comparable; absent if it did not, or in studies of older versions."""
    verdict: str
    """The outcome in lower case, where the sampler was told another state."""


@dataclass(frozen=True)
class Workload:
    """What decides the time of an epoch.

    Attributes:
        macs: multiply-accumulates for one image.
        activation_bytes: for one image that backpropagation keeps; None in studies of older
            versions.
        layers: of the graph; None likewise.
        batch_size: images per step; None likewise.
    """

    macs: int
    activation_bytes: int | None = None
    layers: int | None = None
    batch_size: int | None = None

    @classmethod
    def of(cls, stored: TrialAttributes) -> Self | None:
        """Read what a study stores of a candidate; None if the network collapses or is invalid."""
        if "macs" not in stored:
            return None
        return cls(
            stored["macs"],
            stored.get("activation_bytes"),
            stored.get("layers"),
            stored.get("batch_size"),
        )

    @property
    def is_complete(self) -> bool:
        """Tell whether all values are known."""
        return None not in (self.activation_bytes, self.layers, self.batch_size)


@dataclass(frozen=True)
class TrialRecord:
    """The stored facts of a trial, with types.

    Attributes:
        number: of the trial in its study.
        params: from which the space rebuilds the candidate.
        outcome: what happened: COMPLETE (trained to the end), PRUNED (stopped early) or FAIL;
            RUNNING or WAITING (interrupted) for a trial that has not ended.
        values: of the objectives, accuracy first; empty before the end and after a failure.
        is_infeasible: the sampler was told that the candidate violates a constraint.
        digest: of the candidate; empty for an invalid one.
        param_count: parameters of the network; None where it collapses or is invalid.
        macs: multiply-accumulates for one image; None likewise.
        workload: what decides the time of an epoch; None likewise.
        beyond: convolutions beyond the border layer.
        truncated: how far the drawn network was truncated; None if it was not.
        device_fraction: of a device that the trial occupies.
        prospect: by how much the next `AHEAD` trials were expected to improve the best accuracy;
            None if it is unknown.
        seconds: of training so far.
        epochs: that were trained.
        stored_history: metrics by epoch, whose number JSON stores as text; see ``history``.
        cause: why it failed; empty if it did not, or if its loss diverged.
        stopped: why it stopped itself early; empty if it did not.
        ended_at: time of the end, in seconds since 1970; 0 before the end.
        rejected_for: reason of the rejection; empty if the candidate was not rejected.
        saved_low: lower end of the device seconds that the rejection saved; None if it was not
            estimated with the rejection.
        saved_high: upper end; None if there is none.
        duplicate_of: number of the trial that trained the same candidate.
        inherited_from: name of the other search that trained it; empty for this one.
        same_task: whether that search trained on the same data by the same protocol.
    """

    number: int
    params: Mapping[str, Any]
    outcome: TrialState
    values: tuple[float, ...]
    is_infeasible: bool
    digest: str
    param_count: int | None
    macs: int | None
    workload: Workload | None
    beyond: int
    truncated: Truncated | None
    device_fraction: float
    prospect: float | None
    seconds: float
    epochs: int
    stored_history: Mapping[str, Mapping[str, float]]
    cause: str
    stopped: str
    ended_at: float
    rejected_for: str
    saved_low: float | None
    saved_high: float | None
    duplicate_of: int | None
    inherited_from: str
    same_task: bool

    @classmethod
    def of(cls, trial: FrozenTrial) -> Self:
        """Read a stored trial."""
        stored = cast(TrialAttributes, trial.user_attrs)
        outcome = trial.state
        # A driver may have been killed between storing a verdict and ending the trial.
        if outcome.is_finished() and "verdict" in stored:
            outcome = TrialState[stored["verdict"].upper()]
        return cls(
            number=trial.number,
            params=trial.params,
            outcome=outcome,
            values=tuple(trial.values or ()),
            is_infeasible=bool(trial.constraints),
            digest=stored.get("digest", ""),
            param_count=stored.get("params"),
            macs=stored.get("macs"),
            workload=Workload.of(stored),
            beyond=stored.get("beyond", 0),
            truncated=(
                Truncated(stored["truncated_from"], stored["truncated_to"])
                if "truncated_from" in stored
                else None
            ),
            device_fraction=stored.get("share", 1.0),
            prospect=stored.get("prospect"),
            seconds=stored.get("seconds", 0.0),
            epochs=stored.get("epochs", 0),
            stored_history=stored.get("history", {}),
            cause=stored.get("cause", ""),
            stopped=stored.get("stopped", ""),
            ended_at=trial.datetime_complete.timestamp() if trial.datetime_complete else 0.0,
            rejected_for=stored.get("rejected", ""),
            saved_low=stored.get("saved_low"),
            saved_high=stored.get("saved_high"),
            duplicate_of=stored.get("duplicate_of"),
            inherited_from=stored.get("inherited", ""),
            same_task=stored.get("same_task", False),
        )

    @property
    def history(self) -> dict[int, EpochMetrics]:
        """Metrics by epoch; empty before the end."""
        # On demand: a summary of many trials needs none of it.
        return {
            int(epoch): EpochMetrics.from_dict({**metrics, "epoch": epoch})
            for epoch, metrics in self.stored_history.items()
        }

    @property
    def accuracy(self) -> float | None:
        """Last validation accuracy, the first objective; None where the trial has no values."""
        return self.values[0] if self.values else None

    @property
    def device_seconds(self) -> float:
        """Device time of the trial; one second on half a device counts as 0.5."""
        return self.seconds * self.device_fraction

    @property
    def is_rejected(self) -> bool:
        """Tell whether a screen rejected the candidate, so that it was never trained."""
        return bool(self.rejected_for)

    @property
    def is_inherited(self) -> bool:
        """Tell whether another search trained the candidate."""
        return bool(self.inherited_from)

    @property
    def is_trained(self) -> bool:
        """Tell whether this search trains, or trained, the candidate."""
        return not self.is_rejected and not self.is_inherited

    @property
    def reason(self) -> str:
        """Why the trial failed or stopped itself; empty where it did neither."""
        if self.outcome is TrialState.FAIL:
            return self.cause or "the loss is no longer a number"
        return self.stopped


def truncation_of(candidate: Candidate) -> TrialAttributes:
    """Return what a study stores of the truncation of a candidate: nothing if there was none."""
    truncated = candidate.truncated
    if truncated is None:
        return TrialAttributes()
    return TrialAttributes(truncated_from=truncated.drawn, truncated_to=truncated.kept)


def told_state(outcome: TrialState, *, objectives: int, is_infeasible: bool) -> TrialState:
    """Return the state from which the sampler learns an outcome.

    It differs from the outcome in two cases:

    - Samplers ignore failed trials, so an infeasible one is told as PRUNED.
    - Optuna's TPE raises on pruned trials of several objectives, so these are told as COMPLETE.

    Args:
        outcome: what happened.
        objectives: how many the study has.
        is_infeasible: the trial violates a constraint.
    """
    if outcome is TrialState.FAIL and is_infeasible:
        return TrialState.PRUNED
    if outcome is TrialState.PRUNED and objectives > 1:
        return TrialState.COMPLETE
    return outcome


def told_constraints(
    outcome: TrialState, *, objectives: int, violation: float = 0.0, stopped: str = ""
) -> dict[str, float]:
    """Return the constraints that the sampler is told a trial violates.

    Args:
        outcome: what happened.
        objectives: how many the study has.
        violation: over 0 if the trial ran out of memory: the excess relative to the limit.
        stopped: why the trial stopped itself early.
    """
    if outcome is TrialState.FAIL and violation > 0:
        return {"memory": violation}
    if outcome is TrialState.PRUNED and stopped and objectives > 1:
        # A network that learns nothing is no useful compromise, however cheap it is.
        return {"hopeless": 1.0}
    return {}
