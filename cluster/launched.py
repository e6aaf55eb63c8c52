"""What a head node knows of the cluster that ``ray up`` launched from it."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BOOTSTRAP = "ray_bootstrap_config.yaml"
"""Ray's file in the home folder of a head node: the cluster file, completed."""
DEFAULT_PORT = 6379
TOKEN_VARIABLES = ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH")


@dataclass(frozen=True)
class NodeType:
    """A kind of node that an autoscaler can start.

    Attributes:
        name: as the cluster file calls it.
        resources: of one such node, by Ray's names; empty where only the node itself can tell.
        most: how many of them there may be.
    """

    name: str
    resources: Mapping[str, float]
    most: int


@dataclass(frozen=True)
class Launched:
    """A cluster as it was launched.

    Attributes:
        port: of its head on this machine.
        node_types: what its autoscaler can start.
    """

    port: int
    node_types: Sequence[NodeType]


def read_launched(folder: Path) -> Launched | None:
    """Return the cluster whose head this machine is, by Ray's file in a folder; None: it is none.

    Args:
        folder: the home folder of the user who launched it.
    """
    try:
        config = yaml.safe_load((folder / BOOTSTRAP).read_text(encoding="utf-8"))
        return Launched(_port(config), _node_types(config))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, ValueError):
        # What is no such file, or one of another version of Ray, tells nothing.
        return None


def _port(config: Mapping[str, Any]) -> int:
    commands = " ; ".join(config["head_start_ray_commands"])
    found = re.search(r"ray start\b[^;&|]*?--port[ =](\d+)", commands)
    return int(found[1]) if found else DEFAULT_PORT


def _node_types(config: Mapping[str, Any]) -> list[NodeType]:
    altogether = int(config["max_workers"])
    found = []
    for name, kind in config["available_node_types"].items():
        # A type of its own for the head usually has no workers.
        most = min(altogether, int(kind.get("max_workers", altogether)))
        resources = {key: float(value) for key, value in kind.get("resources", {}).items()}
        if most > 0:
            found.append(NodeType(name, resources, most))
    return found


def join_own_cluster(script: Path, environment: MutableMapping[str, str] = os.environ) -> None:
    """Let a script that was submitted to a cluster run on it, unless the user says where else.

    ``ray submit`` copies a script beside Ray's file in the home folder of the head and runs it
    there, without a word of where the cluster is. "auto" would not do: it takes any Ray of the
    machine.

    Args:
        script: what is run.
        environment: gets the address of the cluster, and that there is a token.
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
