"""Nodes that a cluster has, and nodes that it can start."""

from __future__ import annotations

from typing import Any

import pytest
import ray

from cluster.launched import NodeType
from cluster.sizing import Gpu
from search.backend import nodes, tuning
from search.backend.nodes import VARIABLE, await_hosts, parse_node_types, startable_types
from search.backend.tuning import concurrent_trials, plan_packing
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from spaces.errors import BadInputError

GPU_NODES = "[{name: gpu-worker, most: 4, resources: {CPU: 8, GPU: 1}}]"
GPU = Gpu(16 * 10**9, True)


def experiment(**fields: Any) -> Experiment:
    return parse_experiment({"name": "mine", "epochs": 1, **fields})


def node(**resources: float) -> dict[str, Any]:
    return {"Alive": True, "NodeID": "1", "Resources": resources}


@pytest.fixture
def head_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Simulate a head without CPUs whose autoscaler can start four GPU nodes."""
    monkeypatch.setenv(VARIABLE, GPU_NODES)
    monkeypatch.setattr(ray, "nodes", lambda: [node()])
    monkeypatch.setattr(tuning, "_await_gpu", lambda *_: None)
    monkeypatch.setattr(tuning, "find_gpus", lambda: [GPU])


@pytest.mark.usefixtures("head_alone")
def test_startable_gpu_node_is_accepted() -> None:
    packing = plan_packing(experiment(device="cuda"))
    assert packing.smallest == GPU


@pytest.mark.usefixtures("head_alone")
def test_concurrent_trials_fill_the_fully_grown_cluster() -> None:
    asked = experiment()
    assert concurrent_trials(asked, plan_packing(asked)) == 4 * 8


@pytest.mark.usefixtures("head_alone")
def test_request_beyond_every_startable_node_is_refused() -> None:
    with pytest.raises(BadInputError, match=r"resources.gpus = 2: the largest node has 1 GPUs"):
        plan_packing(experiment(resources={"gpus": 2}))


def test_refusal_without_gpu_describes_the_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(VARIABLE, "[{name: cpu, most: 2, resources: {CPU: 16}}]")
    monkeypatch.setattr(ray, "nodes", lambda: [node(CPU=4)])
    with pytest.raises(BadInputError) as refused:
        plan_packing(experiment(device="cuda"))
    assert refused.value.problem == (
        "the cluster has no GPU (nodes: 4 CPUs and 0 GPUs; its autoscaler can start 2 x cpu (16 "
        "CPUs and 0 GPUs))"
    )


def test_node_types_are_parsed() -> None:
    assert parse_node_types(GPU_NODES) == [NodeType("gpu-worker", {"CPU": 8, "GPU": 1}, 4)]
    assert parse_node_types("[]") == []


@pytest.mark.parametrize(
    "text", ["4", "{", "[gpu]", "[{name: a}]", "gpu: 4", "[{name: a, most: x}]"]
)
def test_invalid_list_of_node_types_is_refused(text: str) -> None:
    with pytest.raises(BadInputError, match=VARIABLE):
        parse_node_types(text)


def test_cluster_without_node_types_starts_none(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert startable_types() == []


def test_joining_hosts_are_awaited(monkeypatch: pytest.MonkeyPatch) -> None:
    looks = iter([1, 1, 2, 3])
    monkeypatch.setattr(nodes, "alive", lambda: [node()] * next(looks))
    said: list[str] = []
    await_hosts([NodeType("local.cluster.node", {}, 2)], said.append)
    assert said == ["waiting for 2 of 3 hosts to join the cluster .."]


def test_host_that_does_not_join_blocks_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nodes, "alive", lambda: [node()] * 2)
    monkeypatch.setattr(nodes, "_JOIN_TIMEOUT", 0.1)
    said: list[str] = []
    await_hosts([NodeType("local.cluster.node", {}, 2)], said.append)
    assert said[-1] == "1 of 3 hosts did not join within 0s"
