"""Compares two searches: their data, and the candidates that only one of them trained."""

from __future__ import annotations

from collections.abc import Sequence

from optuna.trial import FrozenTrial

from search.formatting import duration, plural
from search.reporting.rendering import Section
from search.reporting.sections.columns import SHOWN
from search.reporting.sections.rejections import best_accuracy
from search.study.summary import trained_though_rejected
from trainables.data_identity import DataIdentity


def comparability(
    one: tuple[str, DataIdentity | None], two: tuple[str, DataIdentity | None]
) -> Section:
    """Tell whether the scores of two searches can be compared.

    Args:
        one: name and identity of the data of a search.
        two: of the other search.
    """
    (name, data), (other, others) = one, two
    if data is None or others is None:
        unknown = name if data is None else other
        verdict = f"unknown: the data of {unknown} are not recorded"
    elif differences := data.difference(others):
        verdict = f"no. Compared with {name}, {other} has other data: {'; '.join(differences)}"
    else:
        verdict = "yes, both searches have the same data"
    return Section(f"Are {name} and {other} comparable?", (f"{verdict[0].upper()}{verdict[1:]}.",))


def compare(
    rejecting: tuple[str, Sequence[FrozenTrial]], training: tuple[str, Sequence[FrozenTrial]]
) -> Section:
    """Compare the candidates that one search rejected and another one trained with the others."""
    (name, rejected), (other, trained) = rejecting, training
    overlap = trained_though_rejected(rejected, trained)
    heading = f"Rejected in {name}, trained in {other}"
    if not overlap.trials:
        return Section(heading, ("No candidate.",))
    best = overlap.trials[0]
    others = "none" if overlap.others_best is None else f"{overlap.others_best:.4f}"
    found = plural(len(overlap.trials), "candidate")
    sentence = (
        f"{other} trained {found} that {name} rejected before training. Their best validation "
        f"accuracy is {best_accuracy(overlap.trials)} (trial {best.number}), against {others} of "
        f"the other candidates in {other}. They took "
        f"{duration(sum(t.device_seconds for t in overlap.trials))} of device time."
    )
    rows = tuple(
        (
            str(t.number),
            f"{t.accuracy:.4f}",
            str(t.beyond),
            str(t.epochs),
        )
        for t in overlap.trials[:SHOWN]
    )
    header = (f"trial of {other}", "validation", "convolutions beyond", "epochs")
    return Section(heading, (sentence,), header, rows)
