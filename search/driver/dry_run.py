"""Checks a search as `run` does, and predicts its time and money, without writing anything."""

from __future__ import annotations

from functools import partial

from rich.console import Console

from search.backend.connection import connected
from search.backend.tuning import concurrent_trials, plan_packing
from search.backup.backup import open_backup
from search.console import say
from search.driver.warm_start import read_warm_start
from search.experiment.folder import Home, default_database, default_storage
from search.experiment.schema import Experiment
from search.loop.preflight import Prepared
from search.reporting.preview.forecast import Capacity
from search.reporting.screening import screen_space
from search.study.storages import check_server
from trainables.data import Dataset

DRAWS = 1000


def preview_search(experiment: Experiment, home: Home, console: Console, address: str) -> None:
    """Print what a search would do, and what it would take.

    Args:
        experiment: of the search.
        home: of its folder.
        console: for the tables.
        address: of the Ray cluster.

    Raises:
        BadInputError: `run` would refuse the search.
    """
    folder = home.folder(experiment.name)
    folder.refuse_existing()
    open_backup(experiment.storage or default_storage(), folder, new=True)
    location = folder.location(experiment.database or default_database())
    if isinstance(location, str):
        check_server(location, experiment.name, new=True)

    def check(prepared: Prepared, dataset: Dataset) -> Capacity:
        completed = prepared.experiment
        data = dataset.identify(completed.decoding)
        tell = partial(say, console)
        read_warm_start(home, completed, data, prepared.space, prepared.screens, tell)
        with connected(address):
            packing = plan_packing(completed, dataset.images.nbytes, tell)
            return Capacity(concurrent_trials(completed, packing), packing.smallest_fraction or 1.0)

    screen_space(experiment, DRAWS, console, check, measured=True)
    say(console, "Nothing was written. To start the search, leave out --dry-run.")
