"""Where and with what a search runs: device, versions and command, stored in its folder."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import asdict, dataclass
from importlib.metadata import PackageNotFoundError, version

from cluster.files import write_atomically
from search.experiment.folder import SearchFolder
from search.urls import redacted

_PACKAGES = ("borderline", "torch", "ray", "optuna", "mlflow")


@dataclass(frozen=True)
class Machine:
    """The last driver of a search.

    Attributes:
        device: on which trials are trained.
        versions: of Python and the packages that matter.
        command: that started the driver, without passwords in addresses.
    """

    device: str
    versions: str
    command: str


def this_machine(device: str) -> Machine:
    """Return what is known of this process.

    Args:
        device: on which it trains.
    """
    versions = [f"Python {platform.python_version()}"]
    for package in _PACKAGES:
        try:
            versions.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            continue
    return Machine(device, ", ".join(versions), redacted(shlex.join(["python", *sys.argv])))


def write_machine(folder: SearchFolder, machine: Machine) -> None:
    """Store a machine in the folder of a search."""
    write_atomically(folder.machine, json.dumps(asdict(machine), indent=1))


def read_machine(folder: SearchFolder) -> Machine | None:
    """Return the stored machine; None if it is missing, as in older searches, or damaged."""
    try:
        return Machine(**json.loads(folder.machine.read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None
