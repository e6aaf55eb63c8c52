"""The command `explain`: why a trial was rejected, stopped or failed."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import Home
from search.experiment.schema import Experiment
from search.formatting import plural
from search.reporting.stored_search import StoredSearch
from search.reporting.trial_table import outcome_of
from search.study.records import TrialRecord
from spaces.border import find_border
from spaces.errors import BadInputError


@dataclass(frozen=True)
class Explanation:
    """Why a trial ended as it did.

    Attributes:
        trial: ``NAME:TRIAL``.
        outcome: in words, such as rejected.
        reason: the screen or rule that decided; empty for a complete trial.
        value: of the trial, which was compared with the limit; None where nothing was compared.
        limit: None likewise.
        sentences: for people.
    """

    trial: str
    outcome: str
    reason: str
    value: float | None
    limit: float | None
    sentences: tuple[str, ...]

    def document(self) -> dict[str, Any]:
        """Return the explanation as plain values."""
        return asdict(self)


def parse_trial(reference: str) -> tuple[str, int]:
    """Return name and number of ``NAME:TRIAL``.

    Raises:
        BadInputError: it has another form.
    """
    name, colon, number = reference.rpartition(":")
    if not (colon and name and number.isascii() and number.isdigit()):
        problem = "does not name a trial"
        raise BadInputError("NAME:TRIAL", reference, problem, "write e.g. quickstart:3")
    return name, int(number)


def find_trial(stored: StoredSearch, number: int) -> FrozenTrial:
    """Return a trial of a stored search.

    Raises:
        BadInputError: there is no such trial.
    """
    for trial in stored.trials:
        if trial.number == number:
            return trial
    known = f"it has trials 0 to {stored.trials[-1].number}" if stored.trials else "it has none"
    reference = f"{stored.folder.name}:{number}"
    raise BadInputError("NAME:TRIAL", reference, "no such trial", known)


def explain_trial(reference: str, home: Home) -> Explanation:
    """Return why a trial was rejected, stopped or failed, or how it ended otherwise.

    Raises:
        BadInputError: there is no such search or trial.
    """
    name, number = parse_trial(reference)
    stored = StoredSearch(home.existing(name))
    trial = find_trial(stored, number)
    record = TrialRecord.of(trial)
    if record.is_rejected:
        reason, value, limit, said = _rejection(stored, trial, record)
    elif record.outcome is TrialState.PRUNED and not record.stopped:
        reason, value, limit, said = _early_stop(stored, trial, record)
    else:
        reason, value, limit, said = record.reason, None, None, [*_ending(stored, record)]
    return Explanation(reference, outcome_of(record), reason, value, limit, tuple(said))


_Decision = tuple[str, float | None, float | None, list[str]]


def _rejection(stored: StoredSearch, trial: FrozenTrial, record: TrialRecord) -> _Decision:
    reason = record.rejected_for
    detail = str(trial.user_attrs.get("detail", "")) or "no detail is stored"
    said = [f"Screen {reason} rejected the candidate before training: {detail}."]
    value, limit, remedy = _compared(stored, record)
    if limit is not None and value is not None:
        said.append(f"Value {value:,.10g}, limit {limit:,.10g}. {remedy}")
    elif remedy:
        said.append(remedy)
    return reason, value, limit, said


def _compared(stored: StoredSearch, record: TrialRecord) -> tuple[float | None, float | None, str]:
    """Return the value that a screen compared, its limit, and what would accept the candidate."""
    screens = stored.experiment.screens
    match record.rejected_for:
        case "params":
            return _limited("params", record.param_count, screens.min_params, screens.max_params)
        case "macs":
            return _limited("macs", record.macs, screens.min_macs, screens.max_macs)
        case "memory":
            memory = stored.space.rebuild(record.params).training_memory() / 1e6
            remedy = "Raise screens.max_memory_mb, or search smaller batches, to train it."
            return memory, screens.max_memory_mb, f"Both are in MB. {remedy}"
        case "border":
            beyond = _beyond(stored, record)
            remedy = (
                "Both are numbers of convolutions beyond the border layer. Raise "
                "screens.allow_beyond to train it, or set screens.border to truncate."
            )
            return beyond, screens.allow_beyond, remedy
        case "duplicate":
            other = record.duplicate_of
            of = "" if other is None else f"Trial {other} trained the same candidate. "
            return None, None, f"{of}Set screens.duplicates to false to train it again."
    return None, None, ""


def _limited(
    name: str, value: int | None, least: int | None, most: int | None
) -> tuple[float | None, float | None, str]:
    if value is not None and least is not None and value < least:
        return value, least, f"Lower screens.min_{name} to train it."
    return value, most, f"Raise screens.max_{name} to train it."


def _beyond(stored: StoredSearch, record: TrialRecord) -> int:
    candidate = stored.space.rebuild(record.params)
    return find_border(candidate.architecture, stored.experiment.screens.rule).beyond


def _early_stop(stored: StoredSearch, trial: FrozenTrial, record: TrialRecord) -> _Decision:
    experiment = stored.experiment
    epoch = max(trial.intermediate_values, default=record.epochs)
    value = trial.intermediate_values.get(epoch)
    reduction = experiment.scheduler.reduction
    others = _reached(stored, epoch)
    limit = float(np.percentile(others, 100 * (1 - 1 / reduction))) if others else None
    said = [
        f"ASHA stopped the trial after {plural(epoch, 'epoch')} of {_epochs(experiment)}: it was "
        f"not among the best 1/{reduction} of this rung."
    ]
    if value is not None and limit is not None:
        said.append(
            f"Value {value:.4f} (validation accuracy), limit {limit:.4f} over the "
            f"{plural(len(others), 'trial')} that have reached the rung by now, this one included. "
            "The limit at the time of the decision is not stored: it counted fewer trials."
        )
    said.append(
        "Raise scheduler.grace_epochs to decide later, or set scheduler.name to none, in a new "
        "search."
    )
    return "asha", value, limit, said


def _reached(stored: StoredSearch, epoch: int) -> list[float]:
    return [
        trial.intermediate_values[epoch]
        for trial in stored.trials
        if epoch in trial.intermediate_values and not TrialRecord.of(trial).is_inherited
    ]


def _epochs(experiment: Experiment) -> int:
    return experiment.whole_epochs


def _ending(stored: StoredSearch, record: TrialRecord) -> Iterator[str]:
    epochs = f"{record.epochs} of {plural(_epochs(stored.experiment), 'epoch')}"
    if record.is_inherited:
        yield f"Search {record.inherited_from} trained the candidate; this search learns from it."
    elif record.stopped:
        yield f"The trial stopped itself after {epochs}: {record.stopped}."
        yield "Change scheduler.hopeless_after to decide later, in a new search."
    elif record.outcome is TrialState.FAIL:
        yield f"The trial failed after {epochs}: {record.reason}."
    elif record.outcome is TrialState.COMPLETE:
        yield f"The trial was trained for {epochs}, with validation accuracy {record.accuracy:.4f}."
    elif record.outcome is TrialState.RUNNING:
        yield f"The trial is running; it has trained {epochs}."
    else:
        yield f"The trial was interrupted after {epochs}; it continues when the search is resumed."
