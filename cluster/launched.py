"""Reads the cluster configuration that ``ray up`` leaves on a head node."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BOOTSTRAP = "ray_bootstrap_config.yaml"
"""Ray's completed cluster file in the home folder of a head node."""
DEFAULT_PORT = 6379
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class NodeType:
    """A node type that an autoscaler can start.

    Attributes:
        name: name in the cluster file.
        resources: resources per node by Ray's names; empty if only the node knows them.
        most: maximum number of nodes.
    """

    name: str
    resources: Mapping[str, float]
    most: int


@dataclass(frozen=True)
class Launched:
    """A launched cluster.

    Attributes:
        port: port of its head on this machine.
        node_types: node types of its autoscaler.
    """

    port: int
    node_types: Sequence[NodeType]


def read_launched(folder: Path) -> Launched | None:
    """Return the cluster if this machine is its head, else None.

    Args:
        folder: home folder of the user who launched it, which contains Ray's file.
    """
    try:
        config = yaml.safe_load((folder / BOOTSTRAP).read_text(encoding="utf-8"))
        return Launched(_port(config), _node_types(config))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError):
        # Not such a file, or from another version of Ray.
        return None


def _port(config: Mapping[str, Any]) -> int:
    commands = " ; ".join(config["head_start_ray_commands"])
    found = re.search(r"ray start\b[^;&|]*?--port[ =](\d+)", commands)
    return int(found[1]) if found else DEFAULT_PORT


def _node_types(config: Mapping[str, Any]) -> list[NodeType]:
    altogether = int(config["max_workers"])
    found = []
    for name, kind in config["available_node_types"].items():
        # A separate type for the head usually has no workers.
        most = min(altogether, int(kind.get("max_workers", altogether)))
        resources = {key: float(value) for key, value in kind.get("resources", {}).items()}
        if most > 0:
            found.append(NodeType(name, resources, most))
    return found


def join_own_cluster(script: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Connect a submitted script to its cluster, unless RAY_ADDRESS is set.

    ``ray submit`` copies a script beside Ray's file in the home folder of the head and runs it
    there without the cluster's address. "auto" would match any Ray on the machine.

    Args:
        script: the running script.
        environment: receives the address of the cluster and the authentication mode.
    """
    launched = read_launched(script.resolve().parent)
    if launched is None or environment.get("RAY_ADDRESS"):
        return
    environment["RAY_ADDRESS"] = f"127.0.0.1:{launched.port}"
    has_token = (Path.home() / ".ray" / "auth_token").exists() or any(
        environment.get(name) for name in TOKEN_VARIABLES
    )
    if has_token:
        environment.setdefault("RAY_AUTH_MODE", "token")
