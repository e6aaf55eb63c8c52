"""The results of additional finalists, and how they compare with the finalists of the search."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search.experiment.folder import SearchFolder
from search.formatting import plural
from search.reporting.intervals import CONFIDENCE
from search.reporting.rendering import Section
from search.reporting.standing import GUESS, REGRESSION, Standing
from search.study.additional import AdditionalFinalist, additional_finalists
from search.study.finalists import Finalist, FinalistStore
from search.study.significance import Comparison, compare
from trainables.baseline import Baseline

METHOD = (
    "The test pairs the networks by test image, takes the spread of the seeds of each into "
    "account, and has Welch's degrees of freedom."
)


@dataclass(frozen=True)
class AdditionalResult:
    """The result of an additional finalist.

    A retrained trial is compared with the trial as the search retrained it, a baseline with the
    winner of the search, each on the test images.

    Attributes:
        network: how it is trained.
        finalist: its results; None before its first training ended.
        challenger: the network that may be better: the retrained trial, or the winner.
        other: the network it is compared with: the original trial, or the baseline; empty if there
            is none.
        comparison: accuracy of the challenger minus that of the other, with interval and p value;
            None if predictions of one of them or the labels of the test images are missing.
    """

    network: AdditionalFinalist
    finalist: Finalist | None
    challenger: str
    other: str
    comparison: Comparison | None

    @property
    def verdict(self) -> str:
        """A sentence on the comparison; says why if there is none."""
        found = self.comparison
        if self.finalist is None:
            return f"{self.network.key} has no complete training yet."
        if not self.other:
            number = self.network.number
            return (
                f"{self.network.key} is compared with nothing: trial {number} is no finalist. "
                f"Retrain it without changes to compare."
            )
        if found is None:
            return (
                f"{self.challenger} is not compared with {self.other}: predictions or labels of "
                "the test images are missing."
            )
        interval = f"{CONFIDENCE:.0%} interval {found.low:+.4f} to {found.high:+.4f}"
        if found.is_better:
            return (
                f"{self.challenger} is better than {self.other} by {found.difference:.4f} on test "
                f"({interval}, p = {found.p_value:.2g})."
            )
        if found.high < 0:
            return (
                f"{self.challenger} is worse than {self.other} by {-found.difference:.4f} on test "
                f"({interval})."
            )
        return (
            f"{self.challenger} is not better than {self.other} beyond noise (difference "
            f"{found.difference:+.4f} on test, {interval}, p = {found.p_value:.2g})."
        )


def read_additional(folder: SearchFolder, finalists: Sequence[Finalist]) -> list[AdditionalResult]:
    """Return the results of the additional finalists of a search.

    Args:
        folder: of the search.
        finalists: of the search, best first.

    Raises:
        BadInputError: a stored file is damaged.
    """
    stored = additional_finalists(folder.additional)
    if not stored:
        return []
    baseline, own = folder.baseline, FinalistStore(folder.finalists)
    # A trial retrained as in the search stands for a trial that is no finalist.
    originals = {
        network.number: _Arm(store.finalists, network.key, found)
        for store, network in stored
        if network.kind == "retrained"
        and not (network.changes or network.weights)
        and (found := store.finalist(network)) is not None
    }
    chosen = [_Arm(own, f"trial {each.number}", each) for each in finalists]
    originals |= {arm.finalist.number: arm for arm in chosen}
    results = []
    for store, network in stored:
        finalist = store.finalist(network)
        mine = None if finalist is None else _Arm(store.finalists, network.key, finalist)
        challenger, other = mine, originals.get(network.number)
        if network.kind == "baseline":
            challenger, other = next(iter(chosen), None), mine
        elif other is not None and other.title == network.key:
            other = None
        results.append(
            AdditionalResult(
                network,
                finalist,
                challenger.title if challenger else "",
                other.title if other else "",
                _compare(challenger, other, baseline),
            )
        )
    return results


def describe_additional(result: AdditionalResult) -> str:
    """Return a line for people: the accuracy and the verdict."""
    finalist = result.finalist
    if finalist is None:
        return result.verdict
    seeds = plural(len(finalist.results), "seed")
    return f"{result.network.key}: test accuracy {finalist.shown} ({seeds}). {result.verdict}"


def additional_section(
    results: Sequence[AdditionalResult], standing: Standing | None = None
) -> list[Section]:
    """Return the sections of a report on baselines and retrained trials.

    Args:
        results: of all additional finalists.
        standing: of the winner against logistic regression and a guess; None for unknown.
    """
    retrained = [each for each in results if each.network.kind == "retrained"]
    named = [each for each in results if each.network.kind == "baseline"]
    sections = []
    if named:
        rows = [_row(each, "as the winner") for each in named]
        if standing is not None:
            accuracies = {GUESS: standing.baseline.guess_test, REGRESSION: standing.baseline.test}
            rows += [
                (name, f"{accuracies[name]:.4f}", "-", "-", "-", *_compared(found), "no network")
                for name, found in standing.comparisons.items()
            ]
        sections.append(_section("Baselines", named, "the winner minus it", rows))
    if retrained:
        rows = [_row(each, _changes(each.network)) for each in retrained]
        sections.append(_section("Retrained trials", retrained, "it minus the trial", rows))
    return sections


def _changes(network: AdditionalFinalist) -> str:
    weights = [f"from the weights of {network.weights}"] if network.weights else []
    return "; ".join([*network.changes, *weights]) or "as in the search"


def _section(
    heading: str,
    results: Sequence[AdditionalResult],
    difference: str,
    rows: Sequence[tuple[str, ...]],
) -> Section:
    sentences = [each.verdict for each in results]
    if any(each.comparison for each in results):
        sentences.append(METHOD)
    header = ("network", "test accuracy", "validation", "seeds", "params", difference, "p")
    return Section(heading, tuple(sentences), (*header, "training"), tuple(rows))


def _row(result: AdditionalResult, training: str) -> tuple[str, ...]:
    network, finalist = result.network, result.finalist
    return (
        network.key,
        finalist.shown if finalist else "-",
        f"{finalist.validation_accuracy:.4f}" if finalist else "-",
        str(len(finalist.results) if finalist else 0),
        f"{network.param_count:,}",
        *_compared(result.comparison),
        training,
    )


def _compared(found: Comparison | None) -> tuple[str, str]:
    if found is None:
        return "-", "-"
    difference = f"{found.difference:+.4f} ({found.low:+.4f} to {found.high:+.4f})"
    return difference, f"{found.p_value:.2g}"


def baseline_metrics(results: Sequence[AdditionalResult]) -> dict[str, float]:
    """Return the mean test accuracies of the named baselines, as tracking names them."""
    return {
        f"{each.network.key}_test_accuracy": each.finalist.test_accuracy[0]
        for each in results
        if each.network.kind == "baseline" and each.finalist is not None
    }


def additional_documents(results: Sequence[AdditionalResult]) -> list[dict[str, Any]]:
    """Return the results as plain values, for the JSON of commands."""
    return [
        {
            "network": each.network.key,
            "kind": each.network.kind,
            "trial": each.network.number,
            "changes": list(each.network.changes),
            "weights": each.network.weights or None,
            "test_accuracy": each.finalist.test_accuracy[0] if each.finalist else None,
            "test_accuracy_std": each.finalist.test_accuracy[1] if each.finalist else None,
            "validation_accuracy": each.finalist.validation_accuracy if each.finalist else None,
            "seeds": len(each.finalist.results) if each.finalist else 0,
            "params": each.network.param_count,
            "macs": each.network.macs,
            "challenger": each.challenger or None,
            "other": each.other or None,
            "comparison": asdict(each.comparison) if each.comparison else None,
            "verdict": each.verdict,
        }
        for each in results
    ]


@dataclass(frozen=True)
class _Arm:
    """A network of a comparison, with its stored predictions."""

    store: FinalistStore
    title: str
    finalist: Finalist


def _compare(
    challenger: _Arm | None, other: _Arm | None, baseline: Baseline | None
) -> Comparison | None:
    if challenger is None or other is None or baseline is None:
        return None
    first, second = (_right(arm, baseline) for arm in (challenger, other))
    if first is None or second is None:
        return None
    return compare(first, second, (1 - CONFIDENCE) / 2)


def _right(arm: _Arm, baseline: Baseline) -> NDArray[np.bool_] | None:
    """Return whether each training is right about each test image, bool [trainings, images].

    The labels are those that the baseline keeps, of at most 10,000 test images.
    """
    rows, labels = np.array(baseline.rows), np.array(baseline.labels)
    found = [arm.store.predictions(arm.finalist.number, r.seed) for r in arm.finalist.results]
    known = [each[rows] for each in found if each is not None and len(each) > rows[-1]]
    if not known or len(rows) < 2:
        return None
    right: NDArray[np.bool_] = np.stack(known) == labels
    return right
