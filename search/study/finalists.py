"""Finalists: what came of the best candidates, retrained and scored on the test split."""

from __future__ import annotations

import io
import json
import re
import zipfile
from collections.abc import Iterator, Sequence
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


@dataclass(frozen=True)
class Finalist:
    """One candidate with all its retrainings."""

    number: int
    results: tuple[FinalistResult, ...]

    @property
    def test_accuracy(self) -> tuple[float, float]:
        """Mean and sample standard deviation over the seeds (0 for one seed)."""
        scores = [result.test_accuracy for result in self.results]
        return fmean(scores), stdev(scores) if len(scores) > 1 else 0.0

    @property
    def shown(self) -> str:
        """Test accuracy as people read it: with its standard deviation, where there is one."""
        mean, std = self.test_accuracy
        return f"{mean:.4f} ± {std:.4f}" if len(self.results) > 1 else f"{mean:.4f}"

    @property
    def validation_accuracy(self) -> float:
        """Mean over the seeds: what finalists are ranked by, so that test stays unseen."""
        return fmean([result.validation_accuracy for result in self.results])


def choose_finalists(summary: Summary, count: int) -> list[TrialRecord]:
    """Return the candidates to retrain: of the Pareto front, where there is one, the most accurate.

    The leaderboard fills up what the front leaves open.
    """
    return list({t.number: t for t in [*summary.front, *summary.leaderboard]}.values())[:count]


class FinalistStore:
    """What came of each retraining, in two files of its own, whatever it is ranked by later.

    The weights are a file of torch's; beside them lies an ``.npz`` with the scores and the
    prediction for every test image. It is written last: where it is, the retraining is whole.

    Args:
        folder: created when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def weights(self, number: int, seed: int) -> Path:
        """Return the file of a retraining's weights."""
        return self._folder / f"trial-{number}-seed-{seed}.pt"

    def record(self, number: int, seed: int) -> Path:
        """Return the file of a retraining's scores and predictions."""
        return self._folder / f"trial-{number}-seed-{seed}.npz"

    def write(self, result: FinalistResult, weights: bytes, predictions: NDArray[np.int32]) -> None:
        """Keep a retraining, whole or not at all.

        Raises:
            OSError: it could not be written.
        """
        scores = asdict(result)
        number, seed = scores.pop("number"), scores.pop("seed")
        content = io.BytesIO()
        np.savez_compressed(content, allow_pickle=False, predictions=predictions, **scores)
        self._folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.weights(number, seed), weights)
        write_atomically(self.record(number, seed), content.getvalue())

    def results(self) -> Iterator[FinalistResult]:
        """Yield what each retraining that is whole has come to, in no particular order."""
        for path in self._folder.glob("trial-*-seed-*.npz"):
            match = re.fullmatch(r"trial-(\d+)-seed-(\d+)", path.stem)
            content = read_record(path)
            if match is None or content is None:
                continue
            number, seed = int(match[1]), int(match[2])
            if self.weights(number, seed).is_file():
                scores = {name: float(content[name]) for name in content if name != "predictions"}
                yield FinalistResult(number, seed, **scores)

    def predictions(self, number: int, seed: int) -> NDArray[np.int32] | None:
        """Return the class predicted for each test image, int32 [images]; None where unknown."""
        content = read_record(self.record(number, seed))
        return None if content is None else content["predictions"]


def read_record(path: Path) -> dict[str, NDArray[np.int32]] | None:
    """Return scores and predictions of a retraining, None for what is not there or not whole.

    Nothing in the file can run code.
    """
    try:
        # Of a file that it opened itself, numpy leaves it open where it is not whole.
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as content:
            found = {name: content[name] for name in content.files}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile):
        return None
    names = {"predictions", "validation_accuracy", "test_accuracy", "seconds"}
    return found if found.keys() == names else None


def write_results(folder: Path, finalists: Sequence[Finalist]) -> None:
    """Keep the finalists' results, whole or not at all, for later reports and a search resumed."""
    folder.mkdir(parents=True, exist_ok=True)
    document = [asdict(finalist) for finalist in finalists]
    write_atomically(folder / RESULTS_FILE, json.dumps(document, indent=1))


def read_results(folder: Path) -> list[Finalist]:
    """Return the finalists of a search, none if it has not come to them.

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
        remedy = "remove it; a resumed search writes it again from the files beside it"
        raise BadInputError("NAME", folder.parent.name, f"{path} is damaged", remedy) from None
