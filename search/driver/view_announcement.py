"""Prints where MLflow shows a running search, as soon as the search has arrived there."""

from __future__ import annotations

import time
from collections.abc import Callable

from search.experiment.folder import SearchFolder
from search.study.events import Observer
from search.tracking.mlflow_destination import Destination, experiment_id, ui_command
from search.tracking.saved_views import search_views
from trainables.epoch_metrics import EpochMetrics

_PAUSE = 1.0
"""Seconds between two looks at what has arrived."""


class ViewAnnouncement(Observer):
    """Prints one line with the leaderboard of the search in MLflow.

    The store gives the experiment its id, so the address is unknown before the search arrives.

    Args:
        destination: store of the search.
        folder: of the search.
        say: prints a line.
    """

    def __init__(
        self, destination: Destination, folder: SearchFolder, say: Callable[[str], None]
    ) -> None:
        self._destination = destination
        self._folder = folder
        self._say = say
        self._said = False
        self._due = 0.0

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Print the line once the search has arrived."""
        if self._said or time.monotonic() < self._due:
            return
        self._due = time.monotonic() + _PAUSE
        experiment = experiment_id(self._destination, self._folder)
        if not experiment:
            return
        self._said = True
        view = search_views(self._folder.identity)[0]
        address = view.address(self._destination.server, experiment)
        if not self._destination.has_server:
            address += f" (to serve it: {ui_command(self._destination)})"
        self._say(f"MLflow: {address}")
