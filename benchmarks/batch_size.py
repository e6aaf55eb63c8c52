"""Measures which batch size suits few images: ``python benchmarks/batch_size.py``.

Trains two plain networks on a few training images with each batch size and several peak learning
rates, as a search would draw them, and scores the whole test split. A figure is the mean over
networks, learning rates and seeds; the baseline is the largest batch at the same number of epochs.

``--data images:PATH`` takes other images than scikit-learn's digits, and ``--images`` another
number of them.

Last figures (28 November 2026; AMD EPYC, two cores; Python 3.11.7, torch 2.14.1): 215 digits, 20
epochs, 3 seeds: 0.898, 0.950 (the default), 0.913, 0.845 and 0.653 for batches of 8 to 128; see
results/batch_size.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from statistics import mean

import numpy as np
from harness import Table, option_parser
from optuna.trial import FixedTrial

from search.experiment.batch_size import LARGEST_BATCH, default_batch_size
from search.experiment.training_spec import describe_task
from spaces.candidate import CandidateSpace
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.loop import Training

RATES = (0.01, 0.03, 0.1, 0.3)
SPACES = (
    {"depth": 3, "features": 24, "kernel": 3, "pools": 2, "convs_before_pool": 1},
    {"depth": 5, "features": 32, "kernel": 3, "pools": 3, "convs_before_pool": 1},
)


def few(dataset: Dataset, images: int, seed: int) -> Dataset:
    """Return the data set with a few training images, equally many of each class."""
    generator = np.random.default_rng(seed)
    train = generator.permutation(dataset.train)
    each = -(-images // len(dataset.classes))
    chosen = [train[dataset.labels[train] == label][:each] for label in range(len(dataset.classes))]
    return replace(dataset, train=np.sort(np.concatenate(chosen))[:images])


def accuracy(dataset: Dataset, space: dict[str, int], batch: int, rate: float, args: Args) -> float:
    """Return the mean test accuracy over seeds."""
    recipe = {"batch_size": batch, "learning_rate": rate, "weight_decay": 5e-4}
    candidate = CandidateSpace(describe_task(dataset), "vgg", space, recipe).draw(FixedTrial({}))
    shift = Augmentation(crop=max(1, dataset.shape[0] // 8))
    scores = []
    for seed in range(args.seeds):
        data = few(dataset, args.images, seed)
        training = Training(
            candidate, data, epochs=args.epochs, seed=seed, augmentation=shift, device="cpu"
        )
        for _ in range(args.epochs):
            training.run_epoch()
        scores.append(training.score("test")[1])
    return mean(scores)


class Args(argparse.Namespace):
    """The options."""

    images: int
    epochs: int
    seeds: int


def batches(images: int) -> Iterator[int]:
    size = 8
    while size <= min(LARGEST_BATCH, images):
        yield size
        size *= 2


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", default="digits", help="source of the images")
    parser.add_argument("--resolution", type=int, help="side of the images in pixels")
    parser.add_argument("--images", type=int, default=215, help="number of training images")
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    args = parser.parse_args(namespace=Args())
    if args.quick:
        args.images, args.epochs, args.seeds = min(args.images, 60), 2, 1
    dataset = load(DataSpec(args.data, resolution=args.resolution))
    sizes = list(batches(args.images))
    spaces, rates = (SPACES[:1], RATES[2:3]) if args.quick else (SPACES, RATES)
    found = {
        size: mean(
            accuracy(dataset, space, size, rate, args) for space, rate in product(spaces, rates)
        )
        for size in sizes
    }
    table = Table(args.json)
    baseline = found[sizes[-1]]
    for size in sizes:
        default = " (default)" if size == default_batch_size(args.images) else ""
        figure = f"test accuracy of {args.images} images with batches of {size}{default}"
        table.measure(
            f"{figure}, against batches of {sizes[-1]}",
            "the default is the best",
            "fraction",
            lambda size=size: (found[size], baseline, found[size] / baseline),  # type: ignore[misc]
        )


if __name__ == "__main__":
    main()
