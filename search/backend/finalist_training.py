"""Retrains the finalists in parallel on Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import RayError, RayTaskError

from search.backend.node_wait import NodeWait
from search.backend.tuning import can_train
from search.loop.packing import Packing
from search.study.finalists import Finalist, FinalistStore, write_results
from search.study.records import TrialRecord
from trainables.data import NodeDataError
from trainables.specs import FinalistResult, Retraining, TrainingSpec


def retrain_finalists(
    spec: TrainingSpec,
    chosen: Sequence[TrialRecord],
    *,
    seeds: int,
    first_seed: int,
    folder: Path,
    packing: Packing,
    wait: NodeWait,
    on_begin: Callable[[], None] = lambda: None,
    on_result: Callable[[FinalistResult], None],
    on_failure: Callable[[str], None],
    stopped: Callable[[], bool] = lambda: False,
) -> list[Finalist]:
    """Retrain candidates in parallel on Ray.

    Args:
        spec: of the search.
        chosen: trials whose candidates to retrain.
        seeds: number of fresh seeds for each.
        first_seed: the first of them.
        folder: receives weights, predictions and results, which only this process writes.
            Results that it already holds are reused.
        packing: what each training requests from the cluster.
        wait: limits how long to wait for nodes.
        on_begin: called once, if anything is left to train.
        on_result: called after each training.
        on_failure: called with the cause of each failed training.
        stopped: asked every second whether to stop.

    Returns:
        Finalists, best mean validation accuracy first, without those that failed with every seed.

    Raises:
        NoNodesError: no node became available within the limit; results so far are stored.
        NodeDataError: the images on a node differ; results so far are stored.
    """
    shared = ray.put(spec)
    space = spec.candidates()
    # On GPUs a process serves one training: Ray may assign another GPU or fraction to the next one,
    # but a process cannot leave its GPU or release its memory there.
    remote: Any = ray.remote(max_calls=1 if packing.on_gpus else 0)(_retrain)
    gpu_fractions = {
        trial.number: packing.gpu_fraction(space.rebuild(trial.params, trial.digest))
        for trial in chosen
    }
    seeds_of = range(first_seed, first_seed + seeds)
    store = FinalistStore(folder)
    results: dict[int, list[FinalistResult]] = {trial.number: [] for trial in chosen}
    for known in store.results():
        if known.number in results and known.seed in seeds_of:
            results[known.number].append(known)
    pending: list[Any] = [
        remote.options(num_cpus=packing.cpus, num_gpus=gpu_fractions[trial.number]).remote(
            shared,
            trial.number,
            trial.params,
            seed,
            gpu_fractions[trial.number],
            trial.digest,
        )
        for trial in chosen
        for seed in seeds_of
        if seed not in {result.seed for result in results[trial.number]}
    ]
    if pending:
        on_begin()
    try:
        while pending and not stopped():
            done, pending = ray.wait(pending, timeout=1)
            for each in done:
                found = _collect(each, on_failure)
                if found is None:
                    continue
                result = found.result
                store.write(result, found.weights, found.predictions)
                results[result.number].append(result)
                on_result(result)
                write_results(folder, _ranked(results))
            wait.check(waits=not done and not can_train(packing))
    finally:
        for each in pending:
            with suppress(RayError):  # The cluster may be gone; another error says why.
                ray.cancel(each, force=True)
    finalists = _ranked(results)
    write_results(folder, finalists)
    return finalists


def _collect(call: Any, on_failure: Callable[[str], None]) -> Retraining | None:
    """Return a finished retraining; None if it failed, and the others continue.

    Raises:
        NodeDataError: the images on its node differ from those of the search.
    """
    try:
        found: Retraining = ray.get(call)
    except RayError as error:
        if isinstance(error, RayTaskError) and isinstance(error.cause, NodeDataError):
            raise error.cause from None
        on_failure(str(error).strip().splitlines()[-1])
        return None
    return found


def _retrain(
    spec: TrainingSpec, number: int, params: Mapping[str, Any], seed: int, gpus: float, digest: str
) -> Retraining:
    """Retrain a finalist on a worker; only there is torch imported."""
    from trainables.finalist import retrain  # noqa: PLC0415

    return retrain(spec, number, params, seed, gpus, digest)


def _ranked(results: Mapping[int, Sequence[FinalistResult]]) -> list[Finalist]:
    """Return candidates with any result, best mean validation accuracy first."""
    finalists = [
        Finalist(number, tuple(sorted(found, key=lambda r: r.seed)))
        for number, found in results.items()
        if found
    ]
    return sorted(finalists, key=lambda finalist: -finalist.validation_accuracy)
