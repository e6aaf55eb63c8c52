"""Derives the specs of data and training from an experiment."""

from __future__ import annotations

import os
from pathlib import Path

from rich.console import Console
from rich.progress import Progress

from search.console import say
from search.experiment.metrics import need_probabilities
from search.experiment.objectives import latency_batches
from search.experiment.schema import Experiment
from spaces.errors import BadInputError
from spaces.task import Task
from spaces.user_code import search_folders
from trainables.data import Dataset, load
from trainables.images.errors import is_windows_path, printable
from trainables.specs import LOCAL_KINDS, DataSpec, TrainingSpec


def describe_data(experiment: Experiment) -> DataSpec:
    """Return the data spec of an experiment."""
    return DataSpec(
        source=_absolute_source(experiment.data),
        resolution=experiment.resolution,
        subset=experiment.subset,
        validation=experiment.validation,
        test=experiment.test,
        split_seed=experiment.seed,
        decoding=experiment.decoding,
        table=experiment.table.model_copy(
            update={"root": _absolute("table.root", experiment.table.root)}
        ),
        groups=experiment.groups,
        validation_list=_absolute("validation_list", experiment.validation_list),
        folders=search_folders(experiment.modules),
    )


def load_images(experiment: Experiment, console: Console, *, notes: bool = True) -> Dataset:
    """Load the images of an experiment and print the notes on them.

    Args:
        experiment: names the images.
        console: shows a progress bar of the decoding.
        notes: whether to print the notes.
    """
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"reading {experiment.data}", total=None)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        dataset = load(describe_data(experiment), progress=advance)
    for line in dataset.notes if notes else ():
        say(console, f"data: {line}")
    return dataset


def _absolute_source(source: str) -> str:
    """Return the source with an absolute path."""
    kind, colon, path = source.partition(":")
    if kind not in LOCAL_KINDS or "://" in path or not path:
        return source
    return f"{kind}{colon}{_absolute('data', path)}"


def _absolute(field: str, path: str | None) -> str | None:
    """Return an absolute path, because workers have their own folder."""
    if not path:
        return None
    if is_windows_path(path) and not os.path.exists(path):
        raise BadInputError(
            field,
            printable(path),
            "it is a path of Windows, which this system does not have",
            "give the path on this system",
        )
    try:
        return str(Path(path).expanduser().absolute())
    except RuntimeError as error:
        raise BadInputError(field, path, str(error), "check the path") from None


def describe_task(dataset: Dataset) -> Task:
    """Return the task of a data set."""
    height, width, channels = dataset.shape
    return Task(channels, height, width, len(dataset.classes))


def describe_training(experiment: Experiment, task: Task) -> TrainingSpec:
    """Return the training spec that all trials of an experiment share.

    The driver fills in device and threads according to the cluster.
    """
    return TrainingSpec(
        data=describe_data(experiment),
        task=task,
        space=experiment.space.name,
        space_options=experiment.space.options,
        recipe_options=experiment.recipe,
        epochs=experiment.whole_epochs,
        augmentation=experiment.augmentation,
        balance=experiment.balance,
        test_time_flip=experiment.test_time_flip,
        device=experiment.device,
        threads=experiment.resources.cpus or 1,
        compile=experiment.compile,
        hopeless_after=experiment.scheduler.hopeless_after,
        latency_batches=latency_batches(experiment.objectives, experiment.latency_batch),
        folders=search_folders(experiment.modules),
        probes=tuple(experiment.probes),
        rule=experiment.screens.rule,
        scores=need_probabilities(experiment.metrics),
        truncation=experiment.screens.truncation,
    )
