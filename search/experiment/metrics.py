"""Metrics of finalists on the test images beside accuracy: known ones, and functions of users."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from inspect import Parameter, signature
from math import isfinite
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from spaces.errors import BadInputError
from spaces.user_code import (
    RAISED_BY_USERS,
    defined_at,
    is_reference,
    load_object,
    place_of,
    remedy_of,
)

Classes: TypeAlias = NDArray[np.int64]
Probabilities: TypeAlias = NDArray[np.float32]
_THIRD = "probabilities"
"""Name of the third argument of a metric, if that has a default."""


@dataclass(frozen=True)
class Metric:
    """A metric of predictions.

    Attributes:
        function: takes the true and the predicted class of each image, int64 [images], and returns
            a number; also takes the probability of each class, float32 [images, classes], if
            `of_probabilities`.
        of_probabilities: whether it takes the probabilities.
    """

    function: Callable[..., float]
    of_probabilities: bool = False


def balanced_accuracy(labels: Classes, predictions: Classes) -> float:
    """Return the mean over the classes of the fraction of their images that is right.

    Example:
        >>> balanced_accuracy(np.array([0, 0, 0, 1]), np.array([0, 0, 0, 0]))
        0.5
    """
    return float(np.mean([(predictions[labels == each] == each).mean() for each in set(labels)]))


def f1(labels: Classes, predictions: Classes) -> float:
    """Return the macro F1: the mean over the classes of the F1 of each against the others.

    Example:
        >>> round(f1(np.array([0, 0, 1, 1]), np.array([0, 0, 0, 1])), 4)
        0.7333
    """
    scores = []
    for each in set(labels):
        found, true = predictions == each, labels == each
        scores.append(2 * float((found & true).sum()) / float(found.sum() + true.sum()))
    return float(np.mean(scores))


def top5(labels: Classes, _: Classes, probabilities: Probabilities) -> float:
    """Return the fraction of images whose class is among the five most probable ones.

    Example:
        >>> top5(np.array([0, 9]), np.array([0, 0]), np.tile(np.arange(10) / 45, (2, 1)))
        0.5
    """
    best = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return float((best == labels[:, None]).any(axis=1).mean())


def auc(labels: Classes, _: Classes, probabilities: Probabilities) -> float:
    """Return the macro AUC: the mean over the classes of the area under the ROC curve of each.

    Classes without a test image, or with all of them, do not count.

    Example:
        >>> scores = np.array([[0.9, 0.1], [0.4, 0.6], [0.3, 0.7]])
        >>> auc(np.array([0, 0, 1]), np.array([0, 1, 1]), scores)
        1.0
    """
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415 - imports slowly

    areas = [
        float(roc_auc_score(labels == each, probabilities[:, each]))
        for each in range(probabilities.shape[1])
        if 0 < (labels == each).sum() < len(labels)
    ]
    if not areas:
        raise ValueError("the test images have one class")
    return float(np.mean(areas))


KNOWN: Mapping[str, Metric] = {
    "balanced_accuracy": Metric(balanced_accuracy),
    "f1": Metric(f1),
    "top5": Metric(top5, of_probabilities=True),
    "auc": Metric(auc, of_probabilities=True),
}


def need_probabilities(names: Sequence[str]) -> bool:
    """Tell whether a metric may need more than the predicted classes."""
    # Without a look into the user's function, which need not be importable to read a search.
    return any(name not in KNOWN or KNOWN[name].of_probabilities for name in names)


def check_names(names: list[str]) -> list[str]:
    """Check the names of metrics.

    Raises:
        ValueError: one is unknown, or named twice.
    """
    for name in names:
        if name not in KNOWN and not is_reference(name):
            close = get_close_matches(name, KNOWN, n=1)
            hint = f"did you mean {close[0]}?" if close else f"use {', '.join(KNOWN)}"
            raise ValueError(f"{name} is no metric; {hint} or module:function")
    if len(set(names)) < len(names):
        raise ValueError("name each metric once")
    return names


def load_metrics(names: Sequence[str], folders: Sequence[str]) -> dict[str, Metric]:
    """Return the functions of metrics.

    Args:
        names: of known metrics, or ``module:function``.
        folders: absolute folders of users' modules.

    Raises:
        BadInputError: a function cannot be imported.
    """
    return {name: KNOWN[name] if name in KNOWN else _own(name, folders) for name in names}


def check_metrics(names: Sequence[str], folders: Sequence[str], classes: int) -> None:
    """Call each metric once, before anything is trained.

    Raises:
        BadInputError: it fails, with the file and line of a user's function.
    """
    perfect = np.arange(classes, dtype=np.int64)
    for name, metric in load_metrics(names, folders).items():
        measure(name, metric, perfect, perfect, np.eye(classes, dtype=np.float32))


def measure(
    name: str,
    metric: Metric,
    labels: Classes,
    predictions: Classes,
    probabilities: Probabilities,
) -> float:
    """Return the value of a metric.

    Raises:
        BadInputError: it raises an error, or returns no finite number.
    """
    try:
        given = (labels, predictions, probabilities)
        value: Any = metric.function(*given[: 3 if metric.of_probabilities else 2])
        number = float(value)
    except RAISED_BY_USERS as error:
        problem = f"raised {type(error).__name__}: {error}{place_of(error)}"
        remedy = remedy_of(error, "fix it to return a number")
        raise BadInputError("metrics", name, problem, remedy) from error
    if not isfinite(number):
        problem = f"returned {number}{defined_at(metric.function)}"
        raise BadInputError("metrics", name, problem, "return a finite number")
    return number


def _own(reference: str, folders: Sequence[str]) -> Metric:
    found = load_object("metrics", reference, folders)
    if not callable(found):
        problem, remedy = "is not a function", "name a function(labels, predictions)"
        raise BadInputError("metrics", reference, problem, remedy)
    return Metric(found, of_probabilities=_takes_probabilities(found))


def _takes_probabilities(function: Callable[..., float]) -> bool:
    """Tell whether a third argument must be given; one with a default is an option of the user."""
    try:
        parameters = signature(function).parameters.values()
    except ValueError:  # Of a function in C.
        return False
    placed = [p for p in parameters if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)]
    return len(placed) > 2 and (placed[2].default is Parameter.empty or placed[2].name == _THIRD)
