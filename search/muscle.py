"""The muscle: connects to Ray and lets Ray Tune train what the searcher hands out."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from math import floor
from pathlib import Path
from typing import Any

import ray
from ray import tune

from search.experiment import Experiment
from search.searcher import StudySearcher
from search.trials import OBJECTIVE
from spaces.errors import BadInputError
from trainables.job import Job
from trainables.trial import Trial

CHECKPOINT_EVERY = 5
"""Epochs between two checkpoints of a trial: at most so many are trained again after a loss."""
_AUTO_GPUS = 0.25
"""Share of a GPU a trial gets unless the experiment says otherwise."""


def cluster_resources() -> dict[str, float]:
    """Return what all nodes of the cluster have together."""
    resources: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]
    return resources


def per_trial(experiment: Experiment) -> tuple[float, float]:
    """Return (CPUs, share of a GPU) of one trial on the cluster that Ray is connected to."""
    gpus = experiment.resources.gpus
    if gpus is None:
        wanted = experiment.device != "cpu" and cluster_resources().get("GPU", 0) > 0
        gpus = _AUTO_GPUS if wanted else 0.0
    return float(experiment.resources.cpus), gpus


def concurrent_trials(experiment: Experiment) -> int:
    """Return how many trials fit on the cluster at a time."""
    if experiment.resources.concurrent is not None:
        return experiment.resources.concurrent
    cluster = cluster_resources()
    cpus, gpus = per_trial(experiment)
    fitting = floor(cluster.get("CPU", 0) / cpus)
    if gpus:
        # A share is always a share of one GPU; it cannot be put together from several.
        per_gpu = floor(1 / gpus) if gpus < 1 else 1 / gpus
        fitting = min(fitting, floor(cluster.get("GPU", 0) * per_gpu))
    return max(1, fitting)


def check_resources(experiment: Experiment) -> None:
    """Refuse trials that no node of the cluster can hold.

    Raises:
        BadInputError: as said.
    """
    cpus, gpus = per_trial(experiment)
    if experiment.device == "cuda" and not cluster_resources().get("GPU", 0):
        raise BadInputError("device", experiment.device, "the cluster has no GPU", "use auto")
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    nodes = [node["Resources"] for node in known if node["Alive"]]
    if any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes):
        return
    for field, kind, wanted in (("resources.cpus", "CPU", cpus), ("resources.gpus", "GPU", gpus)):
        there = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > there:
            problem = f"the largest node has {there:g} {kind}s"
            raise BadInputError(field, f"{wanted:g}", problem, "ask for less")
    problem = f"no node has {cpus:g} CPUs and {gpus:g} GPUs together"
    raise BadInputError("resources", f"{cpus:g} CPUs, {gpus:g} GPUs", problem, "ask for less")


def train_trials(experiment: Experiment, job: Job, searcher: StudySearcher, storage: Path) -> None:
    """Let Ray Tune train what the searcher hands out, until it has finished."""
    cpus, gpus = per_trial(experiment)
    trainable = tune.with_resources(
        tune.with_parameters(Trial, job=job), {"cpu": cpus, "gpu": gpus}
    )
    section = experiment.scheduler
    scheduler = None
    if section.name == "asha" and section.grace_epochs < experiment.epochs:
        scheduler = tune.schedulers.ASHAScheduler(
            time_attr="epoch",
            metric=OBJECTIVE,
            mode="max",
            max_t=experiment.epochs,
            grace_period=section.grace_epochs,
            reduction_factor=section.reduction,
        )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            # Given to the scheduler by itself: Tune refuses both.
            metric=None if scheduler else OBJECTIVE,
            mode=None if scheduler else "max",
            search_alg=searcher,
            scheduler=scheduler,
            num_samples=experiment.budget.trials,
            max_concurrent_trials=concurrent_trials(experiment),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            failure_config=tune.FailureConfig(max_failures=2),
            # For a trial whose process is lost; one that has ended is never continued.
            checkpoint_config=tune.CheckpointConfig(
                num_to_keep=1, checkpoint_frequency=CHECKPOINT_EVERY, checkpoint_at_end=False
            ),
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
