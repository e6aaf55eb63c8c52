"""Retrains the finalists in parallel on Ray."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import ray
from ray.exceptions import RayError, RayTaskError

from search.backend.node_wait import NodeWait
from search.backend.retraining import EpochBoard, retrain
from search.backend.tuning import can_train
from search.loop.packing import Packing
from search.study.finalists import FinalistStore
from trainables.data import NodeDataError
from trainables.specs import FinalistResult, Retraining, TrainingSpec


class Trained(Protocol):
    """What identifies the network of a training: a trial, or an additional finalist."""

    @property
    def number(self) -> int:
        """Number of the trial."""

    @property
    def params(self) -> Mapping[str, Any]:
        """Parameters of the candidate."""

    @property
    def digest(self) -> str:
        """Digest of the candidate."""


@dataclass(frozen=True)
class FinalistTraining:
    """A training to run.

    Attributes:
        trial: of the finalist.
        seed: the fresh seed.
        probed: whether to make the probes of the spec afterwards.
        weights: content of the file of the weights to start from; None for initial weights.
    """

    trial: Trained
    seed: int
    probed: bool = False
    weights: bytes | None = None


def retrain_finalists(
    spec: TrainingSpec,
    trainings: Sequence[FinalistTraining],
    *,
    folder: Path,
    packing: Packing,
    wait: NodeWait,
    on_result: Callable[[FinalistResult], None],
    on_failure: Callable[[FinalistTraining, str], None],
    on_probes: Callable[[Retraining], None] = lambda _: None,
    stopped: Callable[[], bool] = lambda: False,
    on_epochs: Callable[[Mapping[int, tuple[int, float]]], None] | None = None,
) -> None:
    """Retrain candidates in parallel on Ray.

    Args:
        spec: of the search.
        trainings: to run. Each calls `on_result` or `on_failure`, unless the search stops.
        folder: receives weights and predictions, which only this process writes.
        packing: what each training requests from the cluster.
        wait: limits how long to wait for nodes.
        on_result: called after each training, when its result is stored.
        on_failure: called with each failed training and the cause.
        on_probes: called with each training that was probed, before its result is stored.
        stopped: asked every second whether to stop.
        on_epochs: called every second with the last epoch of each seed and its validation accuracy;
            None if nobody asks for it.

    Raises:
        NoNodesError: no node became available within the limit; results so far are stored.
        NodeDataError: the images on a node differ; results so far are stored.
    """
    shared = ray.put(spec)
    space = spec.candidates()
    # On GPUs a process serves one training: Ray may assign another GPU or fraction to the next one,
    # but a process cannot leave its GPU or release its memory there.
    remote: Any = ray.remote(max_calls=1 if packing.on_gpus else 0)(retrain)
    # Any, because Ray gives an actor its methods at run time.
    actor: Any = ray.remote(num_cpus=0)(EpochBoard)
    board = None if on_epochs is None else actor.remote()
    store = FinalistStore(folder)
    calls: dict[Any, FinalistTraining] = {}
    for training in trainings:
        trial = training.trial
        gpus = packing.gpu_fraction(space.rebuild(trial.params, trial.digest))
        call = remote.options(num_cpus=packing.cpus, num_gpus=gpus).remote(
            *(shared, trial.number, trial.params, training.seed, gpus, trial.digest),
            *(training.probed, training.weights, board),
        )
        calls[call] = training
    pending = list(calls)
    try:
        while pending and not stopped():
            done, pending = ray.wait(pending, timeout=1)
            if on_epochs is not None and board is not None:
                with suppress(RayError):  # Progress is not worth an end.
                    on_epochs(ray.get(board.read.remote(), timeout=1))
            for each in done:
                found = _collect(each, partial(on_failure, calls[each]))
                if found is not None:
                    if found.probes or found.probe_failure:
                        on_probes(found)
                    store.write(
                        found.result,
                        found.weights,
                        found.predictions,
                        found.validation_right,
                        found.confidences,
                        found.probabilities,
                    )
                    on_result(found.result)
            wait.check(waits=not done and not can_train(packing))
    finally:
        for each in pending:
            with suppress(RayError):  # The cluster may be gone; another error says why.
                ray.cancel(each, force=True)


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
