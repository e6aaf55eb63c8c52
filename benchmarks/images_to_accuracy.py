"""Measures how many images a training sees until it reaches an accuracy.

``python benchmarks/images_to_accuracy.py`` trains five random candidates, three plain and two
residual, with each option of the recipe for short trainings, alone and together. A training counts
its images until the validation accuracy first reaches the target, interpolated between epochs. One
that never reaches the target counts with all its images, and the table says how many did not.

A figure is the geometric mean over candidates and seeds. Its ratio is that of SGD to the option,
each at the learning rate with the fewest images for the candidate; the text of the figure has the
lowest and highest ratio of a candidate. A pilot on other candidates and seeds chose the rates: two
for SGD, one for Muon. CPU seconds include validation; images of smaller size are also counted by
their multiply-accumulates.

``--data images:PATH`` takes other images than scikit-learn's digits. ``--runs FILE`` keeps each
training as a line of JSON, so that a stopped measurement continues, also with more seeds.
"""

from __future__ import annotations

import argparse
import json
import math
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import product
from pathlib import Path
from statistics import fmean
from typing import Any

import optuna
import torch
from batch_size import few
from harness import Figure, Table, option_parser

from search.experiment.training_spec import describe_task
from spaces.candidate import Candidate, CandidateSpace
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.loop import Training
from trainables.training.process import prepare_process
from trainables.training.small_images import with_image_size

SPACES: dict[str, dict[str, Any]] = {
    "vgg": {"depth": [3, 6], "features": [16, 64], "kernel": 3, "convs_before_pool": [1, 3]},
    "resnet": {"stages": [2, 3], "blocks": [1, 2], "width": [8, 16]},
}
MACS = (200, 1000)
"""Smallest and largest cost of a candidate, in thousands for an image of 16 pixels."""
FINAL: tuple[tuple[str, int], ...] = (
    ("vgg", 0),
    ("vgg", 1),
    ("vgg", 2),
    ("resnet", 0),
    ("resnet", 1),
)
PILOT: tuple[tuple[str, int], ...] = (("vgg", 100), ("resnet", 100))
"""Space and seed of each candidate."""
PILOT_SEED = 100
"""Seed of the pilot's trainings, beyond those of the others."""
DRAWS = 1000


@dataclass(frozen=True)
class Option:
    """Changes to the plain recipe, and the peak learning rates that are tried."""

    recipe: dict[str, Any] = field(default_factory=dict)
    rates: tuple[float, ...] = (0.1, 0.3)


MUON: dict[str, Any] = {"optimizer": "muon"}
EARLIER = {"norm_bias_rate": 8, "initialization": "dirac", "lookahead": 5}
TOGETHER = MUON | EARLIER | {"first_layer": "whitening", "small_images": 0.5}
MUON_RATES = (0.1,)
OPTIONS = {
    "SGD": Option(),
    "muon": Option(MUON, MUON_RATES),
    "muon, norm_bias_rate 8, dirac, lookahead 5": Option(MUON | EARLIER, MUON_RATES),
    "muon, whitening": Option(MUON | {"first_layer": "whitening"}, MUON_RATES),
    "muon, small_images 0.5": Option(MUON | {"small_images": 0.5}, MUON_RATES),
    "all of these": Option(TOGETHER, MUON_RATES),
    "whitening": Option({"first_layer": "whitening"}),
    "small_images 0.5": Option({"small_images": 0.5}),
}


class Args(argparse.Namespace):
    """The options of the command."""

    data: str
    resolution: int | None
    validation: float
    target: float
    images: int
    epochs: int
    seeds: int
    batch: int
    runs: Path | None
    pilot: bool
    only: list[str] | None


@dataclass(frozen=True)
class Run:
    """One training, which ends with the epoch that reaches the target.

    Attributes:
        accuracies: validation accuracy after each epoch.
        images: images of each epoch.
        costs: the same, each image weighted by its multiply-accumulates relative to those at full
            size.
        seconds: CPU seconds of each epoch, with its validation.
    """

    accuracies: list[float] = field(default_factory=list)
    images: list[float] = field(default_factory=list)
    costs: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Amounts:
    """What one candidate needs with one option at its best rate, as geometric means over seeds."""

    rate: float
    images: float
    costs: float
    seconds: float
    missed: int


def amount_to(target: float, accuracies: Sequence[float], each: Sequence[float]) -> float | None:
    """Return the images, or another amount, until the target; None if it is never reached.

    Args:
        target: validation accuracy.
        accuracies: after each epoch; interpolated linearly between epochs, from 0 at the start.
        each: amount of each epoch.
    """
    before = total = 0.0
    for accuracy, amount in zip(accuracies, each, strict=True):
        if accuracy >= target:
            return total + amount * (target - before) / (accuracy - before)
        before, total = accuracy, total + amount
    return None


def geometric_mean(values: Sequence[float]) -> float:
    return math.exp(fmean(math.log(value) for value in values))


def draw(dataset: Dataset, space: str, number: int, recipe: dict[str, Any]) -> Candidate:
    """Return the first random candidate of a seed whose cost is within `MACS`."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=number))
    candidates = CandidateSpace(describe_task(dataset), space, SPACES[space], recipe)
    height, width, _ = dataset.shape
    for _ in range(DRAWS):
        candidate = candidates.draw(study.ask())
        if MACS[0] <= candidate.costs.macs / 1e3 * 256 / (height * width) <= MACS[1]:
            return candidate
    raise SystemExit(f"no candidate of {space} has {MACS[0]} to {MACS[1]} thousand MACs")


def train(dataset: Dataset, candidate: Candidate, seed: int, args: Args) -> Run:
    """Train one candidate until it reaches the target, at most for all epochs."""
    data = few(dataset, args.images, seed)
    shift = Augmentation(crop=max(1, dataset.shape[0] // 8))
    training = Training(
        candidate, data, epochs=args.epochs, seed=seed, augmentation=shift, device="cpu"
    )
    net = candidate.architecture
    run = Run()
    while training.epoch < args.epochs and max(run.accuracies, default=0.0) < args.target:
        small = Candidate(
            with_image_size(net, *training.image_size(training.epoch)), candidate.recipe
        )
        run.images.append(len(data.train))
        run.costs.append(len(data.train) * small.costs.macs / candidate.costs.macs)
        started = time.process_time()
        run.accuracies.append(training.run_epoch().validation_accuracy)
        run.seconds.append(time.process_time() - started)
    return run


class Runs:
    """Trainings so far, kept as JSON lines so that a stopped measurement continues.

    Args:
        dataset: the images.
        args: of the command.
    """

    def __init__(self, dataset: Dataset, args: Args) -> None:
        self._dataset, self._args = dataset, args
        names = ("data", "resolution", "validation", "target", "images", "epochs", "batch")
        self._settings = {name: getattr(args, name) for name in names}
        self._settings["torch"] = torch.__version__
        self._done: dict[tuple[str, int], Run] = {}
        kept = args.runs.read_text() if args.runs is not None and args.runs.exists() else ""
        for line in kept.splitlines():
            entry = json.loads(line)
            if entry["settings"] == self._settings:
                self._done[entry["candidate"], entry["seed"]] = Run(**entry["run"])

    def get(self, space: str, number: int, option: Option, rate: float, seed: int) -> Run:
        """Return a training, from the file if it is there."""
        recipe = {"batch_size": self._args.batch, "learning_rate": rate, "weight_decay": 5e-4}
        candidate = draw(self._dataset, space, number, recipe | option.recipe)
        key = candidate.digest, seed
        if key not in self._done:
            self._done[key] = run = train(self._dataset, candidate, seed, self._args)
            if self._args.runs is not None:
                entry = {
                    "settings": self._settings,
                    "candidate": candidate.digest,
                    "seed": seed,
                    "space": f"{space} {number}",
                    "option": option.recipe | {"learning_rate": rate},
                    "run": asdict(run),
                }
                with self._args.runs.open("a") as lines:
                    lines.write(json.dumps(entry) + "\n")
        return self._done[key]


def amounts(runs: Sequence[Run], rate: float, target: float) -> Amounts:
    """Return geometric means over the trainings of a candidate with several seeds."""

    def mean_of(name: str) -> float:
        each = [(run.accuracies, getattr(run, name)) for run in runs]
        return geometric_mean([amount_to(target, a, values) or sum(values) for a, values in each])

    missed = sum(amount_to(target, run.accuracies, run.images) is None for run in runs)
    return Amounts(rate, mean_of("images"), mean_of("costs"), mean_of("seconds"), missed)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", default="digits", help="source of the images")
    parser.add_argument("--resolution", type=int, help="side of the images in pixels")
    parser.add_argument("--validation", type=float, default=0.2, help="fraction for validation")
    parser.add_argument("--target", type=float, default=0.95, help="validation accuracy")
    parser.add_argument("--images", type=int, default=1000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--runs", type=Path, metavar="FILE", help="keep trainings in this file")
    parser.add_argument(
        "--pilot", action="store_true", help="show each rate, on other candidates and seeds"
    )
    parser.add_argument(
        "--only",
        action="append",
        choices=OPTIONS,
        metavar="NAME",
        help="measure this option and SGD only; may be repeated",
    )
    args = parser.parse_args(namespace=Args())
    options = {n: o for n, o in OPTIONS.items() if n == "SGD" or n in (args.only or OPTIONS)}
    candidates, seeds = (PILOT, [PILOT_SEED]) if args.pilot else (FINAL, list(range(args.seeds)))
    if args.quick:
        args.images, args.epochs, args.target = min(args.images, 200), 2, 0.3
        candidates, seeds = candidates[-1:], seeds[:1]
    prepare_process(1)
    dataset = load(DataSpec(args.data, resolution=args.resolution, validation=args.validation))
    runs = Runs(dataset, args)
    for seed, option in product(seeds, options.values()):
        for (space, number), rate in product(candidates, option.rates[: 1 if args.quick else None]):
            runs.get(space, number, option, rate, seed)  # Seed by seed, so that part is of use.

    def best(option: Option, rates: Sequence[float]) -> list[Amounts]:
        return [
            min(
                (
                    amounts([runs.get(*each, option, rate, s) for s in seeds], rate, args.target)
                    for rate in rates
                ),
                key=lambda found: found.images,
            )
            for each in candidates
        ]

    table = Table(args.json)
    baseline = best(OPTIONS["SGD"], OPTIONS["SGD"].rates[: 1 if args.quick else None])
    for name, option in options.items():
        rates = option.rates[: 1 if args.quick else None]
        for tried in [[rate] for rate in rates] if args.pilot else [rates]:
            found = best(option, tried)
            words = f"{name}{f' at {tried[0]:g}' if args.pilot else ''}"
            add_rows(table, words, found, baseline, len(seeds), args.target)


def add_rows(
    table: Table,
    name: str,
    found: Sequence[Amounts],
    baseline: Sequence[Amounts],
    seeds: int,
    target: float,
) -> None:
    """Add the images, the images weighted by cost and the CPU seconds of an option."""
    missed = sum(each.missed for each in found)
    lacking = f", {missed} of {seeds * len(found)} trainings missed it" if missed else ""
    for unit in ("images", "costs", "seconds"):
        ours, theirs = ([getattr(each, unit) for each in rows] for rows in (found, baseline))
        if unit == "costs" and ours == [each.images for each in found]:
            continue
        ratios = [b / a for a, b in zip(ours, theirs, strict=True)]
        spread = f"candidates {min(ratios):.2f} to {max(ratios):.2f}"
        table.add(
            Figure(
                f"{_WORDS[unit]} to {target:.0%}, {name} ({spread}{lacking})",
                geometric_mean(ours),
                geometric_mean(theirs),
                geometric_mean(ratios),
                "above 1",
                unit if unit == "seconds" else "images",
            )
        )


_WORDS = {"images": "images", "costs": "images by cost", "seconds": "CPU seconds"}


if __name__ == "__main__":
    main()
