"""Which devices of the cluster are in use."""

from __future__ import annotations

from dataclasses import dataclass

import ray

from search.backend.nodes import cluster_nodes


@dataclass(frozen=True)
class Usage:
    """The devices of a cluster.

    Attributes:
        nodes: that are alive.
        cpus: of these nodes.
        cpus_used: that trainings occupy.
        gpus: of these nodes.
        gpus_used: that trainings occupy.
    """

    nodes: int
    cpus: float
    cpus_used: float
    gpus: float
    gpus_used: float


def cluster_usage() -> Usage:
    """Return the devices of the connected cluster and those in use."""
    nodes = cluster_nodes()
    free = ray.available_resources()  # type: ignore[no-untyped-call]
    cpus, gpus = (sum(node.get(kind, 0.0) for node in nodes) for kind in ("CPU", "GPU"))
    return Usage(
        len(nodes),
        cpus,
        round(max(0.0, cpus - free.get("CPU", 0.0)), 2),
        gpus,
        round(max(0.0, gpus - free.get("GPU", 0.0)), 2),
    )
