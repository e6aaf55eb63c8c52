"""Describes the nodes that a cluster has and those that it can start."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import ray
import yaml

from cluster.launched import NodeType, read_launched
from search.loop.packing import Node
from spaces.errors import BadInputError

VARIABLE = "BORDERLINE_NODE_TYPES"
"""Names the node types that an autoscaler can start on Kubernetes."""
_JOIN_TIMEOUT = 60.0


def alive() -> list[dict[str, Any]]:
    """Return Ray's description of each node that is alive."""
    known: list[dict[str, Any]] = ray.nodes()  # type: ignore[no-untyped-call]
    return [node for node in known if node["Alive"]]


def cluster_nodes() -> list[Node]:
    """Return the resources of each node that is alive."""
    return [node["Resources"] for node in alive()]


def startable_types() -> list[NodeType]:
    """Return the node types that the autoscaler of the cluster can start, as far as known.

    Raises:
        BadInputError: BORDERLINE_NODE_TYPES cannot be parsed.
    """
    named = os.environ.get(VARIABLE)
    if named:
        return parse_node_types(named)
    launched = read_launched(Path.home())
    if launched is None or not ray.is_initialized():
        return []
    # The file describes the cluster of this head; the search may use another one.
    host, _, port = ray.get_runtime_context().gcs_address.rpartition(":")
    own: str = ray.util.get_node_ip_address()  # type: ignore[no-untyped-call]
    return list(launched.node_types) if (host, port) == (own, str(launched.port)) else []


def parse_node_types(text: str) -> list[NodeType]:
    """Parse node types: ``[{name: gpu-worker, most: 4, resources: {CPU: 8, GPU: 1}}]``.

    Raises:
        BadInputError: the text is not a list of node types.
    """
    try:
        return [
            NodeType(
                str(each["name"]),
                {str(key): float(value) for key, value in each["resources"].items()},
                int(each["most"]),
            )
            for each in yaml.safe_load(text)
        ]
    except (yaml.YAMLError, AttributeError, LookupError, TypeError, ValueError):
        remedy = "write [{name: gpu-worker, most: 4, resources: {CPU: 8, GPU: 1}}]"
        raise BadInputError(VARIABLE, text, "is not a list of node types", remedy) from None


def await_hosts(types: Sequence[NodeType], say: Callable[[str], None]) -> None:
    """Wait up to a minute for hosts that Ray connects by SSH.

    They join after the head, and their resources are unknown before. A host that is switched off
    must not block the search.

    Args:
        types: that the cluster can start.
        say: prints a line for people.
    """
    hosts = sum(kind.most for kind in types if not kind.resources)
    deadline = time.monotonic() + _JOIN_TIMEOUT
    missing = hosts + 1 - len(alive())
    if hosts and missing > 0:
        say(f"waiting for {missing} of {hosts + 1} hosts to join the cluster ..")
    while hosts and missing > 0 and time.monotonic() < deadline:
        time.sleep(0.5)
        missing = hosts + 1 - len(alive())
    if hosts and missing > 0:
        say(f"{missing} of {hosts + 1} hosts did not join within {_JOIN_TIMEOUT:.0f}s")


def describe(nodes: Sequence[Node], types: Sequence[NodeType]) -> str:
    """Describe what a cluster has and can start."""
    there = ", ".join(_amount(node) for node in nodes) or "none"
    text = f"nodes: {there}"
    if types:
        more = ", ".join(f"{kind.most} x {kind.name} ({_amount(kind.resources)})" for kind in types)
        text += f"; its autoscaler can start {more}"
    return text


def _amount(node: Node) -> str:
    return f"{node.get('CPU', 0):g} CPUs and {node.get('GPU', 0):g} GPUs"
