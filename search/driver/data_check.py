"""Compares the data of a resumed search with the data that the search started with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from search.driver.new_search import new_search
from search.driver.resume import LOCATING
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_stored
from search.experiment.schema import Experiment
from spaces.errors import BadInputError
from spaces.task import Task
from trainables.data_identity import DataIdentity
from trainables.specs import LOCAL_KINDS


def check_data(
    folder: SearchFolder, experiment: Experiment, found: DataIdentity, remedy: str
) -> str:
    """Check that a resumed search has the data that it started with.

    Args:
        folder: of the search, with the experiment before any change.
        experiment: with which the search is resumed.
        found: identity of its data now.
        remedy: for a user who wants to search with the changed data.

    Returns:
        A line for people if the data moved, or if the search has no record of them; else "".

    Raises:
        BadInputError: the data differ.
    """
    started = folder.data
    if started is None:
        _check_task(folder, experiment, found)
        return (
            f"search {folder.name} has no record of the data that it started with, because an "
            f"older version started it. It continues with these: {found.describe()}"
        )
    differences = started.difference(found)
    if differences:
        problem = f"the data changed since the search started: {'; '.join(differences)}"
        raise BadInputError("data", experiment.data, problem, f"restore the data, or {remedy}")
    before = load_stored(folder).data
    if before != experiment.data:
        return f"the data moved from {before} to {experiment.data}; their content is the same"
    return ""


@contextmanager
def asking_for_moved_data(home: Home, folder: SearchFolder) -> Iterator[None]:
    """Add to an error of reading the data how to resume the search if the images moved."""
    try:
        yield
    except BadInputError as error:
        kind = str(error.value).partition(":")[0]
        if error.field != "data" or folder.data is None or kind not in LOCAL_KINDS:
            raise
        command = f"{home.command('resume', folder.name)} --set data={kind}:NEW_PATH"
        remedy = f"{error.remedy}. If the images moved, run: {command}"
        raise BadInputError(error.field, error.value, error.problem, remedy) from None


def _check_task(folder: SearchFolder, experiment: Experiment, found: DataIdentity) -> None:
    height, width, channels = found.shape
    task = Task(channels, height, width, len(found.classes))
    if task != folder.task:
        problem = f"its images are {task} now, but the search started with {folder.task}"
        raise BadInputError("data", experiment.data, problem, "restore the original images")


def search_again(folder: SearchFolder, experiment: Experiment) -> str:
    """Return how to search with changed data: by a new search that starts from this one."""
    command = new_search(folder, experiment, LOCATING)
    return f"start a new search from the trials of this one: {command}"
