"""The KubeRay manifests: their fields exist, and they keep their guarantees."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import ray
import yaml

from search.backend.nodes import parse_node_types
from tests.cluster.kuberay import KINDS, faults

FOLDER = Path(__file__).resolve().parents[2] / "cluster" / "kubernetes"
DOCKERFILE = FOLDER.parent / "Dockerfile"
ROOT = FOLDER.parents[1]
CLUSTERS = {
    "raycluster.yaml": ("spec",),
    "rayjob.yaml": ("spec", "rayClusterSpec"),
    "raycronjob.yaml": ("spec", "jobTemplate", "rayClusterSpec"),
}


def documents(name: str) -> list[dict[str, Any]]:
    return list(yaml.safe_load_all((FOLDER / name).read_text(encoding="utf-8")))


ALL = [(path.name, each) for path in sorted(FOLDER.glob("*.yaml")) for each in documents(path.name)]


def cluster_of(name: str) -> dict[str, Any]:
    (found,) = documents(name)
    for key in CLUSTERS[name]:
        found = found[key]
    return found


def pods(value: object) -> Iterator[dict[str, Any]]:
    """Yield the specification of every pod in a value."""
    if isinstance(value, dict):
        if "containers" in value:
            yield value
        for inner in value.values():
            yield from pods(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from pods(inner)


PODS = [(name, pod) for name, each in ALL for pod in pods(each)]


@pytest.mark.parametrize(("name", "document"), ALL)
def test_manifest_contains_only_fields_of_its_resource(name: str, document: dict[str, Any]) -> None:
    kind = KINDS[document["apiVersion"], document["kind"]]
    assert faults(document, kind) == []


@pytest.mark.parametrize(
    ("harm", "fault"),
    [
        (lambda spec: spec.update(workerGroups=[]), ".spec.workerGroups: unknown"),
        (lambda spec: spec.pop("headGroupSpec"), ".spec.headGroupSpec: missing"),
        (
            lambda spec: spec["authOptions"].update(mode="on"),
            ".spec.authOptions.mode: on is none of disabled, token",
        ),
        (
            lambda spec: spec["workerGroupSpecs"][0]["template"]["spec"].update(volume=[]),
            ".spec.workerGroupSpecs[0].template.spec.volume: unknown",
        ),
    ],
)
def test_errors_in_a_manifest_are_found(harm: Any, fault: str) -> None:
    document = copy.deepcopy(documents("raycluster.yaml")[0])
    harm(document["spec"])
    assert faults(document, KINDS["ray.io/v1", "RayCluster"]) == [fault]


def test_driver_and_trials_use_the_authorized_service_account() -> None:
    spec = cluster_of("raycluster.yaml")
    (account,) = [each for _, each in ALL if each["kind"] == "ServiceAccount"]
    head, *workers = [
        group["template"]["spec"] for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"])
    ]
    for pod in (head, *workers):
        assert pod["serviceAccountName"] == account["metadata"]["name"]
    # Only the autoscaler, which runs beside the head, calls the Kubernetes API.
    assert head["automountServiceAccountToken"] is True
    assert not any(pod["automountServiceAccountToken"] for pod in workers)


def test_all_three_manifests_define_the_same_cluster() -> None:
    first, *others = [cluster_of(name) for name in CLUSTERS]
    assert all(other == first for other in others)


def test_pinned_ray_runs_with_token_and_without_outside_access() -> None:
    spec = cluster_of("raycluster.yaml")
    assert spec["rayVersion"] == ray.__version__
    assert spec["authOptions"]["mode"] == "token"
    head = spec["headGroupSpec"]
    assert head["serviceType"] == "ClusterIP"
    assert head["enableIngress"] is False
    assert head["rayStartParams"]["num-cpus"] == "0"
    for _, document in ALL:
        assert document["kind"] not in {"Service", "Ingress", "Route"}


def test_gpus_scale_from_zero_and_search_knows_node_types() -> None:
    spec = cluster_of("raycluster.yaml")
    groups = spec["workerGroupSpecs"]
    (container,) = spec["headGroupSpec"]["template"]["spec"]["containers"]
    (told,) = [
        each["value"] for each in container["env"] if each["name"] == "BORDERLINE_NODE_TYPES"
    ]
    types = {kind.name: kind for kind in parse_node_types(told)}
    assert set(types) == {group["groupName"] for group in groups}
    for group in groups:
        (worker,) = group["template"]["spec"]["containers"]
        limits = worker["resources"]["limits"]
        assert group["minReplicas"] == group["replicas"] == 0
        assert types[group["groupName"]].most == group["maxReplicas"]
        assert types[group["groupName"]].resources == {
            "CPU": float(limits["cpu"]),
            "GPU": float(limits["nvidia.com/gpu"]),
        }


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_containers_cannot_gain_privileges(name: str, pod: dict[str, Any]) -> None:
    assert pod["securityContext"]["runAsUser"] == 1000
    for container in pod["containers"]:
        context = container["securityContext"]
        assert context["runAsNonRoot"] is True
        assert context["allowPrivilegeEscalation"] is False
        assert context["capabilities"] == {"drop": ["ALL"]}
        assert {"requests", "limits"} <= set(container["resources"])


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_all_pods_run_one_image_with_a_version(name: str, pod: dict[str, Any]) -> None:
    (image,) = {container["image"] for container in pod["containers"]}
    assert image == PODS[0][1]["containers"][0]["image"]
    assert image.rpartition(":")[2] not in {"", "latest", "nightly"}


@pytest.mark.parametrize(("name", "pod"), PODS)
def test_secrets_are_referenced_but_never_written_in_manifests(
    name: str, pod: dict[str, Any]
) -> None:
    for container in pod["containers"]:
        for each in container.get("env", []):
            hidden = any(word in each["name"] for word in ("TOKEN", "PASSWORD", "SECRET", "KEY"))
            assert ("valueFrom" in each) == hidden, each


def test_applying_a_manifest_again_keeps_the_secret() -> None:
    assert all(each["kind"] != "Secret" for _, each in ALL)
    for spec in map(cluster_of, CLUSTERS):
        for group in (spec["headGroupSpec"], *spec["workerGroupSpecs"]):
            (container,) = group["template"]["spec"]["containers"]
            secret = {"name": "borderline-secrets", "optional": True}
            assert {"secretRef": secret} in container["envFrom"]


def test_both_timers_run_the_nightly_search() -> None:
    (ray_cron,) = documents("raycronjob.yaml")
    assert (
        "search.py nightly experiments/nightly.yaml"
        in ray_cron["spec"]["jobTemplate"]["entrypoint"]
    )
    (cron,) = documents("cronjob.yaml")
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    words = container["command"] + container["args"]
    assert words[-4:] == [
        *("python", "/home/ray/search.py", "nightly", "/home/ray/experiments/nightly.yaml")
    ]
    assert cron["spec"]["concurrencyPolicy"] == "Forbid"
    assert ray_cron["spec"]["schedule"] == cron["spec"]["schedule"]


def test_plain_timer_submits_to_running_cluster_with_token() -> None:
    (cluster,) = documents("raycluster.yaml")
    (cron,) = documents("cronjob.yaml")
    name = cluster["metadata"]["name"]
    (container,) = cron["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    assert f"--address=http://{name}-head-svc:8265" in container["command"]
    token = next(each for each in container["env"] if each["name"] == "RAY_AUTH_TOKEN")
    assert token["valueFrom"]["secretKeyRef"] == {"name": name, "key": "auth_token"}


def test_image_contains_everything_search_py_needs() -> None:
    text = DOCKERFILE.read_text(encoding="utf-8")
    shown = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    for name in ("search", "spaces", "trainables", "cluster", "experiments", "mlflow"):
        assert f" {name} {name}\n" in text
        assert f"!{name}" in shown
    for name in ("pyproject.toml", "constraints.txt", "search.py"):
        assert name in text
        assert f"!{name}" in shown
    assert "RUN sh cluster/install.sh" in text
    assert ":latest" not in text
