"""Measures how many images a training sees until it reaches an accuracy.

``python benchmarks/images_to_accuracy.py`` trains one plain network with each option of the recipe
that comes from the CIFAR-10 speed records, alone and together, at several peak learning rates and
with several seeds. A figure is the number of images seen until the validation accuracy first
reaches the target, interpolated between epochs, at the best learning rate of the option; the
baseline is SGD at its own best. A training that never reaches the target counts with all its
images, and the table says how many did not.

``--data images:PATH`` takes other images than scikit-learn's digits.

Measured on CIFAR-10 at 16 pixels, 5,000 training and 2,000 validation images, 6 epochs, batch 64,
target 45 %, two seeds, learning rates 0.03 to 1, on one thread of a CPU (torch 2.14.1, November
2026), with ``--data images:PATH --resolution 16 --validation 0.04 --images 5000 --epochs 6 --target
0.45``. The rows were measured in two processes with the same seeds; the JSON file in
``benchmarks/results/`` joins them.

- SGD needed 22,700 images, Muon 15,300 (1.49 times fewer), all options together 11,900 (1.92).
- ``initialization: dirac`` alone needed 21,300 (1.07 times fewer).
- ``norm_bias_rate: 8`` and ``lookahead: 5`` alone did not help (0.92 and 0.96).
- Accuracy after the last epoch: SGD 47.4 %, Muon 53.3 %, together 53.8 %.

One network, two seeds and the best of four learning rates, chosen by the images: differences under
a tenth may be noise, and a search should not expect these ratios for other networks or lengths.
Two epochs with Muon took about a seventh more CPU time, measured once on the loaded machine.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from statistics import mean
from typing import Any

from batch_size import few
from harness import Figure, Table, option_parser
from optuna.trial import FixedTrial

from search.experiment.training_spec import describe_task
from spaces.candidate import CandidateSpace
from trainables.data import Dataset, load
from trainables.specs import Augmentation, DataSpec
from trainables.training.loop import Training

SPACE = {"depth": 5, "features": 24, "kernel": 3, "pools": 2, "convs_before_pool": 1}
OPTIONS: dict[str, dict[str, Any]] = {
    "SGD": {},
    "muon": {"optimizer": "muon"},
    "norm_bias_rate 8": {"norm_bias_rate": 8},
    "initialization dirac": {"initialization": "dirac"},
    "lookahead 5": {"lookahead": 5},
    "muon, norm_bias_rate 8, dirac, lookahead 5": {
        "optimizer": "muon",
        "norm_bias_rate": 8,
        "initialization": "dirac",
        "lookahead": 5,
    },
}
RATES = (0.03, 0.1, 0.3, 1.0)


class Args(argparse.Namespace):
    """The options."""

    target: float
    images: int
    epochs: int
    seeds: int
    batch: int


@dataclass(frozen=True)
class Measured:
    """Trainings of one option at one learning rate, as means over seeds.

    Attributes:
        rate: peak learning rate.
        images: images seen until the target.
        accuracy: validation accuracy after the last epoch.
        missed: number of trainings that never reached the target.
    """

    rate: float
    images: float
    accuracy: float
    missed: int


def images_to(target: float, accuracies: list[float], each: int) -> float | None:
    """Return the images seen when the accuracy first reaches the target; None if it never does.

    Args:
        target: validation accuracy.
        accuracies: after each epoch; interpolated linearly between epochs, from 0 at the start.
        each: images per epoch.
    """
    before = 0.0
    for epoch, accuracy in enumerate(accuracies):
        if accuracy >= target:
            return each * (epoch + (target - before) / (accuracy - before))
        before = accuracy
    return None


def measure(dataset: Dataset, options: dict[str, Any], rate: float, args: Args) -> Measured:
    """Train with each seed."""
    recipe = {"batch_size": args.batch, "learning_rate": rate, "weight_decay": 5e-4} | options
    candidate = CandidateSpace(describe_task(dataset), "vgg", SPACE, recipe).draw(FixedTrial({}))
    shift = Augmentation(crop=max(1, dataset.shape[0] // 8))
    seen, final, missed = [], [], 0
    for seed in range(args.seeds):
        data = few(dataset, args.images, seed)
        training = Training(
            candidate, data, epochs=args.epochs, seed=seed, augmentation=shift, device="cpu"
        )
        accuracies = [training.run_epoch().validation_accuracy for _ in range(args.epochs)]
        reached = images_to(args.target, accuracies, len(data.train))
        missed += reached is None
        seen.append(args.epochs * len(data.train) if reached is None else reached)
        final.append(accuracies[-1])
    return Measured(rate, mean(seen), mean(final), missed)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--data", default="digits", help="source of the images")
    parser.add_argument("--resolution", type=int, help="side of the images in pixels")
    parser.add_argument("--validation", type=float, default=0.2, help="fraction for validation")
    parser.add_argument("--target", type=float, default=0.95, help="validation accuracy")
    parser.add_argument("--images", type=int, default=1000, help="number of training images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--batch", type=int, default=64)
    args = parser.parse_args(namespace=Args())
    rates: tuple[float, ...] = RATES
    if args.quick:
        args.images, args.epochs, args.seeds, args.target = min(args.images, 200), 2, 1, 0.3
        rates = RATES[1:2]
    dataset = load(DataSpec(args.data, resolution=args.resolution, validation=args.validation))
    table = Table(args.json)
    baseline: Measured | None = None
    for name, options in OPTIONS.items():
        tried = [measure(dataset, options, rate, args) for rate in rates]
        best = min(tried, key=lambda found: (found.images, -found.accuracy))
        baseline = baseline or best
        missed = f", {best.missed} of {args.seeds} missed it" if best.missed else ""
        where = f"{name} at {best.rate:g}"
        table.add(
            Figure(
                f"images to {args.target:.0%}, {where}{missed}",
                best.images,
                baseline.images,
                baseline.images / best.images,
                "above 1",
                "images",
            )
        )
        table.add(
            Figure(
                f"final accuracy, {where}",
                best.accuracy,
                baseline.accuracy,
                best.accuracy / baseline.accuracy,
                "above 1",
                "fraction",
            )
        )


if __name__ == "__main__":
    main()
