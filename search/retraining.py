"""Retrains the finalists in parallel on Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from optuna.trial import FrozenTrial
from ray.exceptions import RayError

from search.finalists import Finalist, write_results
from trainables.finalist import retrain
from trainables.job import FinalistResult, Job


def retrain_finalists(
    job: Job,
    chosen: Sequence[FrozenTrial],
    *,
    seeds: int,
    first_seed: int,
    folder: Path,
    resources: dict[str, float],
    on_result: Callable[[FinalistResult], None],
    on_failure: Callable[[str], None],
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
        on_failure: called with the cause where a training failed.

    Returns:
        Finalists, best mean validation accuracy first, without those that failed with every seed.
        They are written to ``folder`` after each training.
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
    finalists: list[Finalist] = []
    while pending:
        (done,), pending = ray.wait(pending)
        try:
            result = ray.get(done)
        except RayError as error:
            # What the others have found is not given up for it.
            on_failure(str(error).strip().splitlines()[-1])
            continue
        results[result.number].append(result)
        on_result(result)
        finalists = [
            Finalist(number, tuple(sorted(found, key=lambda r: r.seed)))
            for number, found in results.items()
            if found
        ]
        finalists.sort(key=lambda finalist: -finalist.validation_accuracy)
        write_results(folder, finalists)
    return finalists
