"""Retraining finalists on a cluster without the requested resources."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import ray
from ray.exceptions import TaskCancelledError

from search.backend.finalist_training import retrain_finalists
from search.backend.node_wait import NodeWait, NoNodesError
from search.experiment.loading import parse_experiment
from search.experiment.training_spec import describe_training
from search.loop.packing import Packing
from search.loop.trials import Trials
from search.study.records import TrialRecord
from spaces.task import Task


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
            [TrialRecord.of(trial) for trial in trials.study.trials()[-1:]],
            seeds=2,
            first_seed=1,
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
