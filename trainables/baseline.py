"""The baseline of a search: logistic regression on the pixels of small images, and a guess.

A process beside the search computes it, because scikit-learn's import, threads and warnings affect
the whole interpreter.
"""

from __future__ import annotations

import hashlib
import os
import pickle
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from pydantic import TypeAdapter, ValidationError

from cluster.files import write_atomically
from trainables.images.cache import cache_root, fetch

if TYPE_CHECKING:
    from trainables.data import Dataset

SIDE = 16
"""Rows and columns to which larger images are averaged."""
TRAINED, SCORED = 5_000, 10_000
"""Most images to train on, and most images of each other split to score."""
_PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1)
"""Inverse strengths of the L2 penalty; strong ones suit few images."""
_WORK = 4e9
"""Products of images, features, classes and iterations that each fit may take: about a second."""
_ITERATIONS = 100
_VERSION = 1
"""Of the computation; increase it with each change that alters the result."""
_CACHED = "baseline.json"


@dataclass(frozen=True)
class Baseline:
    """Accuracies that a network has to exceed.

    A guess always names the most frequent class among the training images.

    Attributes:
        data: digest of the identity of the data.
        guess: index of the class that a guess names.
        guess_validation: accuracy of a guess on validation, 0..1.
        guess_test: accuracy of a guess on test, 0..1.
        trained: number of images on which logistic regression was trained.
        validation: its accuracy on validation, 0..1, on which its penalty was chosen.
        rows: positions in the test split of the images that it was scored on, ascending.
        labels: true class of each of them.
        predictions: class predicted for each of them.
    """

    data: str
    guess: int
    guess_validation: float
    guess_test: float
    trained: int
    validation: float
    rows: tuple[int, ...]
    labels: tuple[int, ...]
    predictions: tuple[int, ...]

    @property
    def test(self) -> float:
        """Accuracy of logistic regression on test, 0..1."""
        return float((np.array(self.predictions) == np.array(self.labels)).mean())

    def to_json(self) -> bytes:
        """Return the baseline as JSON."""
        return TypeAdapter(type(self)).dump_json(self)

    @classmethod
    def from_json(cls, text: str | bytes) -> Baseline:
        """Return the baseline that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ValueError(str(error)) from None


def compute_baseline(dataset: Dataset, data: str, seed: int) -> Baseline:
    """Fit logistic regression to small versions of the images, and score it.

    The time is bounded, whatever the number of images, classes and folds. With folds, the penalty
    is chosen on the held-out images of the first repetition, which holds out each image once.

    Args:
        dataset: the images.
        data: digest of their identity.
        seed: draws images from larger splits.
    """
    from sklearn.linear_model import LogisticRegression  # noqa: PLC0415 - imports slowly

    random = np.random.default_rng(seed)
    repetitions = 1 if dataset.folds is None else len(dataset.folds)
    parts = dataset.parts[: len(dataset.parts) // repetitions]
    splits = [
        (_draw(part.train, TRAINED, random), _draw(part.validation, SCORED, random))
        for part in parts
    ]
    positions = _draw(np.arange(len(dataset.test)), SCORED, random)
    labels = dataset.labels
    guess = int(np.bincount(labels[dataset.train]).argmax())
    held_out = np.concatenate([part.validation for part in parts])
    # The first fold stands for all on test, as each finalist's network leaves out one fold.
    small = [_standardised(dataset, *split) for split in splits]
    _, unseen = _standardised(dataset, splits[0][0], dataset.test[positions])
    work = sum(each[0].size for each in small) * len(dataset.classes)
    models = [
        LogisticRegression(max_iter=max(5, min(_ITERATIONS, int(_WORK / work))), warm_start=True)
        for _ in splits
    ]
    best, predictions = -1.0, positions
    with warnings.catch_warnings():
        # A fit ends after its iterations, converged or not.
        warnings.simplefilter("ignore")
        for penalty in _PENALTIES:
            hits = 0
            for model, (train, validation), each in zip(models, splits, small, strict=True):
                model.set_params(C=penalty).fit(each[0], labels[train])
                hits += int((model.predict(each[1]) == labels[validation]).sum())
            accuracy = hits / sum(len(validation) for _, validation in splits)
            if accuracy > best:
                best, predictions = accuracy, models[0].predict(unseen)
    return Baseline(
        data,
        guess,
        float((labels[held_out] == guess).mean()),
        float((labels[dataset.test] == guess).mean()),
        len(splits[0][0]),
        best,
        tuple(positions.tolist()),
        tuple(labels[dataset.test[positions]].tolist()),
        tuple(predictions.tolist()),
    )


def fetch_baseline(dataset: Dataset, data: str, seed: int, cache: Path) -> Baseline:
    """Return the baseline; the cache keeps it for further searches of the same images and splits.

    Args:
        dataset: the images.
        data: digest of their identity.
        seed: draws images from larger splits.
        cache: folder of decoded images.

    Raises:
        BadInputError: the cache folder cannot be used.
    """
    # Unlike the identity, the order of the images counts: a baseline names positions of them.
    splits = (dataset.train, dataset.validation, dataset.test)
    arrays = (dataset.image_digests, dataset.labels, *splits)
    folds = np.array([]) if dataset.folds is None else dataset.folds
    key = hashlib.sha256(f"{_VERSION} {data} {seed} {folds.shape}".encode())
    for array in (*arrays, folds):
        key.update(np.ascontiguousarray(array).tobytes())

    def read(folder: Path) -> Baseline | None:
        try:
            return Baseline.from_json((folder / _CACHED).read_bytes())
        except (FileNotFoundError, ValueError):
            return None

    def make(folder: Path) -> None:
        (folder / _CACHED).write_bytes(compute_baseline(dataset, data, seed).to_json())

    return fetch(cache, f"baseline-{key.hexdigest()[:32]}", read, make)


def shrink(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Average images to at most 16 rows and columns.

    Args:
        images: [n, height, width, channels].

    Returns:
        Means of blocks whose sides differ by at most one pixel, [n, rows, columns, channels].
    """
    shrunk = images.astype(np.float32)
    for axis in (1, 2):
        length = images.shape[axis]
        blocks = min(length, SIDE)
        starts = np.arange(blocks) * length // blocks
        sizes = np.diff(starts, append=length).astype(np.float32)
        shape = [1, 1, 1, 1]
        shape[axis] = blocks
        shrunk = np.add.reduceat(shrunk, starts, axis=axis) / sizes.reshape(shape)
    return shrunk


def _standardised(
    dataset: Dataset, train: NDArray[np.int64], *others: NDArray[np.int64]
) -> list[NDArray[np.float32]]:
    """Return the features of some images, scaled by mean and deviation of the first ones."""
    features = _features(dataset.images, train)
    mean, deviation = features.mean(axis=0), features.std(axis=0)
    deviation[deviation == 0] = 1
    return [
        (each - mean) / deviation
        for each in (features, *(_features(dataset.images, rows) for rows in others))
    ]


def _features(images: NDArray[np.uint8], rows: NDArray[np.int64]) -> NDArray[np.float32]:
    """Return the small versions of some images, a row of features each."""
    # In parts, because many large images exceed the memory.
    parts = [shrink(images[rows[start : start + 64]]) for start in range(0, len(rows), 64)]
    return np.concatenate(parts).reshape(len(rows), -1)


def _draw(rows: NDArray[np.int64], most: int, random: np.random.Generator) -> NDArray[np.int64]:
    """Return all rows, or a random part of more, sorted."""
    return rows if len(rows) <= most else np.sort(random.choice(rows, most, replace=False))


def main(target: Path) -> None:
    """Compute the baseline of the data spec on standard input, and write it to a file."""
    from trainables.data import load  # noqa: PLC0415 - a report needs no images

    os.nice(10)
    spec = pickle.load(sys.stdin.buffer)  # noqa: S301 - the driver wrote it
    baseline = fetch_baseline(load(spec), spec.expected.digest, spec.split_seed, cache_root())
    write_atomically(target, baseline.to_json())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
