"""Deletes a search: its folder, study, copy in a bucket and runs in MLflow."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna

from search.backup.backup import as_bad_input
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_stored
from search.experiment.schema import Experiment
from search.formatting import plural
from search.study.database import IDENTITY
from search.study.file_lock import DriverFileLock
from search.study.storages import is_written, open_storage, shown
from search.tracking.mlflow_destination import Destination
from search.tracking.mlflow_errors import RefusedError, UnavailableError, VanishedError
from search.tracking.tracking_process import quiet
from spaces.errors import BadInputError


@dataclass(frozen=True)
class Deletion:
    """What deleting a search removes.

    Attributes:
        folder: of the search.
        experiment: of the search.
        size: bytes of the folder.
        objects: number of objects in the bucket; 0 without one.
        runs: open store of its runs; None if they stay, or if there are none.
        run_count: number of these runs.
        shown: address of that store.
        in_use: models with an alias, such as NAME@champion, whose runs stay.
    """

    folder: SearchFolder
    experiment: Experiment
    size: int
    objects: int
    runs: Any
    run_count: int
    shown: str
    in_use: tuple[str, ...] = ()

    def describe(self) -> Iterator[str]:
        """Yield a line about each thing that is removed, and about what stays."""
        yield f"folder {self.folder.path} ({self.size / 1e6:,.1f} MB)"
        if self.experiment.database is not None:
            location = self.folder.location(self.experiment.database)
            yield f"study {self.folder.name} in {shown(location)}"
        if self.experiment.storage is not None:
            what = plural(self.objects, "object")
            yield f"{what} below {self.experiment.storage}/{self.folder.name}/"
        if self.run_count:
            yield f"{plural(self.run_count, 'run')} in MLflow at {self.shown} (mlflow gc ends them)"
        for model in self.in_use:
            yield f"stays: the run of the model {model} in MLflow, without which it cannot be used"

    def carry_out(self) -> None:
        """Remove everything; the folder last, so that a failed deletion can be repeated.

        Raises:
            BadInputError: a driver has started the search since, a server cannot be reached, or
                the folder cannot be removed.
        """
        _refuse_running(self.folder, self.experiment)
        if self.runs is not None:
            with _tracking(self.shown), quiet():
                self.runs.delete_all()
        if self.experiment.storage is not None:
            with as_bad_input(self.experiment.storage):
                _bucket(self.experiment.storage, self.folder.name).clear()
        self._delete_study()
        try:
            _remove(self.folder.path)
            self.folder.nightly_lock.unlink(missing_ok=True)
        except OSError as error:
            problem = f"cannot be deleted ({error.strerror})"
            remedy = "allow it, then delete the search again"
            raise BadInputError("NAME", self.folder.path, problem, remedy) from error

    def _delete_study(self) -> None:
        location = self.folder.location(self.experiment.database)
        if not isinstance(location, str):
            return  # It lies in the folder.
        storage = open_storage(location, self.folder.name)
        try:
            study = storage.get_study_id_from_name(self.folder.name)
            owner = storage.get_study_user_attrs(study).get(IDENTITY)
            if owner in (None, self.folder.identity):
                optuna.delete_study(study_name=self.folder.name, storage=storage)
        except KeyError:
            return  # It is gone already.
        finally:
            storage.engine.dispose()


def plan_deletion(home: Home, name: str, *, keep_runs: bool = False) -> Deletion:
    """Return what deleting a search removes; nothing is removed yet.

    Args:
        home: holds the search.
        name: of the search.
        keep_runs: leave its runs in MLflow.

    Raises:
        BadInputError: there is no such search, a driver is running it, or a server that holds a
            part of it cannot be reached.
    """
    folder = home.existing(name)
    if folder.path.is_symlink():
        problem = f"is a symbolic link to {folder.path.resolve()}"
        remedy = "move the folder to where the link is, then delete the search"
        raise BadInputError("NAME", folder.path, problem, remedy)
    experiment = load_stored(folder)
    _refuse_running(folder, experiment)
    objects = 0
    if experiment.storage is not None:
        with as_bad_input(experiment.storage):
            objects = len(_bucket(experiment.storage, name).entries())
    destination = Destination.of_search(folder, experiment.tracking.experiment)
    runs = None if keep_runs else _runs(destination, folder)
    count, in_use = 0, ()
    if runs is not None:
        with _tracking(destination.shown), quiet():
            in_use = tuple(sorted(runs.in_use().values()))
            count = runs.count() - len(in_use)
    return Deletion(
        folder, experiment, folder.size, objects, runs, count, destination.shown, in_use
    )


def _remove(path: Path) -> None:
    """Remove a folder from which others may remove files meanwhile, such as a second deletion.

    Raises:
        OSError: it cannot be removed.
    """
    while path.exists():
        with suppress(FileNotFoundError):
            shutil.rmtree(path)


def _refuse_running(folder: SearchFolder, experiment: Experiment) -> None:
    locks = (folder.lock, folder.nightly_lock)
    holders = (DriverFileLock(path, folder.name).holder() for path in locks)
    holder = next((each for each in holders if each is not None), None)
    location = folder.location(experiment.database)
    if holder is None and isinstance(location, str) and is_written(location, folder.name):
        holder = "on another machine"
    if holder is not None:
        problem, remedy = f"is running ({holder})", "stop it first"
        raise BadInputError("NAME", folder.name, problem, remedy)


def _bucket(storage: str, name: str) -> Any:
    from cluster.s3 import open_bucket  # noqa: PLC0415 - takes half a second

    return open_bucket(storage).within(name)


def _runs(destination: Destination, folder: SearchFolder) -> Any:
    """Return the open store of a search's runs; None if there is no store."""
    if destination.local and not (destination.home / "mlflow.db").exists():
        return None
    with _tracking(destination.shown), quiet():
        from search.tracking.mlflow_runs import (  # noqa: PLC0415 - takes seconds
            RunStore,
            has_experiment,
        )

        if not has_experiment(destination.tracking_uri, destination.experiment):
            return None
        return RunStore(
            destination.tracking_uri,
            destination.experiment,
            destination.artifacts,
            folder.identity,
            lambda _: None,
        )


@contextmanager
def _tracking(address: str) -> Iterator[None]:
    """Turn an error of MLflow into one line.

    Raises:
        BadInputError: the store cannot be used.
    """
    try:
        yield
    except (RefusedError, UnavailableError, VanishedError) as error:
        remedy = "try again later, or leave the runs with --keep-runs"
        raise BadInputError("MLflow", address, str(error), remedy) from error
