"""Retraining finalists on a cluster without the requested resources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import RayTaskError, TaskCancelledError

from search.backend.finalist_training import FinalistTraining, _collect, retrain_finalists
from search.backend.node_wait import NodeWait, NoNodesError
from search.experiment.loading import parse_experiment
from search.experiment.training_spec import describe_training
from search.loop.packing import Packing
from search.loop.trials import Trials
from search.study.records import TrialRecord
from spaces.task import Task
from trainables.data import NodeDataError


@pytest.mark.usefixtures("ray_cluster")
def test_retraining_fails_if_no_node_arrives_within_limit(
    tmp_path: Path,
    make_trials: Callable[..., Trials],
    task: Task,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    asked: list[Any] = []
    wait = ray.wait

    def remember(calls: list[Any], **options: Any) -> Any:
        asked[:] = calls
        return wait(calls, **options)

    monkeypatch.setattr(ray, "wait", remember)
    spec = describe_training(parse_experiment({"name": "lost"}), task)
    trials = make_trials(spec.candidates(), limit=1)
    while trials.next() is None:
        pass
    packing = Packing(cpus=99, fixed=0.0)
    with pytest.raises(
        NoNodesError, match=r"nothing could be trained for .*: each trial requests 99"
    ):
        retrain_finalists(
            spec,
            [
                FinalistTraining(TrialRecord.of(trial), seed)
                for trial in trials.study.trials()[-1:]
                for seed in (1, 2)
            ],
            folder=tmp_path,
            packing=packing,
            wait=NodeWait(2.0, str, lambda: "each trial requests 99 CPUs"),
            on_result=pytest.fail,
            on_failure=pytest.fail,
        )
    assert len(asked) == 2
    for call in asked:  # They do not start later either, once a node is available.
        with pytest.raises(TaskCancelledError):
            ray.get(call, timeout=10)


def test_retraining_on_other_images_ends_the_search(monkeypatch: pytest.MonkeyPatch) -> None:
    raised: list[Exception] = []

    def fail(_: Any) -> None:
        raise RayTaskError("retrain", "lines", raised[0]).as_instanceof_cause()

    monkeypatch.setattr(ray, "get", fail)
    failures: list[str] = []
    raised[:] = [ValueError("diverged")]
    assert _collect(None, failures.append) is None
    assert len(failures) == 1
    raised[:] = [NodeDataError("data", "images:x", "the node gpu-3 has others", "copy them")]
    with pytest.raises(NodeDataError, match="data = images:x: the node gpu-3 has others; copy"):
        _collect(None, failures.append)
    assert len(failures) == 1
