"""Retrains the finalists in parallel on Ray."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
from optuna.trial import FrozenTrial
from ray.exceptions import RayError

from search.finalists import Finalist, write_results
from search.packing import Packing
from trainables.finalist import retrain
from trainables.job import FinalistResult, Job


def retrain_finalists(
    job: Job,
    chosen: Sequence[FrozenTrial],
    *,
    seeds: int,
    first_seed: int,
    folder: Path,
    packing: Packing,
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
        packing: says what each training asks of the cluster.
        on_result: called after each training.
        on_failure: called with the cause where a training failed.

    Returns:
        Finalists, best mean validation accuracy first, without those that failed with every seed.
        They are written to ``folder`` after each training.
    """
    shared = ray.put(job)
    space = job.candidates()
    remote: Any = ray.remote(retrain)
    shares = {trial.number: packing.share(space.rebuild(trial.params)) for trial in chosen}
    pending: list[Any] = [
        remote.options(num_cpus=packing.cpus, num_gpus=shares[trial.number]).remote(
            shared,
            trial.number,
            trial.params,
            first_seed + seed,
            folder / f"trial-{trial.number}-seed-{first_seed + seed}.pt",
            shares[trial.number],
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
