"""Reads the trials of other searches that a search starts with, and says which it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from typing import Any

from optuna.trial import FrozenTrial

from search.driver.resume import Misfit, inherit
from search.experiment.folder import Home, SearchFolder
from search.experiment.loading import load_stored
from search.experiment.schema import Experiment
from search.formatting import plural
from search.loop.screens import Screen
from search.study.storages import read_trials
from spaces.candidate import CandidateSpace
from spaces.errors import BadInputError
from spaces.recipe import recipe
from spaces.task import Task
from trainables.data_identity import DataIdentity


def read_warm_start(
    home: Home,
    experiment: Experiment,
    data: DataIdentity,
    space: CandidateSpace,
    screens: Sequence[Screen],
    say: Callable[[str], None],
) -> list[FrozenTrial]:
    """Return the trials of other searches for the sampler of a new search.

    Args:
        home: holds all searches.
        experiment: of the new search.
        data: identity of its data.
        space: of the new search.
        screens: of the new search.
        say: receives one line per other search: how many of its trials are taken, and whether they
            count as trials of another task.

    Raises:
        BadInputError: there is no such search, or its data have no class in common with these and
            the sampler cannot transfer between tasks.
    """
    found = []
    transfers = experiment.sampler == "auto"
    for name in dict.fromkeys(experiment.warm_start):
        try:
            folder = home.existing(name)
            other = load_stored(folder)
            trials = read_trials(folder.location(other.database), name)
            differences = _compare_data(folder, data, transfers=transfers)
        except BadInputError as error:
            raise BadInputError("warm_start", name, error.problem, error.remedy) from None
        if other.epochs != experiment.epochs:
            epochs = plural(other.whole_epochs, "epoch")
            differences.append(f"it trained for {epochs} instead of {experiment.epochs}")
        differences += _compare_recipes(other.recipe, experiment.recipe)
        misfits: Counter[Misfit] = Counter()
        taken = list(
            inherit(name, trials, space, screens, experiment, misfits, same_task=not differences)
        )
        say(
            _summary(name, other.data, len(taken), misfits)
            + _remark(differences, experiment.sampler)
        )
        found += taken
    return found


def _compare_data(folder: SearchFolder, data: DataIdentity, *, transfers: bool) -> list[str]:
    """Return how the data of another search differ from these, a phrase each.

    Raises:
        BadInputError: they have no class in common, and the sampler cannot transfer.
    """
    other = folder.data
    if other is None:
        return _compare_task(folder, data, transfers=transfers)
    names = {each.name for each in data.classes}
    contents = {each.digest for each in data.classes}
    if not any(each.name in names or each.digest in contents for each in other.classes):
        if not transfers:
            raise _other_task(folder, _classes(other), _classes(data))
        return [f"its classes are others ({_classes(other)})"]
    differences = "; ".join(other.difference(data))
    return [f"the data differ: {differences}"] if differences else []


def _compare_task(folder: SearchFolder, data: DataIdentity, *, transfers: bool) -> list[str]:
    """Compare the data with those of a search that an older version started."""
    height, width, channels = data.shape
    here, there = Task(channels, height, width, len(data.classes)), folder.task
    if (there.channels, there.classes) == (here.channels, here.classes):
        return [f"{folder.name} has no record of its data"]
    if not transfers:
        raise _other_task(folder, _described(there), _described(here))
    return [f"its classes are others ({_described(there)})"]


def _described(task: Task) -> str:
    colour = "grey" if task.channels == 1 else "colour"
    return f"{task.classes} of {task.height}x{task.width} pixels in {colour}"


def _classes(data: DataIdentity) -> str:
    names = [each.name for each in data.classes]
    return ", ".join(names if len(names) <= 3 else [*names[:3], ".."])


def _other_task(folder: SearchFolder, there: str, here: str) -> BadInputError:
    problem = f"its trials were trained on other classes ({there}) than this search has ({here})"
    remedy = "name a search on the same classes, remove it, or set sampler: auto, which transfers"
    return BadInputError("NAME", folder.name, problem, remedy)


def _compare_recipes(other: Mapping[str, Any], own: Mapping[str, Any]) -> list[str]:
    """Return how the fixed optimisers differ: parameters of trials do not show them."""
    default = signature(recipe).parameters["optimizer"].default
    theirs, ours = (each.get("optimizer", default) for each in (other, own))
    return [] if theirs == ours else [f"it trained with {_names(theirs)} instead of {_names(ours)}"]


def _names(optimizer: object) -> str:
    return " or ".join(map(str, optimizer)) if isinstance(optimizer, list) else str(optimizer)


def _summary(name: str, data: str, taken: int, misfits: Counter[Misfit]) -> str:
    """Return a sentence about the trials of another search, without its full stop."""
    trials = plural(taken, "trial")
    line = (
        f"{trials} of {name} (data: {data}) {'was' if taken == 1 else 'were'} added to the sampler"
    )
    if misfits:
        counts = [f"{count:,} {reason.value}" for reason, count in misfits.items()]
        line += f"; left out: {', '.join(counts)}"
    return line


def _remark(differences: Sequence[str], sampler: str) -> str:
    """Return how a sampler uses the trials; empty if they count as trials of the same task."""
    if sampler == "random":
        return ". They have no effect, because sampler: random does not learn from trials"
    if not differences:
        return ""
    because = ", and ".join(differences)
    if sampler == "auto":
        return (
            f". They count as trials of another task, because {because}: they guide the search, "
            "and its own results outweigh them"
        )
    return (
        f". Their accuracies may not be comparable, because {because}; sampler: auto would treat "
        "them as trials of another task"
    )
