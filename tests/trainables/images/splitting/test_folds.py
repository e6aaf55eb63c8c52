"""Folds: stratified, equal for equal arguments, and without divided groups."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.folds import Folds
from trainables.images.errors import UnusableDataError
from trainables.images.splitting.folds import draw_folds

SIZES = st.lists(st.integers(2, 40), min_size=1, max_size=6).filter(lambda sizes: sum(sizes) >= 6)
FOLDS = st.builds(Folds, st.integers(2, 6), st.integers(1, 3))
SEEDS = st.integers(0, 2**64)


def labels_of(sizes: list[int], seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))


def draw(labels: np.ndarray, folds: Folds, **options: object) -> np.ndarray:
    classes = [f"class{label}" for label in range(labels.max() + 1)]
    return draw_folds(labels, classes, folds, **{"seed": 0, **options})


@settings(deadline=None)
@given(SIZES, FOLDS, SEEDS)
def test_folds_are_stratified_within_one_image_per_class(
    sizes: list[int], folds: Folds, seed: int
) -> None:
    labels = labels_of(sizes)
    drawn = draw(labels, folds, seed=seed)
    assert drawn.shape == (folds.repetitions, len(labels))
    for repetition in drawn:
        assert set(repetition.tolist()) == set(range(folds.count))
        for rows in (np.arange(len(labels)), *(np.flatnonzero(labels == each) for each in labels)):
            counts = np.bincount(repetition[rows], minlength=folds.count)
            assert counts.max() - counts.min() <= 1


@settings(deadline=None)
@given(SIZES, FOLDS, st.integers(1, 4), SEEDS)
def test_no_fold_divides_a_group_or_holds_a_whole_class(
    sizes: list[int], folds: Folds, size: int, seed: int
) -> None:
    labels = labels_of(sizes, seed % 100)
    groups = np.random.default_rng(seed % 100).permutation(len(labels)) // size
    try:
        drawn = draw(labels, folds, seed=seed, groups=groups)
    except UnusableDataError:
        return
    for repetition in drawn:
        for group in range(groups.max() + 1):
            assert len(set(repetition[groups == group].tolist())) == 1
        for label in range(len(sizes)):
            assert len(set(repetition[labels == label].tolist())) > 1


def test_groups_of_a_few_images_are_balanced() -> None:
    labels = np.repeat([0, 1], [60, 30])
    groups = np.arange(90) // 3
    (drawn,) = draw(labels, Folds(5), groups=groups)
    for label, images in ((0, 12), (1, 6)):
        assert np.bincount(drawn[labels == label]).tolist() == [images] * 5


def test_folds_follow_the_seed_and_differ_between_repetitions() -> None:
    labels = labels_of([30, 20])
    one, again, other = (draw(labels, Folds(5, 2), seed=seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, other)
    assert not np.array_equal(one[0], one[1])
    # Earlier searches rely on these folds.
    assert draw(np.array([0, 1, 0, 1, 0, 1, 0]), Folds(3))[0].tolist() == [0, 2, 2, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("sizes", "groups", "says"),
    [
        ([5, 1], None, "the class class1 has 1 image for training and validation by folds"),
        ([2, 2], None, "folds=5 needs 5 images for training, and there are 4"),
        ([6, 3], [0, 1, 2, 3, 4, 5, 6, 6, 6], "the class class1 has 1 group of images"),
        ([4, 4], [0, 0, 1, 1, 2, 2, 3, 3], "folds=5 needs 5 groups of images"),
    ],
)
def test_too_few_images_for_the_folds_are_refused(
    sizes: list[int], groups: list[int] | None, says: str
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    with pytest.raises(UnusableDataError, match=says):
        draw(labels, Folds(5), groups=None if groups is None else np.array(groups))
