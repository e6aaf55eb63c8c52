"""Finalists: the best candidates, retrained and scored on the test split."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
from numpy.typing import NDArray

from cluster.files import write_atomically
from search.study.records import TrialRecord
from search.study.summary import Summary
from spaces.errors import BadInputError
from trainables.specs import FinalistResult

RESULTS_FILE = "results.json"
_VALIDATION_RIGHT, _CONFIDENCES = "validation_right", "confidences"
_PROBABILITIES = "probabilities"
_OPTIONAL = {_VALIDATION_RIGHT, _CONFIDENCES, _PROBABILITIES}
_SCORES = ("validation_accuracy", "test_accuracy", "seconds")


@dataclass(frozen=True)
class Finalist:
    """One candidate with the results of its retraining."""

    number: int
    results: tuple[FinalistResult, ...]

    @property
    def test_accuracy(self) -> tuple[float, float]:
        """Mean and sample standard deviation over the seeds (0 for one seed)."""
        scores = [result.test_accuracy for result in self.results]
        return fmean(scores), stdev(scores) if len(scores) > 1 else 0.0

    @property
    def shown(self) -> str:
        """Test accuracy in words, with its standard deviation for several seeds."""
        mean, std = self.test_accuracy
        return f"{mean:.4f} ± {std:.4f}" if len(self.results) > 1 else f"{mean:.4f}"

    @property
    def validation_accuracy(self) -> float:
        """Mean over the seeds. Finalists are ranked by it, so that the test split stays unseen."""
        return fmean([result.validation_accuracy for result in self.results])


def best_validated(results: Sequence[FinalistResult]) -> FinalistResult:
    """Return the training with the best validation accuracy; the test split decides nothing."""
    return max(results, key=lambda result: result.validation_accuracy)


def rank_finalists(
    results: Mapping[int, Sequence[FinalistResult]], contenders: Collection[int] = ()
) -> list[Finalist]:
    """Return candidates with any result, best mean validation accuracy first.

    Args:
        results: by the number of each candidate, in any order.
        contenders: numbers of those that precede all others: few seeds can give a candidate that
            left early a higher mean than that of the others over all seeds.
    """
    finalists = [
        Finalist(number, tuple(sorted(found, key=lambda result: result.seed)))
        for number, found in results.items()
        if found
    ]
    return sorted(
        finalists,
        key=lambda each: (each.number not in contenders, -each.validation_accuracy),
    )


def choose_finalists(summary: Summary, count: int) -> list[TrialRecord]:
    """Return the candidates to retrain: the most accurate of the Pareto front, if there is one.

    The leaderboard fills the remaining places.
    """
    return list({t.number: t for t in [*summary.front, *summary.leaderboard]}.values())[:count]


class FinalistStore:
    """Stores the result of each retraining in two files of its own.

    The weights are a file of torch's. An ``.npz`` beside them holds the scores, the prediction for
    every test image with its confidence, and for every validation image whether the network is
    right. It is written last: if it exists, the result is complete. Files of older versions lack
    some of these.

    Args:
        folder: of the files; created with the first.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def weights(self, number: int, seed: int) -> Path:
        """Return the path of the weights."""
        return self._folder / f"trial-{number}-seed-{seed}.pt"

    def record(self, number: int, seed: int) -> Path:
        """Return the path of the scores and predictions."""
        return self._folder / f"trial-{number}-seed-{seed}.npz"

    def write(
        self,
        result: FinalistResult,
        weights: bytes,
        predictions: NDArray[np.int32],
        validation_right: NDArray[np.bool_] | None = None,
        confidences: NDArray[np.float16] | None = None,
        probabilities: NDArray[np.float32] | None = None,
    ) -> None:
        """Store a result atomically.

        Args:
            result: scores of the training.
            weights: see `trainables.specs.Retraining`, as the next two.
            predictions: for the test images.
            validation_right: for the validation images; None for unknown.
            confidences: of the predictions; None for unknown.
            probabilities: of each class for the test images; None where no metric needs them.

        Raises:
            OSError: it could not be written.
        """
        scores = asdict(result)
        number, seed = scores.pop("number"), scores.pop("seed")
        content = io.BytesIO()
        arrays = {"predictions": predictions, **scores}
        if confidences is not None:
            arrays[_CONFIDENCES] = confidences
        if validation_right is not None:
            arrays[_VALIDATION_RIGHT] = validation_right
        if probabilities is not None:
            arrays[_PROBABILITIES] = probabilities
        np.savez_compressed(content, allow_pickle=False, **arrays)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.weights(number, seed), weights)
        write_atomically(self.record(number, seed), content.getvalue())

    def results(self) -> Iterator[FinalistResult]:
        """Yield all complete results, in no particular order."""
        for path in self._folder.glob("trial-*-seed-*.npz"):
            match = re.fullmatch(r"trial-(\d+)-seed-(\d+)", path.stem)
            content = read_record(path)
            if match is None or content is None:
                continue
            number, seed = int(match[1]), int(match[2])
            if self.weights(number, seed).is_file():
                scores = {name: float(content[name]) for name in _SCORES}
                yield FinalistResult(number, seed, **scores)

    def predictions(self, number: int, seed: int) -> NDArray[np.int32] | None:
        """Return the class predicted for each test image, int32 [images]; None where unknown."""
        content = read_record(self.record(number, seed))
        return None if content is None else content["predictions"]

    def confidences(self, number: int, seed: int) -> NDArray[np.float64] | None:
        """Return the probability of each predicted class, float64 [images]; None if unknown."""
        content = read_record(self.record(number, seed))
        if content is None or _CONFIDENCES not in content:
            return None
        return content[_CONFIDENCES].astype(np.float64)

    def probabilities(self, number: int, seed: int) -> NDArray[np.float32] | None:
        """Return the probability of each class for each test image, float32 [images, classes].

        None where it is not stored.
        """
        content = read_record(self.record(number, seed))
        if content is None or _PROBABILITIES not in content:
            return None
        return content[_PROBABILITIES].astype(np.float32)

    def validation_right(self, number: int, seed: int) -> NDArray[np.bool_] | None:
        """Return for each validation image whether it is right, bool [images]; None if unknown."""
        content = read_record(self.record(number, seed))
        if content is None or _VALIDATION_RIGHT not in content:
            return None
        return content[_VALIDATION_RIGHT].astype(np.bool_)


def read_record(path: Path) -> dict[str, NDArray[np.int32]] | None:
    """Return scores and predictions of a file; None if it is missing or damaged.

    Reading the file runs no code from it.
    """
    try:
        # If numpy opens a damaged file itself, it does not close it.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    names = found.keys() - _OPTIONAL
    return found if names == {"predictions", *_SCORES} else None


def write_results(folder: Path, finalists: Sequence[Finalist]) -> None:
    """Store the results of the finalists atomically, for reports and a resumed search."""
    folder.mkdir(parents=True, exist_ok=True)
    document = [asdict(finalist) for finalist in finalists]
    write_atomically(folder / RESULTS_FILE, json.dumps(document, indent=1))


def read_results(folder: Path) -> list[Finalist]:
    """Return the finalists of a search; none before they are retrained.

    Raises:
        BadInputError: the file is damaged.
    """
    path = folder / RESULTS_FILE
    if not path.is_file():
        return []
    try:
        return [
            Finalist(each["number"], tuple(FinalistResult(**result) for result in each["results"]))
            for each in json.loads(path.read_text(encoding="utf-8"))
        ]
    except (ValueError, TypeError, KeyError):
        remedy = "remove it; a resumed search restores it from the files beside it"
        raise BadInputError("NAME", folder.parent.name, f"{path} is damaged", remedy) from None
