"""The winner by class: confusion matrix, precision and recall, calibration, confident errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from markupsafe import Markup
from numpy.typing import NDArray

from search.formatting import plural
from search.reporting.charts.matrix import MOST_CLASSES, draw_matrix
from search.reporting.charts.plot import Plot, Point, Series
from search.reporting.charts.scales import Axis
from search.reporting.gathering import Gathered
from search.reporting.intervals import wilson
from search.reporting.page.frame import Part, bar, details, figure, table
from search.study.finalists import FinalistStore, best_validated
from search.study.pictures import Picture, PictureStore

_BINS = 10
_PAIRS = 8


@dataclass(frozen=True, eq=False)
class Scored:
    """The predictions of one network on the test images whose class is known.

    Attributes:
        seed: of the network.
        classes: names.
        true: class index of each image, int64 [images].
        predicted: likewise.
        confident: probability of each prediction, float64 [images]; None if it is unknown.
    """

    seed: int
    classes: tuple[str, ...]
    true: NDArray[np.int64]
    predicted: NDArray[np.int64]
    confident: NDArray[np.float64] | None

    @property
    def counts(self) -> NDArray[np.int64]:
        """Images by true and predicted class, int64 [classes, classes]."""
        found = np.zeros((len(self.classes),) * 2, dtype=np.int64)
        np.add.at(found, (self.true, self.predicted), 1)
        return found


@dataclass(frozen=True)
class ClassScore:
    """Precision and recall of a class; None where they are undefined.

    Attributes:
        name: of the class.
        images: test images of the class.
        right: of these, classified correctly.
        precision: of the predictions of this class, the correct fraction.
        recall: of the images of this class, the correct fraction.
    """

    name: str
    images: int
    right: int
    precision: float | None
    recall: float | None


@dataclass(frozen=True)
class Bin:
    """The predictions within a range of confidence.

    Attributes:
        images: number of predictions.
        confidence: their mean.
        accuracy: the correct fraction.
    """

    images: int
    confidence: float
    accuracy: float


def score_classes(scored: Scored) -> list[ClassScore]:
    """Return precision and recall of each class."""
    counts = scored.counts
    found = []
    for number, name in enumerate(scored.classes):
        right, images = int(counts[number, number]), int(counts[number].sum())
        said = int(counts[:, number].sum())
        precision, recall = (right / each if each else None for each in (said, images))
        found.append(ClassScore(name, images, right, precision, recall))
    return found


def calibrate(scored: Scored) -> tuple[list[Bin], float]:
    """Return the predictions in ten equal ranges of confidence, and the calibration error.

    The error is the mean distance of confidence and accuracy over the images (expected calibration
    error, Guo et al. 2017). Empty ranges are left out. Without confidences there are none.
    """
    if scored.confident is None or not len(scored.true):
        return [], 0.0
    right = scored.predicted == scored.true
    places = np.minimum((scored.confident * _BINS).astype(int), _BINS - 1)
    bins = [
        Bin(int(inside.sum()), float(scored.confident[inside].mean()), float(right[inside].mean()))
        for place in range(_BINS)
        if (inside := places == place).any()
    ]
    error = sum(each.images * abs(each.confidence - each.accuracy) for each in bins)
    return bins, error / len(right)


def read_scored(gathered: Gathered) -> Scored | None:
    """Return the predictions of the winner's network with the best validation accuracy.

    None without finalists, or if data, baseline (which holds the labels) or predictions are
    missing.
    """
    data, standing = gathered.data, gathered.standing
    if not gathered.finalists or data is None or standing is None:
        return None
    best = best_validated(gathered.finalists[0].results)
    store = FinalistStore(gathered.folder.finalists)
    predicted = store.predictions(best.number, best.seed)
    rows = np.array(standing.baseline.rows, dtype=np.int64)
    if predicted is None or not len(rows) or len(predicted) <= rows[-1]:
        return None
    confident = store.confidences(best.number, best.seed)
    return Scored(
        best.seed,
        tuple(each.name for each in data.classes),
        np.array(standing.baseline.labels, dtype=np.int64),
        predicted[rows].astype(np.int64),
        None if confident is None else confident[rows],
    )


def classes_part(gathered: Gathered) -> Part | None:
    """Return the part on the classes; None before finalists are retrained."""
    if not gathered.finalists:
        return None
    scored = read_scored(gathered)
    heading = "Classes of the winner"
    if scored is None:
        missing = "The predictions or the labels of the test images are not stored."
        return Part(heading, (missing,))
    counts = scored.counts
    right = int(np.trace(counts))
    sentences = [
        f"Trial {gathered.finalists[0].number} with seed {scored.seed}, its best by validation "
        f"accuracy, is right about {right:,} of {plural(len(scored.true), 'test image')}."
    ]
    content = []
    if pairs := _confusions(counts, scored.classes):
        sentences.append(f"Most frequent errors: {pairs}.")
    elif right == len(scored.true):
        sentences.append("It makes no error.")
    scores = _scores(scored)
    if len(scored.classes) <= MOST_CLASSES:
        caption = "Rows are true classes, columns predicted ones. Blue: right. Orange: errors."
        content += [figure(draw_matrix(counts, scored.classes), caption), scores]
    else:
        content.append(details(f"Precision and recall of {len(scored.classes):,} classes", scores))
    content.append(_calibration(scored))
    content.append(
        _errors(PictureStore(gathered.folder.pictures).wrong(), len(scored.true) - right)
    )
    return Part(heading, tuple(sentences), tuple(content))


def _confusions(counts: NDArray[np.int64], names: Sequence[str]) -> str:
    wrong = counts * (1 - np.eye(len(names), dtype=np.int64))
    order = np.argsort(-wrong, axis=None, kind="stable")[:_PAIRS]
    pairs = [np.unravel_index(place, wrong.shape) for place in order]
    return ", ".join(
        f"{names[row]} as {names[column]} ({wrong[row, column]:,})"
        for row, column in pairs
        if wrong[row, column]
    )


def _scores(scored: Scored) -> Markup:
    rows = []
    for each in sorted(score_classes(scored), key=lambda each: (each.recall is None, each.recall)):
        interval = str(wilson(each.recall, each.images)) if each.recall is not None else "-"
        rows.append(
            (
                each.name,
                f"{each.images:,}",
                f"{each.images - each.right:,}",
                _bar(each.recall),
                interval,
                _bar(each.precision),
            )
        )
    header = ("class", "images", "errors", "recall", "95%", "precision")
    return table(header, rows, "Test images, the class with the lowest recall first.")


def _bar(value: float | None) -> str | Markup:
    return "-" if value is None else bar(f"{value:.4f}", value, 2)


def _calibration(scored: Scored) -> Markup:
    bins, error = calibrate(scored)
    if not bins:
        return Markup(
            '<p class="note">Calibration: confidences are not stored; an older version retrained '
            "the finalists.</p>"
        )
    points = [
        Point(
            each.confidence,
            each.accuracy,
            f"confidence {each.confidence:.3f}: accuracy {each.accuracy:.3f} of "
            f"{plural(each.images, 'image')}",
        )
        for each in bins
    ]
    plot = Plot(
        "Calibration",
        Axis("mean confidence", low=0.0, high=1.0),
        Axis("accuracy", low=0.0, high=1.0),
        [
            Series("perfect calibration", [Point(0, 0), Point(1, 1)], None, "line", dashed=True),
            Series("", points, 0, "line"),
            Series("test images by confidence", points, 0),
        ],
    )
    mean = float(np.mean(scored.confident)) if scored.confident is not None else 0.0
    accuracy = float(np.mean(scored.true == scored.predicted))
    verdict = "overconfident" if mean > accuracy else "underconfident"
    caption = (
        f"Expected calibration error {error:.4f}: the network is {verdict} by "
        f"{abs(mean - accuracy):.4f} on average."
    )
    rows = [(f"{each.confidence:.3f}", f"{each.accuracy:.3f}", f"{each.images:,}") for each in bins]
    return figure(plot, caption, table(("confidence", "accuracy", "images"), rows))


def _errors(pictures: Sequence[Picture], errors: int) -> Markup:
    if not pictures:
        text = "no errors" if not errors else "images of the errors are not stored"
        return Markup('<p class="note">Most confident errors: {}.</p>').format(text)
    items = Markup("").join(
        Markup(
            '<li><img src="{}" alt="{} classified as {}"><b>{}</b>, classified as <b>{}</b> '
            "({:.0%})</li>"
        ).format(each.uri, each.true, each.predicted, each.true, each.predicted, each.confidence)
        for each in pictures
    )
    heading = Markup("<h3>Most confident errors</h3>")
    shape = Markup('<ul class="images" aria-label="Most confident errors">{}</ul>')
    return heading + shape.format(items)
