"""Summarises the trials of a study: counts, leaderboard, Pareto front, savings.

Every result is a pure function of the trials, for a running as for a finished search.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial, TrialState

from search.study.records import AHEAD, TrialRecord
from search.study.savings import Savings, estimate_savings

SMALLEST_PROSPECT = 0.0001
"""Expected improvements below it are shown as less."""


@dataclass(frozen=True)
class TrialCounts:
    """How many trials of a search ended in which way.

    Attributes:
        complete: trials trained for all epochs.
        pruned: trials stopped early.
        failed: trials that failed.
        interrupted: trials that continue when the search is resumed.
        rejections: candidates rejected, by reason.
    """

    complete: int
    pruned: int
    failed: int
    interrupted: int
    rejections: dict[str, int]

    @property
    def trained(self) -> int:
        """Trials that ended training with any outcome."""
        return self.complete + self.pruned + self.failed

    @property
    def rejected(self) -> int:
        """Candidates rejected."""
        return sum(self.rejections.values())


@dataclass(frozen=True)
class Summary(TrialCounts):
    """The state of a search.

    Attributes:
        running: trials in training.
        truncated: trained and running trials whose network was truncated at the border layer.
        leaderboard: complete and pruned trials, best validation accuracy first, complete first.
        front: the Pareto front, best validation accuracy first; empty where accuracy is the only
            objective.
        savings: what the rejections saved.
        prospect: by how much the next `search.study.records.AHEAD` trials are expected to improve
            the best accuracy; None if it is unknown.
    """

    running: int
    truncated: int
    leaderboard: list[TrialRecord]
    front: list[TrialRecord]
    savings: Savings
    prospect: float | None = None

    @property
    def prospect_line(self) -> str:
        """The prospect in a sentence without its full stop; empty if it is unknown."""
        return "" if self.prospect is None else describe_prospect(self.prospect)

    @property
    def best(self) -> TrialRecord | None:
        """The complete trial with the best validation accuracy."""
        if self.leaderboard and self.leaderboard[0].outcome is TrialState.COMPLETE:
            return self.leaderboard[0]
        return None


def summarise(trials: Sequence[FrozenTrial]) -> Summary:
    """Summarise the trials of a study."""
    records = [record for record in map(TrialRecord.of, trials) if not record.is_inherited]
    trained = [record for record in records if record.is_trained]
    outcomes = Counter(record.outcome for record in trained)
    ended = [r for r in trained if r.outcome in (TrialState.COMPLETE, TrialState.PRUNED)]
    ended.sort(key=lambda r: (r.outcome is not TrialState.COMPLETE, -(r.accuracy or 0), r.number))
    return Summary(
        complete=outcomes[TrialState.COMPLETE],
        pruned=outcomes[TrialState.PRUNED],
        failed=outcomes[TrialState.FAIL],
        interrupted=outcomes[TrialState.WAITING],
        running=outcomes[TrialState.RUNNING],
        truncated=sum(record.truncated is not None for record in trained),
        rejections=dict(Counter(r.rejected_for for r in records if r.is_rejected).most_common()),
        leaderboard=ended,
        front=pareto_front(ended),
        savings=estimate_savings(records),
        prospect=next((r.prospect for r in reversed(trained) if r.prospect is not None), None),
    )


def describe_prospect(prospect: float) -> str:
    """Return a sentence about the improvement that further trials are expected to bring.

    Example:
        >>> describe_prospect(0.0123)
        'the next 20 trials are expected to improve the best validation accuracy by 0.012'
    """
    by = f"{prospect:.2g}" if prospect >= SMALLEST_PROSPECT else f"less than {SMALLEST_PROSPECT}"
    return f"the next {AHEAD} trials are expected to improve the best validation accuracy by {by}"


def pareto_front(records: Sequence[TrialRecord]) -> list[TrialRecord]:
    """Return the trials that no other trial dominates, best accuracy first.

    A trial that was stopped early counts with its last accuracy, which more training seldom lowers.
    A trial that stopped itself learnt nothing and does not count, however cheap it is.

    Args:
        records: complete and pruned trials.
    """
    several = [record for record in records if len(record.values) > 1 and not record.stopped]
    # In this order, only an earlier trial can dominate a later one.
    several.sort(key=lambda r: (-r.values[0], r.values[1:], r.number))
    front: list[TrialRecord] = []
    for record in several:
        dominated = any(
            other.values != record.values
            and all(
                ours <= its for ours, its in zip(other.values[1:], record.values[1:], strict=True)
            )
            for other in front
        )
        if not dominated:
            front.append(record)
    return front


@dataclass(frozen=True)
class Overlap:
    """Candidates that one search rejected and another search trained.

    Attributes:
        trials: the other search's trials of these candidates, best first.
        others_best: best validation accuracy among its remaining trials, None if there are none.
    """

    trials: list[TrialRecord]
    others_best: float | None


def trained_though_rejected(
    rejecting: Sequence[FrozenTrial], training: Sequence[FrozenTrial]
) -> Overlap:
    """Find the candidates that the search ``rejecting`` rejected and ``training`` trained."""
    digests = {
        record.digest
        for record in map(TrialRecord.of, rejecting)
        if record.is_rejected and record.rejected_for != "duplicate"
    } - {""}
    board = summarise(training).leaderboard
    found = [record for record in board if record.digest in digests]
    others = [record.accuracy or 0.0 for record in board if record.digest not in digests]
    return Overlap(found, max(others, default=None))
