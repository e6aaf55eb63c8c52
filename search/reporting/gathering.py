"""Everything that a report shows of a search, read once from its folder and study."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Self

from optuna.trial import FrozenTrial, TrialState

from search.experiment.folder import SearchFolder
from search.experiment.schema import Experiment
from search.reporting.additional_results import (
    AdditionalResult,
    additional_section,
    read_additional,
)
from search.reporting.finalist_metrics import Values, read_metrics
from search.reporting.rendering import Section
from search.reporting.report import build_report
from search.reporting.standing import Standing, read_distances, read_standing
from search.reporting.stored_search import StoredSearch
from search.study.finalists import Finalist
from search.study.probes import ProbeStore
from search.study.records import TrialRecord
from search.study.significance import Comparison
from search.study.summary import Summary, summarise
from spaces.candidate import Candidate, CandidateSpace
from trainables.data_identity import DataIdentity
from trainables.probes.records import NetworkProbes


@dataclass(frozen=True)
class Gathered:
    """A search as its report shows it.

    Attributes:
        folder: of the search.
        experiment: of the search.
        trials: all trials of its study.
        finalists: best first; empty before they are retrained.
        space: rebuilds the candidates.
        state: running, finished, failed or interrupted.
    """

    folder: SearchFolder
    experiment: Experiment
    trials: Sequence[FrozenTrial]
    finalists: Sequence[Finalist]
    space: CandidateSpace
    state: str

    @classmethod
    def of(cls, stored: StoredSearch) -> Self:
        """Return what a report shows of a stored search."""
        return cls(
            stored.folder,
            stored.experiment,
            stored.trials,
            stored.finalists,
            stored.space,
            stored.state,
        )

    @cached_property
    def records(self) -> list[TrialRecord]:
        """The trials of this search, in order; without those of earlier searches."""
        found = map(TrialRecord.of, self.trials)
        return [record for record in found if not record.is_inherited]

    @cached_property
    def scored(self) -> list[TrialRecord]:
        """Trials with an accuracy: complete and stopped early, the first to end first."""
        outcomes = (TrialState.COMPLETE, TrialState.PRUNED)
        found = [
            record
            for record in self.records
            if record.is_trained and record.outcome in outcomes and record.accuracy is not None
        ]
        return sorted(found, key=lambda record: (record.ended_at, record.number))

    @cached_property
    def by_number(self) -> dict[int, TrialRecord]:
        """The trials by number."""
        return {record.number: record for record in self.records}

    @cached_property
    def summary(self) -> Summary:
        """Counts, leaderboard and front."""
        return summarise(self.trials)

    @cached_property
    def data(self) -> DataIdentity | None:
        """Identity of the data; None if an older version started the search."""
        return self.folder.data

    @cached_property
    def standing(self) -> Standing | None:
        """Of the winner against the baseline; None before the baseline is computed."""
        return read_standing(self.folder, list(self.finalists))

    @cached_property
    def behind(self) -> Mapping[int, Comparison]:
        """How far each finalist is behind the first."""
        return read_distances(self.folder, list(self.finalists))

    @cached_property
    def probes(self) -> list[tuple[str, NetworkProbes]]:
        """Probes of trained networks, with the names of their files."""
        return list(ProbeStore(self.folder.probes).all())

    @cached_property
    def metrics(self) -> Values:
        """Further metrics of the finalists."""
        return read_metrics(self.folder, self.experiment, self.finalists)

    @cached_property
    def additional(self) -> list[AdditionalResult]:
        """Retrained trials and named baselines, with their comparisons."""
        return read_additional(self.folder, self.finalists)

    @cached_property
    def best(self) -> list[TrialRecord]:
        """The finalists' trials, best first; before they are retrained, the leaderboard."""
        if self.finalists:
            return [self.by_number[each.number] for each in self.finalists]
        return list(self.summary.leaderboard)

    def candidate(self, record: TrialRecord) -> Candidate:
        """Return the candidate that the space draws now from the parameters of a trial."""
        return self.space.rebuild(record.params)

    def sections(self) -> list[Section]:
        """Return the report as sections, for the terminal."""
        return build_report(
            self.experiment,
            self.trials,
            self.finalists,
            self.space,
            self.data,
            self.standing,
            self.behind,
            self.probes,
            self.metrics,
        ) + additional_section(self.additional, self.standing)
