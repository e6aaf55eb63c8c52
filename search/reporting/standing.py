"""The standing of a search's winner against a guess and logistic regression on the pixels."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from search.experiment.defaults import FEWEST_STEPS
from search.experiment.folder import SearchFolder
from search.experiment.training_length import TrainingLength
from search.reporting.intervals import CONFIDENCE
from search.study.finalist_ties import distances
from search.study.finalists import Finalist, FinalistStore
from search.study.significance import Comparison, compare_with_fixed
from trainables.baseline import Baseline

GUESS, REGRESSION = "a guess", "logistic regression on the pixels"


@dataclass(frozen=True)
class Standing:
    """The baseline of a search, and how its winner compares with it.

    Attributes:
        baseline: of the data.
        winner: number of the winner's trial; None before finalists are retrained.
        comparisons: by the name of the rival: the winner minus the rival on the same test images;
            empty without the winner's predictions.
    """

    baseline: Baseline
    winner: int | None
    comparisons: dict[str, Comparison]

    @property
    def unbeaten(self) -> dict[str, Comparison]:
        """The rivals that the winner does not exceed beyond noise."""
        return {name: each for name, each in self.comparisons.items() if not each.is_better}

    @property
    def shortcoming(self) -> str:
        """A phrase on the rivals that the winner does not exceed; empty if it exceeds all."""
        if not self.unbeaten:
            return ""
        rivals = " or ".join(
            f"{name} (difference {each.difference:+.4f}, {CONFIDENCE:.0%} interval "
            f"{each.low:+.4f} to {each.high:+.4f})"
            for name, each in self.unbeaten.items()
        )
        return f"trial {self.winner} is not better than {rivals} beyond noise"

    @property
    def success(self) -> str:
        """A sentence on the rivals that the winner exceeds beyond noise; empty without any."""
        beaten = [
            f"{name} by {each.difference:.4f} ({CONFIDENCE:.0%} interval {each.low:.4f} to "
            f"{each.high:.4f})"
            for name, each in self.comparisons.items()
            if each.is_better
        ]
        return f"Trial {self.winner} exceeds {' and '.join(beaten)}." if beaten else ""

    @property
    def on_test(self) -> str:
        """A sentence with the test accuracies of the baseline."""
        return (
            f"For comparison, on test {GUESS} reaches {self.baseline.guess_test:.4f}, and "
            f"{REGRESSION} {self.baseline.test:.4f}."
        )

    def warning(self, length: TrainingLength) -> str:
        """Return a line for people if the winner does not exceed all rivals; else "".

        Args:
            length: of the trainings.
        """
        if not self.unbeaten:
            return ""
        return f"Warning: {self.shortcoming}. A training had {length.describe()}; {_advice(length)}"

    @property
    def metrics(self) -> dict[str, float]:
        """The accuracies of the baseline, as tracking names them."""
        return {
            "baseline_validation_accuracy": self.baseline.validation,
            "baseline_test_accuracy": self.baseline.test,
            "guess_validation_accuracy": self.baseline.guess_validation,
            "guess_test_accuracy": self.baseline.guess_test,
        }


def _advice(length: TrainingLength) -> str:
    if length.steps < FEWEST_STEPS:
        return f"more steps or more images may help. {length.remedy}"
    return (
        "that is enough, so more images help most; then try `augmentation`, a larger range of "
        "`recipe.learning_rate`, or another space."
    )


def read_standing(folder: SearchFolder, finalists: list[Finalist]) -> Standing | None:
    """Return the standing of a stored search; None before its baseline is computed.

    Args:
        folder: of the search.
        finalists: best first; empty before they are retrained.

    Raises:
        BadInputError: the stored baseline is damaged.
    """
    baseline = folder.baseline
    if baseline is None:
        return None
    if not finalists:
        return Standing(baseline, None, {})
    winner, store = finalists[0], FinalistStore(folder.finalists)
    return Standing(baseline, winner.number, _compare(winner, store, baseline))


def read_distances(folder: SearchFolder, finalists: list[Finalist]) -> dict[int, Comparison]:
    """Return how far each finalist is behind the first; see `search.study.finalist_ties`.

    Args:
        folder: of the search.
        finalists: best first.
    """
    return distances(finalists, FinalistStore(folder.finalists), (1 - CONFIDENCE) / 2)


def _compare(winner: Finalist, store: FinalistStore, baseline: Baseline) -> dict[str, Comparison]:
    rows, labels = np.array(baseline.rows), np.array(baseline.labels)
    found = [store.predictions(winner.number, each.seed) for each in winner.results]
    # An older version, or a damaged file, has no predictions.
    known = [each[rows] for each in found if each is not None and len(each) > rows[-1]]
    if not known or len(rows) < 2:
        return {}
    right = np.stack(known) == labels
    alpha = (1 - CONFIDENCE) / 2
    return {
        GUESS: compare_with_fixed(right, labels == baseline.guess, alpha),
        REGRESSION: compare_with_fixed(right, np.array(baseline.predictions) == labels, alpha),
    }
