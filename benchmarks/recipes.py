"""Compares the default recipe with those of practitioners: ``python benchmarks/recipes.py``.

Trains five architectures on each data set with every recipe, with equal epochs and seeds, and
scores the whole test split. A figure is the mean test accuracy over architectures and seeds, with
its standard deviation over seeds. Rows of one architecture compare with the better practitioner's
recipe.
Ours is the default of a search for that number of images, with the geometric mean of each range
that a search draws from, so it is an average candidate's recipe and not the best one's.

Practitioners flip photos at random; our default does not, because it does not know whether mirror
images keep their class.

scikit-learn's digits need no files. ``--cifar10 images:PATH`` and ``--mnist images:PATH`` add the
other data sets. ``--record FILE`` keeps each finished training as a line of JSON: a second run
continues there. ``--workers N`` trains in N processes of one thread.

Last figures (28 November 2026; AMD EPYC, one thread; torch 2.14.1), default against the better of
the practitioners' recipes, which was SGD each time: digits 0.998 and 0.993, MNIST 0.991 and 0.988,
CIFAR-10 with 300 images 0.368 and 0.306, with 3,000 0.543 and 0.465, with all 0.655 and 0.594.
"""

from __future__ import annotations

import argparse
import json
import math
import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path
from statistics import mean, stdev
from time import process_time
from typing import Any

from batch_size import few
from harness import Figure, Table, option_parser
from optuna.trial import FixedTrial

from search.experiment.defaults import complete
from search.experiment.loading import parse_experiment
from search.experiment.training_spec import describe_task
from spaces.candidate import CandidateSpace
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.loop import Training
from trainables.training.process import prepare_process


@dataclass(frozen=True)
class Images:
    """A data set of the comparison.

    Attributes:
        source: name of the option with its source.
        resolution: side in pixels; None for the images' own.
        images: number of training images, equally many of each class; None for all.
        epochs: of every training.
        are_photos: whether practitioners mirror them.
    """

    source: str
    resolution: int | None
    images: int | None
    epochs: int
    are_photos: bool


DATA = {
    "digits": Images("digits", None, None, 20, False),
    "MNIST": Images("mnist", 14, None, 2, False),
    "CIFAR-10, 300 images": Images("cifar10", 16, 300, 40, True),
    "CIFAR-10, 3,000 images": Images("cifar10", 16, 3_000, 15, True),
    "CIFAR-10, all images": Images("cifar10", 16, None, 3, True),
}
ARCHITECTURES: dict[str, tuple[str, dict[str, Any]]] = {
    "plain, 3 layers": (
        "vgg",
        {"depth": 3, "features": 24, "kernel": 3, "pools": 2, "convs_before_pool": 1},
    ),
    "plain, 6 layers": (
        "vgg",
        {"depth": 6, "features": 32, "kernel": 3, "pools": 2, "convs_before_pool": 2},
    ),
    "residual": ("resnet", {"stages": 3, "blocks": 1, "width": 16}),
    "dense": ("densenet", {"growth": 8, "blocks": 2, "layers": 3}),
    "mixer": ("convmixer", {"width": 48, "depth": 4, "kernel": 5, "patch": 2}),
}
PRACTITIONERS: dict[str, dict[str, Any]] = {
    "SGD": {
        "optimizer": "sgd",
        "learning_rate": 0.1,
        "weight_decay": 5e-4,
        "schedule": "cosine",
        "batch_size": 128,
    },
    "AdamW": {
        "optimizer": "adamw",
        "learning_rate": 1e-3,
        "weight_decay": 1e-2,
        "schedule": "cosine",
        "batch_size": 64,
    },
}
OURS = "default"
VALIDATION = 0.02
"""Fraction of the training images that no training uses; it decides nothing here."""


class Args(argparse.Namespace):
    """The options."""

    cifar10: str | None
    mnist: str | None
    seeds: list[int]
    record: Path | None
    workers: int


@dataclass(frozen=True)
class Run:
    """One training of the comparison."""

    data: str
    recipe: str
    architecture: str
    seed: int


@dataclass(frozen=True)
class Result:
    """A finished training: test accuracy, 0..1, and seconds of CPU time."""

    run: Run
    accuracy: float
    seconds: float


@dataclass(frozen=True)
class Job:
    """A training and what its process needs to know."""

    run: Run
    source: str
    quick: bool


def settings(recipe: str, images: Images, dataset: Dataset) -> tuple[dict[str, Any], Augmentation]:
    """Return recipe options without ranges, and the augmentation."""
    if recipe in PRACTITIONERS:
        options = dict(PRACTITIONERS[recipe])
        options["batch_size"] = min(options["batch_size"], len(dataset.train))
        crop = max(1, dataset.shape[0] // 8)
        return options, Augmentation(crop=crop, flip="random" if images.are_photos else "none")
    experiment, _ = complete(parse_experiment({}), len(dataset.train), min(dataset.shape[:2]))
    options = {
        name: math.sqrt(math.prod(value)) if isinstance(value, list | tuple) else value
        for name, value in experiment.recipe.items()
    }
    return options, experiment.augmentation


@cache
def loaded(source: str, resolution: int | None) -> Dataset:
    return load(DataSpec(source, resolution=resolution, validation=VALIDATION))


def train(job: Job) -> Result:
    """Train one network and score it on test, in a process of one thread."""
    run, images = job.run, DATA[job.run.data]
    dataset = loaded(job.source, images.resolution)
    count, epochs = images.images, images.epochs
    if job.quick:
        count, epochs = 100, 1
    if count is not None:
        dataset = few(dataset, count, run.seed)
    family, options = ARCHITECTURES[run.architecture]
    recipe, augmentation = settings(run.recipe, images, dataset)
    space = CandidateSpace(describe_task(dataset), family, options, recipe)
    started = process_time()
    training = Training(
        space.draw(FixedTrial({})),
        dataset,
        epochs=epochs,
        seed=run.seed,
        augmentation=augmentation,
        device="cpu",
    )
    for _ in range(epochs):
        training.run_epoch()
    return Result(run, training.score("test")[1], process_time() - started)


def train_all(jobs: Sequence[Job], args: Args) -> Iterator[Result]:
    """Yield the result of each training, and record those that are new."""
    stored = {result.run: result for result in recorded(args.record)}
    yield from (stored[job.run] for job in jobs if job.run in stored)
    missing = [job for job in jobs if job.run not in stored]
    if not missing:
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(args.workers, context, prepare_process, (1,)) as pool:
        for done in as_completed([pool.submit(train, job) for job in missing]):
            result = done.result()
            if args.record is not None:
                with args.record.open("a", encoding="utf-8") as file:
                    file.write(json.dumps(asdict(result)) + "\n")
            yield result


def recorded(file: Path | None) -> Iterator[Result]:
    if file is None or not file.exists():
        return
    for line in file.read_text(encoding="utf-8").splitlines():
        values = json.loads(line)
        yield Result(Run(**values.pop("run")), **values)


def add_rows(table: Table, results: Sequence[Result]) -> None:
    """Add the accuracy and the CPU time of each data set, and the accuracy of each network."""
    found: dict[tuple[str, str], list[Result]] = {}
    for result in results:
        found.setdefault((result.run.data, result.run.recipe), []).append(result)
    for data in dict.fromkeys(data for data, _ in found):
        ours = found[data, OURS]
        for name in PRACTITIONERS:
            theirs = found[data, name]
            spreads = f"± {_spread(ours):.4f} against {name} ± {_spread(theirs):.4f}"
            _add(table, f"test accuracy, {data}: default {spreads}", ours, theirs, _accuracy)
            _add(table, f"CPU time, {data}: default against {name}", ours, theirs, _seconds)
        best = max(PRACTITIONERS, key=lambda name: _accuracy(found[data, name]))
        for network in ARCHITECTURES:
            mine, other = (
                [each for each in found[data, name] if each.run.architecture == network]
                for name in (OURS, best)
            )
            figure = f"test accuracy, {data}, {network}: against {best}"
            _add(table, figure, mine, other, _accuracy)


def _add(
    table: Table,
    figure: str,
    ours: Sequence[Result],
    theirs: Sequence[Result],
    value: Callable[[Sequence[Result]], float],
) -> None:
    mine, other = value(ours), value(theirs)
    target, unit = ("above 1", "fraction") if value is _accuracy else ("-", "seconds")
    table.add(Figure(figure, mine, other, mine / other, target, unit))


def _accuracy(results: Sequence[Result]) -> float:
    return mean(each.accuracy for each in results)


def _seconds(results: Sequence[Result]) -> float:
    return sum(each.seconds for each in results)


def _spread(results: Sequence[Result]) -> float:
    """Return the standard deviation over the seeds of the mean over the networks."""
    seeds = {each.run.seed for each in results}
    means = [_accuracy([each for each in results if each.run.seed == seed]) for seed in seeds]
    return stdev(means) if len(means) > 1 else 0.0


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--cifar10", help="source of CIFAR-10: images:PATH, or cifar10")
    parser.add_argument("--mnist", help="source of MNIST: images:PATH, or mnist")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--record", type=Path, help="file of finished trainings")
    parser.add_argument("--workers", type=int, default=1, help="number of processes")
    args = parser.parse_args(namespace=Args())
    if args.quick:
        args.seeds = args.seeds[:1]
    sources = {"digits": "digits", "cifar10": args.cifar10, "mnist": args.mnist}
    jobs = []
    for seed, (data, images), recipe, name in product(
        args.seeds, DATA.items(), (OURS, *PRACTITIONERS), ARCHITECTURES
    ):
        source = sources[images.source]
        if source is not None:
            jobs.append(Job(Run(data, recipe, name, seed), source, args.quick))
    results = []
    for result in train_all(jobs, args):
        results.append(result)
        run = result.run
        print(
            f"[{len(results)}/{len(jobs)}] {run.data}, {run.recipe}, {run.architecture}, seed "
            f"{run.seed}: {result.accuracy:.4f} in {result.seconds:.1f} CPU s",
            flush=True,
        )
    add_rows(Table(args.json), results)


if __name__ == "__main__":
    main()
