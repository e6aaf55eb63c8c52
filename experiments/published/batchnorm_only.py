"""Trains only the batch norms of CIFAR ResNets (Frankle, Schwab & Morcos 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import fmean

from experiments.published.networks import narrowed
from experiments.published.summaries import UNKNOWN, percent, point
from experiments.reproduction.records import (
    Case,
    Chart,
    Experiment,
    Images,
    Outcome,
    Page,
    Point,
    Protocol,
    Publication,
    Result,
    Section,
    Series,
    Table,
)
from spaces.candidate import Candidate
from spaces.recipe import Recipe
from spaces.schedules import MultiStep, OneCycle
from spaces.task import Task
from trainables.probes.records import DISABLED_BELOW
from trainables.specs import Augmentation

BATCHNORM, ALL = "batch norm only", "all parameters"

FULL_DEPTHS = (14, 32, 56, 110, 218, 434, 866)
REDUCED_DEPTHS = (14, 20, 32, 56, 110)

PUBLISHED: dict[int, tuple[float, float | None]] = {
    14: (0.4667, 0.48),
    32: (0.5129, None),
    56: (0.5521, None),
    110: (0.6519, 0.695),
    218: (0.7009, None),
    434: (0.7367, None),
    866: (0.7783, 0.82),
}
"""Accuracies with trained batch norms by depth: of a TensorFlow replication, and of the paper."""

FULL_RECIPE = Recipe(
    learning_rate=0.1,
    weight_decay=1e-4,
    batch_size=128,
    label_smoothing=0.0,
    momentum=0.9,
    schedule=MultiStep((80, 120), 0.1),
    initialization="random_scale",
)
REDUCED_EPOCHS = 10
REDUCED_RECIPE = replace(FULL_RECIPE, batch_size=64, schedule=OneCycle())
ONE_SEED = (110,)
"""Depths that the reduced protocol trains with one seed only, because they take long."""


def cases(
    depths: Sequence[int], images: Images, recipe: Recipe, epochs: int, augmentation: Augmentation
) -> list[Case]:
    """Return each depth with batch norms alone and with all parameters trained."""
    return [
        Case(
            f"resnet{depth} {trained}",
            Candidate(
                narrowed(f"resnet{depth}c", images.task, divisor=1),
                replace(recipe, trainable="batchnorm" if trained == BATCHNORM else "all"),
            ),
            images,
            epochs,
            augmentation,
            probes=("disabled",),
            factors={"depth": depth, "trained": trained},
        )
        for depth in depths
        for trained in (BATCHNORM, ALL)
    ]


def full_cases() -> list[Case]:
    """Return the cases of the publication."""
    task = Task(channels=3, height=32, width=32, classes=10)
    return cases(
        FULL_DEPTHS, Images("cifar10", task), FULL_RECIPE, 160, Augmentation(crop=4, flip="random")
    )


def reduced_cases() -> list[Case]:
    """Return smaller images and shallower networks."""
    task = Task(channels=3, height=16, width=16, classes=10)
    images = Images("cifar10", task, train=5_000, validation=1_000, test=5_000)
    found = cases(
        REDUCED_DEPTHS, images, REDUCED_RECIPE, REDUCED_EPOCHS, Augmentation(flip="random")
    )
    return [replace(case, seeds=1) if case.factors["depth"] in ONE_SEED else case for case in found]


def page(results: Sequence[Result]) -> Page:
    """Describe the results."""
    accuracies = _accuracy_chart(results)
    return Page(
        answer=tuple(_answer(results)),
        comparison=_comparison(results),
        sections=(_accuracy_section(accuracies), _disabled_section(results)),
        picture=accuracies,
    )


def _outcomes(results: Sequence[Result], depth: int, trained: str) -> list[Outcome]:
    wanted = {"depth": depth, "trained": trained}
    return [result.outcome for result in results if dict(result.case.factors) == wanted]


def _depths(results: Sequence[Result]) -> list[int]:
    return sorted({int(result.case.factors["depth"]) for result in results})


def _accuracies(results: Sequence[Result], depth: int, trained: str) -> list[float]:
    return [outcome.test_accuracy for outcome in _outcomes(results, depth, trained)]


def _disabled(results: Sequence[Result], depth: int, trained: str) -> list[float]:
    return [
        outcome.probes.disabled_features
        for outcome in _outcomes(results, depth, trained)
        if outcome.probes is not None and outcome.probes.disabled_features is not None
    ]


def _answer(results: Sequence[Result]) -> Iterator[str]:
    trained = [depth for depth in _depths(results) if _accuracies(results, depth, BATCHNORM)]
    if not trained:
        yield "No network with trained batch norms is finished yet."
        return
    first, last = trained[0], trained[-1]
    low, high = (fmean(_accuracies(results, depth, BATCHNORM)) for depth in (first, last))
    yield (
        f"With only its batch norms trained, a ResNet of depth {last} classifies "
        f"{percent([high])} of the test images. Guessing would classify 10 %."
    )
    if full := _accuracies(results, last, ALL):
        yield f"The same network with all parameters trained reaches {percent([fmean(full)])}."
    if last > first:
        change = "more" if high > low else "less"
        yield (
            f"Depth {last} classifies {abs(100 * (high - low)):.1f} percentage points {change} "
            f"than depth {first} ({percent([low])}). In the publication, accuracy grows with depth."
        )
    if disabled := _disabled(results, last, BATCHNORM):
        yield (
            f"Training disables {percent([fmean(disabled)])} of the features at depth {last} "
            f"(scale below {DISABLED_BELOW:g}). Published: about a third."
        )


def _comparison(results: Sequence[Result]) -> Table:
    rows = []
    for depth in _depths(results):
        replicated, quoted = PUBLISHED.get(depth, (None, None))
        outcomes = _outcomes(results, depth, BATCHNORM) + _outcomes(results, depth, ALL)
        norms = _outcomes(results, depth, BATCHNORM)
        rows.append(
            (
                str(depth),
                f"{outcomes[0].params:,}",
                f"{norms[0].trained_params:,}" if norms else UNKNOWN,
                percent(_accuracies(results, depth, BATCHNORM)),
                UNKNOWN if quoted is None else percent([quoted]),
                UNKNOWN if replicated is None else percent([replicated]),
                percent(_accuracies(results, depth, ALL)),
                percent(_disabled(results, depth, BATCHNORM)),
                "about a third",
            )
        )
    return Table(
        header=(
            "depth",
            "parameters",
            "of batch norms",
            "batch norm only",
            "published",
            "replication",
            "all parameters",
            "disabled features",
            "published",
        ),
        rows=tuple(rows),
        caption="Test accuracy, mean and standard deviation over seeds. Published: as quoted from "
        "the publication; replication: measured by others with TensorFlow, 160 epochs. Both are "
        "with trained batch norms only, on images of 32 pixels.",
    )


def _accuracy_chart(results: Sequence[Result]) -> Chart:
    measured = [
        Series(
            f"{trained}, measured",
            tuple(
                point(depth, values)
                for depth in _depths(results)
                if (values := _accuracies(results, depth, trained))
            ),
        )
        for trained in (BATCHNORM, ALL)
    ]
    published = [
        Series(
            f"{BATCHNORM}, {where}",
            tuple(
                Point(depth, value)
                for depth, numbers in PUBLISHED.items()
                if (value := numbers[number]) is not None
            ),
            dashed=True,
        )
        for number, where in ((1, "published"), (0, "replication"))
    ]
    return Chart(
        "Test accuracy over depth",
        "depth of the ResNet",
        "test accuracy",
        (*measured, *published),
        percent=True,
        x_log=True,
    )


def _accuracy_section(chart: Chart) -> Section:
    return Section(
        "Accuracy over depth",
        (
            "Dashed: published numbers for 160 epochs on all images. Error bars: one standard "
            "deviation over seeds.",
        ),
        (chart,),
    )


def _disabled_section(results: Sequence[Result]) -> Section:
    chart = Chart(
        "Disabled features over depth",
        "depth of the ResNet",
        "disabled features",
        tuple(
            Series(
                trained,
                tuple(
                    point(depth, values)
                    for depth in _depths(results)
                    if (values := _disabled(results, depth, trained))
                ),
            )
            for trained in (BATCHNORM, ALL)
        ),
        percent=True,
    )
    sentence = (
        f"A feature is disabled if the magnitude of its scale is below {DISABLED_BELOW:g}. With "
        "random convolutions, batch norms can only choose among random features."
    )
    return Section("Disabled features", (sentence,), (chart,))


_DEVIATIONS = (
    "Weight decay applies to convolutions and the linear layer only, so it has no effect when only "
    "batch norms are trained.",
    "SGD uses Nesterov momentum.",
)

EXPERIMENT = Experiment(
    name="batchnorm_only",
    title="Training only batch norms",
    publication=Publication(
        "Frankle, Schwab & Morcos",
        2020,
        "Training BatchNorm and Only BatchNorm: On the Expressive Power of Random Features in CNNs",
        "2003.00152",
    ),
    question="How well does a ResNet classify if all convolutions keep their random initial "
    "weights, and only scale and shift of its batch norms are trained?",
    protocols={
        "full": Protocol(
            description=(
                "CIFAR-10 at 32 pixels, all 50,000 training and 10,000 test images. ResNets with "
                "widths 16, 32 and 64, and a depth of 14 to 866 layers.",
                "SGD, learning rate 0.1, divided by 10 after epochs 80 and 120 of 160, batch size "
                "128, weight decay 0.0001, random crops (padding 4) and flips.",
            ),
            deviations=_DEVIATIONS,
            differences=(
                "Initial weights, order of images and crops are random.",
                f"About 1 % of the scales start below the limit of {DISABLED_BELOW:g}.",
            ),
            cases=full_cases,
            seeds=3,
        ),
        "reduced": Protocol(
            description=(
                "CIFAR-10 at 16 pixels, 5,000 training and 5,000 test images. ResNets with the "
                "published widths 16, 32 and 64.",
                f"{REDUCED_EPOCHS} epochs of SGD with a one-cycle schedule, peak learning rate "
                "0.1, batch size 64, weight decay 0.0001, random flips.",
            ),
            deviations=(
                f"Reduced: images of 16 pixels instead of 32, a tenth of the training images, "
                f"{REDUCED_EPOCHS} epochs instead of 160 with another schedule, half of the test "
                f"images, depths {', '.join(map(str, REDUCED_DEPTHS))}.",
                f"Depth {', '.join(map(str, ONE_SEED))} has one seed, the others three.",
                *_DEVIATIONS,
            ),
            differences=(
                "The published trainings take 160 epochs on 50,000 images of 32 pixels. A training "
                "of a few epochs on a tenth of the images ends far below, with either set of "
                "parameters.",
                "With few steps, deep networks are trained less well than shallow ones, so the "
                "gain of depth can be smaller than published, or reversed.",
                "Scales move little in few steps, so fewer features end below the limit of "
                f"{DISABLED_BELOW:g}. About 1 % of them start there.",
            ),
            cases=reduced_cases,
            seeds=3,
            minutes=20,
        ),
    },
    page=page,
)
