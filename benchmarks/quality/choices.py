"""The choices of whole searches on images, and the figures that compare them."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import sqrt
from pathlib import Path
from statistics import mean
from typing import Any

from harness import Figure
from pydantic import BaseModel, ConfigDict

from cluster.files import write_atomically
from quality.results import cell, p_value
from search.loop.sampling import options as sampling
from spaces.features.network import VERSION as FEATURES


class Settings(BaseModel):
    """What decides the result of a seed, apart from the code.

    Attributes:
        data: source of the images.
        resolution: side of the images in pixels; None for their own.
        images: to train and validate on.
        validation: fraction of them to validate on.
        tested: number of test images.
        epochs: of a whole training.
        trials: of our search.
        finalists: number of our finalists, and their seeds.
        judged: trainings that judge a choice.
        cpus: trials at a time.
        versions: of our sampler.
    """

    model_config = ConfigDict(frozen=True)

    data: str
    resolution: int | None
    images: int = 1_500
    validation: float = 1 / 3
    tested: int = 5_000
    epochs: int = 6
    trials: int = 20
    finalists: tuple[int, int] = (3, 3)
    judged: int = 3
    cpus: int = 2
    versions: str = f"decisions {sampling.VERSION}, features {FEATURES}"


class Choice(BaseModel):
    """The network that a search chose at a budget.

    Attributes:
        params: from which the space draws it.
        shown: validation accuracy by which it was chosen, 0..1.
        trials: that had started.
        seconds: device-seconds that were spent.
        validation: mean accuracy of the trainings that judge it, 0..1.
        test: likewise, on the test images.
    """

    params: dict[str, Any]
    shown: float
    trials: int
    seconds: float
    validation: float = 0.0
    test: float = 0.0

    @property
    def accuracies(self) -> tuple[float, float]:
        """Of the trainings that judge it, on validation and test images."""
        return self.validation, self.test


class Run(BaseModel):
    """One seed: ``ours`` and ``tune`` after the same trials, and so on; see `PAIRS`."""

    settings: Settings
    seed: int
    choices: dict[str, Choice]


PAIRS = {
    "after {trials} trials": ("ours", "tune at equal trials"),
    "after the device-seconds of {trials} trials": ("ours", "tune at equal seconds"),
    "after a whole search with finalists": ("ours with finalists", "tune at the whole seconds"),
}
"""Our choice and that of the baseline, by budget."""


@dataclass(frozen=True)
class Ratio:
    """The ratio of two means, and its standard error by the jackknife."""

    value: float
    error: float


def ratio_of_means(ours: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return the ratio of the means of two lists, which are paired by seed."""
    whole, count = sum(ours) / sum(others), len(ours)
    left_out = (
        [(sum(ours) - one) / (sum(others) - other) for one, other in zip(ours, others, strict=True)]
        if count > 1
        else []
    )
    squares = sum((each - mean(left_out)) ** 2 for each in left_out)
    return Ratio(whole, sqrt((count - 1) / count * squares))


def figures(runs: Sequence[Run]) -> Iterator[Figure]:
    """Yield errors and device-seconds against the baseline."""
    trials = runs[0].settings.trials
    for budget, (ours, baseline) in PAIRS.items():
        for split in ("test", "validation"):
            one, other = (
                [100 - 100 * getattr(run.choices[name], split) for run in runs]
                for name in (ours, baseline)
            )
            ratio = ratio_of_means(one, other)
            better = sum(a < b for a, b in zip(one, other, strict=True))
            p = p_value(dict(enumerate(one)), dict(enumerate(other))) or 1.0
            yield Figure(
                f"{split} error {budget.format(trials=trials)}, against Ray Tune with Optuna "
                f"(± {ratio.error:.2f}, better with {better} of {len(runs)} seeds, p {p:.2g})",
                mean(one),
                mean(other),
                ratio.value,
                "below 1",
                "%",
            )
    one, other = (
        [run.choices[name].seconds for run in runs] for name in ("ours", "tune at equal trials")
    )
    ratio = ratio_of_means(one, other)
    name = f"device-seconds of {trials} trials, against Ray Tune with Optuna (± {ratio.error:.2f})"
    yield Figure(name, mean(one), mean(other), ratio.value, "none", "s")


def write_csv(path: Path, runs: Sequence[Run]) -> None:
    """Write one line for each seed and choice."""
    names = ("seed", "choice", "trials", "seconds", "shown", "validation", "test")
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(names)
    for run in sorted(runs, key=lambda run: run.seed):
        for name, choice in run.choices.items():
            values = (getattr(choice, each) for each in names[2:])
            writer.writerow([run.seed, name, *map(cell, values)])
    write_atomically(path, text.getvalue())
