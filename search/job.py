"""From an experiment to the job that its trials share."""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress

from search.experiment import Experiment
from spaces.task import Task
from trainables.data import Dataset
from trainables.job import Augmentation, Data, Job


def describe_data(experiment: Experiment) -> Data:
    """Return which images an experiment uses, and how they are split."""
    return Data(
        source=experiment.data,
        resolution=experiment.resolution,
        subset=experiment.subset,
        validation=experiment.validation,
        test=experiment.test,
        split_seed=experiment.seed,
    )


def load_images(experiment: Experiment, console: Console) -> Dataset:
    """Load the images of an experiment, showing progress where they must be decoded first."""
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(f"reading {experiment.data}", total=None)

        def advance(done: int, total: int | None) -> None:
            bar.update(task, completed=done, total=total)

        return describe_data(experiment).load(advance)


def describe_job(experiment: Experiment, dataset: Dataset) -> Job:
    """Return what all trials of an experiment have in common.

    Args:
        experiment: what is searched.
        dataset: its images.
    """
    height, width, channels = dataset.shape
    return Job(
        data=describe_data(experiment),
        task=Task(channels, height, width, len(dataset.classes)),
        space=experiment.space.name,
        space_options=experiment.space.options,
        recipe_options=experiment.recipe,
        epochs=experiment.epochs,
        augmentation=Augmentation(experiment.augmentation.crop, experiment.augmentation.flip),
        device=experiment.device,
        threads=experiment.resources.cpus,
    )
