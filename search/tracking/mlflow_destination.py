"""Where the runs of a search are tracked, and how to view them."""

import json
import os
import re
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from search.experiment.folder import SearchFolder
from search.tracking.saved_views import search_views
from search.urls import redacted, sqlite_uri
from spaces.errors import BadInputError

DEFAULT_EXPERIMENT = "borderline"
PROGRESS = "tracking.json"
"""File beside the journal that says what has arrived in the store."""
_LOCAL_SERVER = "http://127.0.0.1:5000"
"""Address at which `mlflow/serve.sh` and MLflow serve a store by default."""
_VARIABLE = "MLFLOW_TRACKING_URI"
_HIDDEN = "***"

_PROJECT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class Destination:
    """An experiment in an MLflow store.

    Args:
        tracking_uri: address of the store, as MLflow expects it.
        home: folder of all searches, which holds the local store.
        experiment: name of the MLflow experiment.
    """

    tracking_uri: str
    home: Path
    experiment: str = DEFAULT_EXPERIMENT

    @classmethod
    def from_environment(cls, home: Path, experiment: str = DEFAULT_EXPERIMENT) -> Self:
        """Return the store in MLFLOW_TRACKING_URI, or the local one under `home`."""
        uri = os.environ.get(_VARIABLE) or sqlite_uri(home / "mlflow.db")
        return cls(uri, home, experiment)

    @classmethod
    def of_search(cls, folder: SearchFolder, experiment: str) -> Self:
        """Return the store of a search: that in MLFLOW_TRACKING_URI, or else where it was tracked.

        Raises:
            BadInputError: it was tracked at an address with a password, which is not stored.
        """
        home = folder.path.parent
        tracked = folder.tracked_at
        if os.environ.get(_VARIABLE) or tracked is None:
            return cls.from_environment(home, experiment)
        if redacted(tracked) == tracked and _HIDDEN not in tracked:
            return cls(tracked, home, experiment)
        problem = f"is not set, but search {folder.name} is tracked at {tracked}"
        raise BadInputError(_VARIABLE, "", problem, "set it to that address with its password")

    @property
    def server(self) -> str:
        """Address of the pages: of the tracking server, or of one that `ui_command` starts."""
        return self.shown if self.has_server else _LOCAL_SERVER

    @property
    def has_server(self) -> bool:
        """Tell whether a tracking server holds the store."""
        return re.match(r"https?://", self.tracking_uri) is not None

    def record(self, folder: SearchFolder) -> None:
        """Record in the folder of a search where it is tracked, without passwords."""
        folder.write_tracked_at(None if self.local else self.shown)

    @property
    def local(self) -> bool:
        """Tell whether this is the local store under `home`."""
        return self.tracking_uri == sqlite_uri(self.home / "mlflow.db")

    @property
    def artifacts(self) -> str | None:
        """Address for the artifacts of a new experiment; None for the store's default."""
        return (self.home / "mlartifacts").absolute().as_uri() if self.local else None

    @property
    def shown(self) -> str:
        """The address without its password."""
        return redacted(self.tracking_uri)


def ui_command(destination: Destination) -> str:
    """Return how to view the runs.

    Returns:
        The address of a tracking server; for a store without a server, the shell command that
        serves it to this machine, valid in the current folder.
    """
    if destination.has_server:
        return destination.shown
    script = _PROJECT / "mlflow" / "serve.sh"
    if destination.local and script.exists():
        path = os.path.relpath(script) if script.is_relative_to(Path.cwd()) else str(script)
        home = destination.home.absolute()
        usual = home == _PROJECT / "runs" and not os.environ.get("BORDERLINE_HOME")
        setting = "" if usual else f"BORDERLINE_HOME={shlex.quote(str(home))} "
        return f"{setting}sh {shlex.quote(path)}"
    # The address may hold a password, which must not appear on a screen or in a process list.
    store = (
        shlex.quote(destination.tracking_uri)
        if destination.shown == destination.tracking_uri
        else '"$MLFLOW_TRACKING_URI"'
    )
    artifacts = destination.artifacts
    served = "" if artifacts is None else f" --artifacts-destination {shlex.quote(artifacts)}"
    return (
        f"{shlex.quote(sys.executable)} -m mlflow server --host 127.0.0.1 --workers 1"
        f" --backend-store-uri {store}{served}"
    )


def experiment_id(destination: Destination, folder: SearchFolder) -> str:
    """Return the id of the MLflow experiment of a search; empty if it has not arrived there."""
    try:
        progress = json.loads(folder.journal.with_name(PROGRESS).read_text(encoding="utf-8"))
        found = progress["experiment_id"] if progress["store"] == destination.shown else ""
    except (OSError, ValueError, KeyError, TypeError):
        return ""
    return str(found)


def view_links(destination: Destination, folder: SearchFolder) -> list[str]:
    """Return a line with the address of each saved view of a search.

    Returns:
        The lines; none if the search has not arrived in this store.
    """
    experiment = experiment_id(destination, folder)
    if not experiment:
        return []
    return [
        f"  {view.name:<21}{view.address(destination.server, experiment)}"
        for view in search_views(folder.identity)
    ]
