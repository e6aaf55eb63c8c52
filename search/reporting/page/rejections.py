"""What was rejected before training and why, with an example of each reason."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from optuna.trial import FrozenTrial

from search.reporting.gathering import Gathered
from search.reporting.page.frame import Part, bar, table
from search.reporting.sections.rejections import rejections_section
from search.study.records import TrialRecord

_MOST_PARAMS = 6


@dataclass(frozen=True)
class Example:
    """A rejected candidate.

    Attributes:
        number: of its trial.
        detail: why it was rejected, in words.
        drawn: its parameters, in words.
    """

    number: int
    detail: str
    drawn: str


def examples(trials: Sequence[FrozenTrial]) -> dict[str, Example]:
    """Return the last rejected candidate of each reason."""
    found: dict[str, Example] = {}
    for trial in reversed(trials):
        record = TrialRecord.of(trial)
        if record.is_rejected and not record.is_inherited and record.rejected_for not in found:
            found[record.rejected_for] = Example(
                record.number, str(trial.user_attrs.get("detail", "")), _drawn(record)
            )
    return found


def _drawn(record: TrialRecord) -> str:
    shown = [
        f"{name} {value:.3g}" if isinstance(value, float) else f"{name} {value}"
        for name, value in list(record.params.items())[:_MOST_PARAMS]
    ]
    return ", ".join(shown) + (", .." if len(record.params) > _MOST_PARAMS else "")


def rejections_part(gathered: Gathered) -> Part:
    """Return the part on rejected candidates."""
    summary = gathered.summary
    section = rejections_section(gathered.experiment, summary)
    if not summary.rejections:
        return Part(section.heading, section.sentences)
    found = examples(gathered.trials)
    most = max(summary.rejections.values())
    saved = {row[0]: row[2] for row in section.rows}
    rows = [
        (
            reason,
            bar(f"{count:,}", count / most, 1),
            saved.get(reason, "-"),
            str(found[reason].number),
            found[reason].detail,
            found[reason].drawn,
        )
        for reason, count in summary.rejections.items()
    ]
    header = ("reason", "candidates", "predicted time saved", "example", "because", "it drew")
    return Part(section.heading, section.sentences, (table(header, rows),))
