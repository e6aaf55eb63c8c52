"""Runs a search from an experiment to its report."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from dataclasses import replace
from functools import cache, partial

from optuna.exceptions import StorageInternalError
from optuna.trial import FrozenTrial
from rich.console import Console
from sqlalchemy.exc import SQLAlchemyError

from search.backend.connection import connected
from search.backend.node_wait import NoNodesError
from search.backend.tuning import plan_packing
from search.backup.backup import open_backup
from search.console import detail, say
from search.driver.baseline_process import BaselineProcess
from search.driver.data_check import asking_for_moved_data, check_data, search_again
from search.driver.execution import execute
from search.driver.outcome import Outcome, SearchFailedError
from search.driver.report_inputs import record_inputs
from search.driver.resume import as_resumed, migrate_checkpoints
from search.driver.session import WarmStart, open_search
from search.driver.warm_start import read_warm_start
from search.experiment.defaults import complete, describe_choices
from search.experiment.folder import Home, SearchFolder, default_database, default_storage
from search.experiment.schema import Experiment
from search.experiment.training_spec import (
    load_images,
)
from search.formatting import root_cause
from search.loop.packing import DEFAULT_FRACTION
from search.loop.preflight import prepare
from search.study.file_lock import hold
from search.study.storages import check_server, shown
from search.tracking.journal_events import PARENT, Start
from search.tracking.journal_reader import read_all
from spaces.errors import BadInputError
from trainables.data import Dataset

_GUESSED = (
    f"The memory of the GPUs is unknown, so each trial uses {DEFAULT_FRACTION:g} of one; set "
    "resources.gpus for another fraction."
)


def run_search(
    experiment: Experiment,
    home: Home,
    console: Console,
    *,
    address: str = "local",
    resume: bool = False,
) -> Outcome:
    """Run a whole search: draw, screen, train, choose, retrain, report.

    Args:
        experiment: what to search.
        home: holds the folder of the search.
        console: shows progress and report.
        address: of the Ray cluster; ``local`` starts a private one on this machine.
        resume: continue the search of that name where its last driver stopped.

    Raises:
        BadInputError: a value of the experiment cannot be used. Nothing has been written then,
            unless a space function passed the pre-flight check and failed on a later draw.
        SearchFailedError: no candidate completed its training, the cluster has no node for them, or
            results cannot be written.
    """
    with ExitStack() as stack:
        if resume:
            folder = home.existing(experiment.name)
            with _writing(home, folder):
                stack.enter_context(hold(folder.lock, folder.name))
        try:
            return _run_held(experiment, home, console, address, resume, stack)
        except NoNodesError as error:
            then = _how_to_continue(home, home.folder(experiment.name))
            raise SearchFailedError(f"{error}. Once nodes are available, {then}") from error


@contextmanager
def _writing(home: Home, folder: SearchFolder) -> Iterator[None]:
    """Turn a failure to write results into one line with the remedy."""
    try:
        yield
    except (OSError, SQLAlchemyError, StorageInternalError) as error:
        raise SearchFailedError(
            f"cannot write results ({root_cause(error)}). Everything saved so far is intact. Free "
            f"disk space, then {_how_to_continue(home, folder)}"
        ) from error


def _how_to_continue(home: Home, folder: SearchFolder) -> str:
    """Return how to continue a failed search: resume it if it has started."""
    if folder.experiment.is_file():
        return f"run: {home.command('resume', folder.name)}"
    return "start the search again"


def _run_held(
    experiment: Experiment,
    home: Home,
    console: Console,
    address: str,
    resume: bool,
    stack: ExitStack,
) -> Outcome:
    folder = home.folder(experiment.name)
    if not resume:
        folder.refuse_existing()
        # The stored experiment names the locations of study and snapshots.
        where = {
            "database": experiment.database or default_database(),
            "storage": experiment.storage or default_storage(),
        }
        experiment = experiment.model_copy(update=where)
    backup = open_backup(experiment.storage, folder, new=not resume)
    location = folder.location(experiment.database)
    detail(f"folder {folder.path}; study in {shown(location)}; Ray at {address}")
    if isinstance(location, str):
        check_server(location, experiment.name, new=not resume)
    elif resume and not location.exists() and _has_trained(folder):
        problem = f"its study is missing from {location}"
        remedy = "restore the file, or search under another name"
        raise BadInputError("NAME", experiment.name, problem, remedy)
    with asking_for_moved_data(home, folder) if resume else nullcontext():
        dataset = load_images(experiment, console)
    data = dataset.identify(experiment.decoding)
    if resume and (line := check_data(folder, experiment, data, search_again(folder, experiment))):
        say(console, line)
    experiment, choices = _completed(experiment, dataset, folder, resume=resume)
    prepared = prepare(experiment, dataset, resumed=resume)
    spec = prepared.spec
    prepared.check_space(dataset.training_images)
    for line in (*choices, *prepared.remarks(dataset.training_images)):
        if line:
            say(console, line)

    @cache
    def inherited() -> list[FrozenTrial]:
        return read_warm_start(
            home, experiment, data, prepared.space, prepared.screens, partial(say, console)
        )

    if not resume:
        # A resumed search rarely needs them, and the other searches may have been removed.
        inherited()
    say(console, prepared.summary)
    # Last before anything is written, because Ray may be missing or refuse to start.
    stack.enter_context(connected(address))
    packing = plan_packing(
        experiment,
        dataset.images.nbytes,
        partial(say, console),
    )
    detail(f"resources of each trial: {packing}")
    stack.enter_context(_writing(home, folder))
    stack.enter_context(backup.claimed(folder, new=not resume))
    if resume:
        if not migrate_checkpoints(folder, experiment):
            say(console, "Checkpoints could not be moved; their trials start again.")
        folder.write_data(data)
        folder.write_experiment(experiment.to_yaml(dataset.shape[:2]))
    else:
        folder.create(experiment.to_yaml(dataset.shape[:2]), spec.task, data)
        stack.enter_context(hold(folder.lock, folder.name))
        backup.record_driver(folder)
    record_inputs(folder, dataset, gpus=packing.on_gpus)
    if packing.is_guessed:
        say(console, _GUESSED)
    spec = replace(
        spec,
        data=replace(spec.data, version=dataset.version, expected=data),
        threads=packing.cpus,
        checkpoints=folder.checkpoints_in(experiment.storage),
        hang_after=experiment.failures.hang_after,
    )
    if experiment.device == "auto" and not packing.on_gpus:
        # Trials without a GPU of their own must not use one that their node has.
        spec = replace(spec, device="cpu")
    baseline = stack.enter_context(BaselineProcess(folder, spec.data))
    return execute(
        open_search(
            experiment,
            home,
            spec,
            packing,
            console,
            WarmStart(prepared.seeds, inherited),
            backup,
            baseline,
            resume=resume,
        )
    )


def _completed(
    experiment: Experiment, dataset: Dataset, folder: SearchFolder, *, resume: bool
) -> tuple[Experiment, tuple[str, ...]]:
    """Return the experiment with what follows from its images, and lines about these choices.

    A resumed search keeps what it stored.
    """
    if resume:
        return as_resumed(folder, experiment), ()
    completed, length = complete(experiment, dataset.training_images, min(dataset.shape[:2]))
    return completed, (describe_choices(experiment, completed), length)


def _has_trained(folder: SearchFolder) -> bool:
    """Tell from the journal of a search whether any of its trials ever started."""
    return any(
        isinstance(event, Start) and event.run != PARENT for event in read_all(folder.journal)
    )
