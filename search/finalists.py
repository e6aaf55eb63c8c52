"""Finalists: the best candidates, retrained with fresh seeds and scored on the test split."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import ray
from optuna.trial import FrozenTrial

from trainables.finalist import FinalistResult, retrain
from trainables.job import Job

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


def retrain_finalists(
    job: Job,
    chosen: Sequence[FrozenTrial],
    *,
    seeds: int,
    first_seed: int,
    folder: Path,
    resources: dict[str, float],
    on_result: Callable[[FinalistResult], None],
) -> list[Finalist]:
    """Retrain candidates in parallel on Ray.

    Args:
        job: the search's.
        chosen: trials whose candidates are retrained.
        seeds: fresh seeds each.
        first_seed: the first of them.
        folder: where weights and results are written.
        resources: ``num_cpus`` and ``num_gpus`` of one training.
        on_result: called after each training.

    Returns:
        Finalists, best mean validation accuracy first.
    """
    shared = ray.put(job)
    remote: Any = ray.remote(**resources)(retrain)  # type: ignore[call-overload]
    pending: list[Any] = [
        remote.remote(
            shared,
            trial.number,
            trial.params,
            first_seed + seed,
            folder / f"trial-{trial.number}-seed-{first_seed + seed}.pt",
        )
        for trial in chosen
        for seed in range(seeds)
    ]
    results: dict[int, list[FinalistResult]] = {trial.number: [] for trial in chosen}
    while pending:
        done, pending = ray.wait(pending)
        for result in ray.get(done):
            results[result.number].append(result)
            on_result(result)
    finalists = [
        Finalist(number, tuple(sorted(found, key=lambda r: r.seed)))
        for number, found in results.items()
    ]
    finalists.sort(key=lambda finalist: -finalist.validation_accuracy)
    write_results(folder, finalists)
    return finalists


def write_results(folder: Path, finalists: Sequence[Finalist]) -> None:
    """Keep the finalists' results for later reports."""
    folder.mkdir(parents=True, exist_ok=True)
    document = [asdict(finalist) for finalist in finalists]
    (folder / RESULTS_FILE).write_text(json.dumps(document, indent=1), encoding="utf-8")


def read_results(folder: Path) -> list[Finalist]:
    """Return the finalists of a search, none if it has not come to them."""
    path = folder / RESULTS_FILE
    if not path.is_file():
        return []
    return [
        Finalist(entry["number"], tuple(FinalistResult(**result) for result in entry["results"]))
        for entry in json.loads(path.read_text(encoding="utf-8"))
    ]
