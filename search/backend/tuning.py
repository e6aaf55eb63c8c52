"""Runs the trials of a searcher with Ray Tune, as many at a time as the cluster fits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.exceptions import RayError, RayTaskError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from cluster.sizing import GPU_FRACTIONS, Gpu, memory_limit
from search.backend.node_wait import NodeWait, NoNodesError, TrialWatch
from search.backend.nodes import alive, await_hosts, cluster_nodes, describe, startable_types
from search.backend.trial_actor import TrialActor
from search.backend.tune_scheduler import StudyScheduler
from search.backend.tune_searcher import StudySearcher
from search.experiment.objectives import latency_batches
from search.experiment.schema import Experiment
from search.formatting import duration
from search.loop.packing import Node, Packing, fair_threads, fitting_trials, reachable_nodes
from search.private_apis import silent_progress, withhold_credentials, without_usage_tags
from spaces.errors import BadInputError
from trainables.epoch_metrics import OBJECTIVE
from trainables.specs import TrainingSpec

ANSWER_TIMEOUT = 60.0
"""Seconds to wait for nodes to describe their GPUs; on a busy cluster none may be free."""
_CHECK_FRACTION = 0.01
"""Fraction of a GPU that a check of the GPU requests."""


def _nothing(_: str) -> None:
    """Print nothing."""


def plan_packing(
    experiment: Experiment, image_bytes: int = 0, say: Callable[[str], None] = _nothing
) -> Packing:
    """Return how trials share the connected cluster, including nodes that it can start.

    Args:
        experiment: of the search.
        image_bytes: size of all images.
        say: prints a line for people.

    Raises:
        BadInputError: no node that the cluster has or can start fits a trial.
        NoNodesError: no GPU node became available within the limit of the search.
    """
    section = experiment.resources
    types = startable_types()
    await_hosts(types, say)
    nodes = reachable_nodes(cluster_nodes(), types)
    there = any(node.get("GPU", 0) > 0 for node in nodes)
    if experiment.device == "cuda" and not there:
        problem = f"the cluster has no GPU ({describe(cluster_nodes(), types)})"
        raise BadInputError("device", experiment.device, problem, "use auto")
    if experiment.device == "cuda" and section.gpus == 0:
        problem = "device cuda needs GPUs"
        raise BadInputError(
            "resources.gpus", 0, problem, "leave it out, or give each trial a fraction"
        )
    fixed = section.gpus
    if fixed is None and (experiment.device == "cpu" or not there):
        fixed = 0.0
    cpus = section.cpus or 1
    if section.cpus is None and section.concurrent is not None and fixed == 0:
        cpus = fair_threads(nodes, section.concurrent)
    check_resources(nodes, cpus, GPU_FRACTIONS[-1] if fixed is None else fixed)
    batches = latency_batches(experiment.objectives, experiment.latency_batch)
    packing = Packing(cpus, fixed, image_bytes=image_bytes, latency_batch=max(batches, default=0))
    gpus = []
    if there and packing.on_gpus:
        if not _gpu_nodes():
            _await_gpu(section.wait, say, describe(cluster_nodes(), types))
        gpus = find_gpus()
    if gpus:
        smallest = min(gpus, key=lambda gpu: gpu.memory)
        largest = max(gpus, key=lambda gpu: gpu.memory)
        bfloat16 = all(gpu.bfloat16 for gpu in gpus)
        if fixed and memory_limit(fixed, smallest.memory) <= 0:
            problem = f"leaves nothing of a GPU with {smallest.memory / 1e9:.1f} GB"
            raise BadInputError(
                "resources.gpus", fixed, problem, "give each trial a larger fraction"
            )
        packing = replace(packing, smallest=smallest, largest=largest, bfloat16=bfloat16)
    return packing


def _gpu_nodes() -> list[dict[str, Any]]:
    return [node for node in alive() if node["Resources"].get("GPU", 0) > 0]


def _await_gpu(limit: float, say: Callable[[str], None], cluster: str) -> None:
    """Make the autoscaler start a first GPU node, whose memory determines what trials request.

    Raises:
        NoNodesError: none became available within the limit in seconds.
    """
    say(f"waiting for a first node with a GPU ({cluster}) ..")
    check: Any = ray.remote(num_cpus=0, num_gpus=_CHECK_FRACTION, max_calls=1)(_here)
    call = check.remote()
    if not ray.wait([call], timeout=limit)[0]:
        ray.cancel(call, force=True)
        problem = f"no GPU node became available within {duration(limit)} ({cluster})"
        raise NoNodesError(f"{problem}; run `ray status` on the head for the cause")


def _here() -> bool:
    return True


def find_gpu() -> Gpu:
    """Describe the GPU of this process; runs on GPU nodes, because it imports torch."""
    from trainables.training.device import find_gpu as find  # noqa: PLC0415

    return find()


def find_gpus() -> list[Gpu]:
    """Return one GPU of each GPU node that answers in time.

    Raises:
        BadInputError: torch cannot use the GPU of any node, for example without a driver.
    """
    check: Any = ray.remote(num_cpus=0, num_gpus=_CHECK_FRACTION, max_calls=1, max_retries=0)(
        find_gpu
    )
    looks = [
        check.options(
            scheduling_strategy=NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
        ).remote()
        for node in _gpu_nodes()
    ]
    answered, silent = ray.wait(looks, num_returns=len(looks), timeout=ANSWER_TIMEOUT)
    for late in silent:
        ray.cancel(late, force=True)
    found: list[Gpu] = []
    unusable: BadInputError | None = None
    for answer in answered:
        try:
            found.append(ray.get(answer))
        except RayTaskError as error:
            if isinstance(error.cause, BadInputError):
                unusable = error.cause
        except RayError:
            continue
    if unusable is not None and not found:
        raise unusable
    return found


def concurrent_trials(experiment: Experiment, packing: Packing) -> int:
    """Return how many trials Tune may have at a time; Ray queues those that do not fit.

    This includes trials that need further nodes, because queued trials make the cluster grow.
    """
    if experiment.resources.concurrent is not None:
        return experiment.resources.concurrent
    nodes = reachable_nodes(cluster_nodes(), startable_types())
    return max(1, fitting_trials(nodes, packing.cpus, packing.smallest_fraction))


def check_resources(nodes: Sequence[Node], cpus: float, gpus: float) -> None:
    """Check that at least one node of the cluster fits a trial.

    Raises:
        BadInputError: none does.
    """
    if _holds(nodes, cpus, gpus):
        return
    for field, kind, wanted in (("resources.cpus", "CPU", cpus), ("resources.gpus", "GPU", gpus)):
        there = max((node.get(kind, 0) for node in nodes), default=0)
        if wanted > there:
            problem = f"the largest node has {there:g} {kind}s"
            raise BadInputError(field, f"{wanted:g}", problem, "request less")
    problem = f"no node has {cpus:g} CPUs and {gpus:g} GPUs together"
    raise BadInputError("resources", f"{cpus:g} CPUs, {gpus:g} GPUs", problem, "request less")


def _holds(nodes: Sequence[Node], cpus: float, gpus: float) -> bool:
    return any(node.get("CPU", 0) >= cpus and node.get("GPU", 0) >= gpus for node in nodes)


def can_train(packing: Packing) -> bool:
    """Tell whether any node of the cluster, busy or not, fits a training now."""
    return _holds(cluster_nodes(), packing.cpus, packing.smallest_fraction)


def nodes_waited_for(packing: Packing) -> str:
    """Describe what each training requests and what the cluster has."""
    gpu_fraction = f"{packing.smallest_fraction:g} of a GPU" if packing.on_gpus else "no GPU"
    cluster = describe(cluster_nodes(), startable_types())
    text = f"each trial requests {packing.cpus} CPUs and {gpu_fraction}; {cluster}"
    return f"{text}; a node fits, but it is busy" if can_train(packing) else text


def ask_by_config(cpus: int) -> Callable[[dict[str, Any]], tune.PlacementGroupFactory]:
    """Return a function from the config of a trial to its resources, for Ray Tune.

    Tune reuses a process for the next trial with an equal request.
    """

    def ask(config: dict[str, Any]) -> tune.PlacementGroupFactory:
        return tune.PlacementGroupFactory([{"CPU": cpus, "GPU": config["gpus"]}])

    return ask


def train_trials(
    experiment: Experiment,
    spec: TrainingSpec,
    packing: Packing,
    searcher: StudySearcher,
    storage: Path,
    say: Callable[[str], None] = _nothing,
) -> None:
    """Train the trials of a searcher with Ray Tune until it has finished.

    Args:
        experiment: of the search.
        spec: of every training.
        packing: what trials request from the cluster.
        searcher: hands out trials.
        storage: folder for files of Ray Tune.
        say: prints a line for people.

    Raises:
        NoNodesError: no node became available within the limit of the search.
    """
    withhold_credentials()
    wait = NodeWait(experiment.resources.wait, say, partial(nodes_waited_for, packing))
    watch = TrialWatch(wait)
    trainable = tune.with_resources(
        tune.with_parameters(TrialActor, spec=spec), ask_by_config(packing.cpus)
    )
    tuner = tune.Tuner(
        trainable,
        tune_config=tune.TuneConfig(
            metric=OBJECTIVE,
            mode="max",
            search_alg=searcher,
            scheduler=StudyScheduler(searcher),
            # The study enforces the budget; Tune must not end earlier.
            num_samples=-1,
            max_concurrent_trials=concurrent_trials(experiment, packing),
            reuse_actors=True,
        ),
        run_config=tune.RunConfig(
            name="trials",
            storage_path=str(storage),
            verbose=0,
            # A restarted trial resumes from its own last checkpoint, not from one of Tune.
            failure_config=tune.FailureConfig(max_failures=experiment.failures.retries),
            checkpoint_config=tune.CheckpointConfig(checkpoint_at_end=False),
            callbacks=[watch, silent_progress()],
        ),
    )
    try:
        with without_usage_tags():
            tuner.fit()
    except Exception:
        if watch.error is not None:
            raise watch.error from None
        raise
