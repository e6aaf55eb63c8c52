"""The muscle: connects to Ray and lets Ray Tune train what the searcher hands out."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.sizing import SHARES, memory_limit
from search.credentials import withhold_credentials
from search.experiment import Experiment
from search.objectives import latency_batches
from search.packing import Node, Packing, fair_threads, fitting_trials
from search.searcher import StudyScheduler, StudySearcher
from search.trials import OBJECTIVE
from spaces.errors import BadInputError
from trainables.device import Gpu, find_gpu
from trainables.job import Job
from trainables.trial import Trial

ANSWER_WITHIN = 60.0
"""Seconds that nodes have to say what GPUs they hold; on a busy cluster none may be free."""
_GLANCE = 0.01
"""Share of a GPU that is taken for a look at it."""


def cluster_nodes() -> list[dict[str, float]]:
    """Return what each node has that is alive."""
    return [node["Resources"] for node in _alive()]


def _alive() -> list[dict[str, Any]]:
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in known if node["Alive"]]


def plan_packing(experiment: Experiment, image_bytes: int = 0) -> Packing:
    """Return how trials share the cluster that Ray is connected to.

    Args:
        experiment: what is asked for.
        image_bytes: size of all images.

    Raises:
        BadInputError: no node of the cluster can hold a trial.
    """
    section = experiment.resources
    nodes = cluster_nodes()
    there = any(node.get("GPU", 0) > 0 for node in nodes)
    if experiment.device == "cuda" and not there:
        raise BadInputError("device", experiment.device, "the cluster has no GPU", "use auto")
    if experiment.device == "cuda" and section.gpus == 0:
        problem = "trials are to run on GPUs (device: cuda)"
        raise BadInputError("resources.gpus", 0, problem, "leave it out, or give each a share")
    fixed = section.gpus
    if fixed is None and (experiment.device == "cpu" or not there):
        fixed = 0.0
    cpus = section.cpus or 1
    if section.cpus is None and section.concurrent is not None and fixed == 0:
        cpus = fair_threads(nodes, section.concurrent)
    check_resources(nodes, cpus, SHARES[-1] if fixed is None else fixed)
    batches = latency_batches(experiment.objectives, experiment.latency_batch)
    packing = Packing(cpus, fixed, image_bytes=image_bytes, latency_batch=max(batches, default=0))
    gpus = find_gpus() if there and packing.on_gpus else []
    if gpus:
        smallest = min(gpus, key=lambda gpu: gpu.memory)
        largest = max(gpus, key=lambda gpu: gpu.memory)
        bfloat16 = all(gpu.bfloat16 for gpu in gpus)
        if fixed and memory_limit(fixed, smallest.memory) <= 0:
            problem = f"leaves nothing of a GPU with {smallest.memory / 1e9:.1f} GB"
            raise BadInputError("resources.gpus", fixed, problem, "give each trial a larger share")
        packing = replace(packing, smallest=smallest, largest=largest, bfloat16=bfloat16)
    return packing


def find_gpus() -> list[Gpu]:
    """Return one GPU of each node that has any; none of a node that does not answer in time."""
    look: Any = ray.remote(num_cpus=0, num_gpus=_GLANCE, max_calls=1, max_retries=0)(find_gpu)
    looks = [
        look.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in _alive()
        if node["Resources"].get("GPU", 0) > 0
    ]
    answered, silent = ray.wait(looks, num_returns=len(looks), timeout=ANSWER_WITHIN)
    for late in silent:
        ray.cancel(late, force=True)
    found = []
    for answer in answered:
        with suppress(RayError):
            found.append(ray.get(answer))
    return [gpu for gpu in found if gpu is not None]


def concurrent_trials(experiment: Experiment, packing: Packing) -> int:
    """Return how many trials may be on the cluster at a time; Ray holds back what does not fit."""
    if experiment.resources.concurrent is not None:
        return experiment.resources.concurrent
    return max(1, fitting_trials(cluster_nodes(), packing.cpus, packing.smallest_share))


def check_resources(nodes: Sequence[Node], cpus: float, gpus: float) -> None:
    """Refuse trials that no node of the cluster can hold.

    Raises:
        BadInputError: as said.
    """
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    for field, kind, wanted in (("resources.cpus", "CPU", cpus), ("resources.gpus", "GPU", gpus)):
        there = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > there:
            problem = f"the largest node has {there:g} {kind}s"
            raise BadInputError(field, f"{wanted:g}", problem, "ask for less")
    problem = f"no node has {cpus:g} CPUs and {gpus:g} GPUs together"
    raise BadInputError("resources", f"{cpus:g} CPUs, {gpus:g} GPUs", problem, "ask for less")


def ask_by_config(cpus: int) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """Return what tells Ray Tune the resources of a trial, from its config.

    Equal requests are equal to Tune, so that a process is used again for the next of them.
    """

    def ask(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}])

    return ask


def train_trials(
    experiment: Experiment, job: Job, packing: Packing, searcher: StudySearcher, storage: Path
) -> None:
    """Let Ray Tune train what the searcher hands out, until it has finished."""
    withhold_credentials()
    trainable = tune.with_resources(
        tune.with_parameters(Trial, job=job), ask_by_config(packing.cpus)
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="max",
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            # The study counts; Tune must not end before it.
            num_samples=-1,
            max_concurrent_trials=concurrent_trials(experiment, packing),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            # A trial that is begun again goes on from its own last checkpoint, not from Tune's.
            failure_config=tune.FailureConfig(max_failures=experiment.failures.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
        ),
    )
    tuner.fit()


@contextmanager
def connected(address: str) -> Iterator[None]:
    """Connect to Ray for the time of a search."""
    # Progress, and what failed and why, is ours to show.
    os.environ.setdefault("RAY_AIR_NEW_OUTPUT", "0")
    logging.getLogger("ray.tune").setLevel(logging.CRITICAL)
    # Tune's own writers repeat what the journal holds; its snapshots are never restored from.
    os.environ.setdefault("TUNE_DISABLE_AUTO_CALLBACK_LOGGERS", "1")
    os.environ.setdefault("TUNE_GLOBAL_CHECKPOINT_S", "3600")
    # What a signal does is ours to say, too.
    os.environ.setdefault("TUNE_DISABLE_SIGINT_HANDLER", "1")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", category=FutureWarning)
        warnings.simplefilter("ignore", category=DeprecationWarning)
        try:
            ray.init(
                address=address,
                include_dashboard=False if address == "local" else None,
                logging_level=logging.ERROR,
                log_to_driver=False,
            )
        except (ConnectionError, ValueError) as error:
            problem = f"no Ray cluster answers ({error})"
            raise BadInputError(
                "--address", address, problem, "start one, or leave it out"
            ) from error
        if threading.current_thread() is threading.main_thread():
            # Ray's own handler exits at once, and the search would not know why it ended.
            signal.signal(signal.SIGTERM, signal.default_int_handler)
        try:
            yield
        finally:
            ray.shutdown()
