"""The report of a search: leaderboard, front, finalists, failures and rejections."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from optuna.trial import FrozenTrial

from search.experiment.schema import Experiment
from search.reporting.finalist_metrics import Values, metrics_section
from search.reporting.probe_table import describe_probes
from search.reporting.rendering import Section
from search.reporting.sections.finalists import finalists_section
from search.reporting.sections.leaderboard import leaderboard, pareto_front
from search.reporting.sections.rejections import (
    beyond_section,
    failures_section,
    rejections_section,
)
from search.reporting.standing import Standing
from search.study.finalists import Finalist
from search.study.records import TrialRecord
from search.study.significance import Comparison
from search.study.summary import summarise
from search.tracking.field_plot import field_plot
from spaces.border import find_border
from spaces.candidate import CandidateSpace
from trainables.data_identity import DataIdentity
from trainables.probes.records import NetworkProbes


def build_report(
    experiment: Experiment,
    trials: Sequence[FrozenTrial],
    finalists: Sequence[Finalist],
    space: CandidateSpace,
    data: DataIdentity | None,
    standing: Standing | None = None,
    behind: Mapping[int, Comparison] | None = None,
    probes: Iterable[tuple[str, NetworkProbes]] = (),
    metrics: Values | None = None,
) -> list[Section]:
    """Return the report of a search.

    Args:
        experiment: of the search.
        trials: all trials of its study.
        finalists: retrained candidates, best first; empty before they are retrained.
        space: rebuilds the candidates.
        data: identity of its data; None if an older version started the search.
        standing: of the winner against the baseline; None before the baseline is computed.
        behind: see `search.study.finalist_ties.distances`.
        probes: of trained networks, with the names of their files.
        metrics: see `search.reporting.finalist_metrics.read_metrics`.
    """
    summary = summarise(trials)
    records = [TrialRecord.of(trial) for trial in trials]
    by_number = {record.number: record for record in records}
    sections = [_data(experiment, data), leaderboard(summary, space, data, standing)]
    if summary.front:
        sections.append(pareto_front(experiment, summary, space, data))
    if finalists:
        sections.append(
            finalists_section(experiment, finalists, by_number, space, data, standing, behind or {})
        )
        sections += metrics_section(metrics or {})
    if summary.failed:
        sections.append(failures_section(records))
    sections.append(rejections_section(experiment, summary))
    beyond = beyond_section(experiment, summary)
    if beyond is not None:
        sections.append(beyond)
    shown = finalists[0].number if finalists else summary.best.number if summary.best else None
    if shown is not None:
        candidate = space.rebuild(by_number[shown].params)
        analysis = find_border(candidate.architecture, experiment.screens.rule)
        plot = field_plot(analysis, f"trial {shown}")
        sections.append(Section("Receptive field of the best candidate", picture=plot))
    return [*sections, *describe_probes(probes)]


def _data(experiment: Experiment, data: DataIdentity | None) -> Section:
    known = "not recorded, because an older version started the search"
    return Section("Data", (f"{experiment.data}: {data.describe() if data else known}.",))
