"""How parts of a page name trials and their outcomes."""

from __future__ import annotations

from optuna.trial import TrialState

from search.reporting.charts.scales import short
from search.reporting.sections.columns import structure
from search.study.records import TrialRecord
from spaces.candidate import CandidateSpace


def label(record: TrialRecord) -> str:
    """Return a trial in a line, as charts show it."""
    stopped = "" if record.outcome is TrialState.COMPLETE else ", stopped early"
    parts = [f"trial {record.number}: accuracy {record.accuracy or 0.0:.4f}{stopped}"]
    if record.param_count is not None:
        parts.append(f"{short(record.param_count)} params")
    if record.macs is not None:
        parts.append(f"{short(record.macs)} MACs")
    if record.epochs:
        parts.append(f"{record.epochs} epochs")
    return ", ".join(parts)


def network_of(record: TrialRecord, space: CandidateSpace) -> str:
    """Return the network and recipe of a trial in a line."""
    features, pools, kernel, recipe = structure(record, space)
    pooled = "no pooling" if pools == "none" else f"pooling after {pools}"
    return f"features {features}, {pooled}, kernel {kernel}; {recipe}"
