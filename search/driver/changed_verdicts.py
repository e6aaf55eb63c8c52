"""Says where the border screen of this version judges otherwise than that of a resumed search."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from search.formatting import plural
from search.loop.screens import Screen, judge
from search.study.records import TrialRecord
from spaces.candidate import CandidateSpace

LATEST = 100
"""Trials that are judged again, the latest of each kind: an old version judged all of them."""
BORDER = "border"


def changed_verdicts(
    trials: Sequence[FrozenTrial], space: CandidateSpace, screens: Sequence[Screen]
) -> str:
    """Return one line if the border screen judges trials of a search otherwise; else empty.

    An earlier version judged networks with several paths and gates by other rules. A resumed search
    keeps its verdicts, but judges further candidates by the present rules.

    Args:
        trials: of the search.
        space: rebuilds the candidates.
        screens: of the search.
    """
    records = [TrialRecord.of(trial) for trial in trials]
    rejected = [each for each in records if each.rejected_for == BORDER][-LATEST:]
    trained = [each for each in records if each.is_trained][-LATEST:]
    accepted_now = sum(_reason(each, space, screens) not in (BORDER, None) for each in rejected)
    rejected_now = sum(_reason(each, space, screens) == BORDER for each in trained)
    phrases = []
    if accepted_now:
        phrases.append(f"accepts {accepted_now} of {plural(len(rejected), 'rejected candidate')}")
    if rejected_now:
        phrases.append(f"rejects {rejected_now} of {plural(len(trained), 'trained candidate')}")
    if not phrases:
        return ""
    return (
        f"The border screen of this version {' and '.join(phrases)} that an earlier version "
        "judged otherwise; stored trials stay, and further candidates follow the present rules."
    )


def _reason(record: TrialRecord, space: CandidateSpace, screens: Sequence[Screen]) -> str | None:
    """Return the reason of a rejection, empty if accepted; None if it cannot be judged."""
    try:
        rejection = judge(space.rebuild(record.params), screens)
    except ValueError:
        return None  # The space no longer draws it.
    return rejection.reason if rejection else ""
