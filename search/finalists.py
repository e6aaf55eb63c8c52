"""Finalists: what came of the best candidates, retrained and scored on the test split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from optuna.trial import FrozenTrial

from search.summary import Summary
from trainables.job import FinalistResult

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
    def validation_accuracy(self) -> float:
        """Mean over the seeds: what finalists are ranked by, so that test stays unseen."""
        return fmean([result.validation_accuracy for result in self.results])


def choose_finalists(summary: Summary, count: int) -> list[FrozenTrial]:
    """Return the candidates to retrain: of the Pareto front, where there is one, the most accurate.

    The leaderboard fills up what the front leaves open.
    """
    return list({t.number: t for t in [*summary.front, *summary.leaderboard]}.values())[:count]


def write_results(folder: Path, finalists: Sequence[Finalist]) -> None:
    """Keep the finalists' results, whole or not at all, for later reports and a search resumed."""
    folder.mkdir(parents=True, exist_ok=True)
    document = [asdict(finalist) for finalist in finalists]
    aside = folder / f".{RESULTS_FILE}"
    aside.write_text(json.dumps(document, indent=1), encoding="utf-8")
    aside.replace(folder / RESULTS_FILE)


def read_results(folder: Path) -> list[Finalist]:
    """Return the finalists of a search, none if it has not come to them."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return []
    return [
        Finalist(entry["number"], tuple(FinalistResult(**result) for result in entry["results"]))
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
