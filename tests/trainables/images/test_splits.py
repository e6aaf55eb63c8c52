"""The three splits: disjoint, stratified, and equal for equal arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.images.errors import UnusableDataError
from trainables.images.splits import Splits, draw_splits

fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**64)
class_sizes = st.lists(st.integers(3, 60), min_size=2, max_size=6)


def labels_of(sizes: list[int], order_seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(order_seed).permutation(labels)


def draw(labels, given_splits=None, *, validation=0.1, test=0.1, subset=1.0, seed=0) -> Splits:
    if given_splits is None:
        given_splits = np.zeros(len(labels), dtype=np.int8)
    classes = [f"class{label}" for label in range(labels.max() + 1)]
    return draw_splits(
        labels,
        given_splits,
        classes,
        validation=validation,
        test=test,
        subset=subset,
        seed=seed,
    )


def parts(splits: Splits) -> list[np.ndarray]:
    return [splits.train, splits.validation, splits.test]


@settings(deadline=None)
@given(class_sizes, seeds, fractions, fractions, seeds)
def test_every_image_is_in_exactly_one_split(sizes, order_seed, validation, test, seed):
    labels = labels_of(sizes, order_seed)
    splits = draw(labels, validation=validation, test=test, seed=seed)
    assert np.array_equal(np.sort(np.concatenate(parts(splits))), np.arange(len(labels)))


@settings(deadline=None)
@given(class_sizes, fractions, fractions, seeds)
def test_each_class_is_split_to_the_nearest_image(sizes, validation, test, seed):
    labels = labels_of(sizes)
    splits = draw(labels, validation=validation, test=test, seed=seed)
    for label, size in enumerate(sizes):
        train, held_out, tested = (int(np.sum(labels[part] == label)) for part in parts(splits))
        assert tested == pytest.approx(size * test, abs=0.5) or tested in (1, size - 2)
        assert held_out == pytest.approx((size - tested) * validation, abs=0.5) or held_out in (
            1,
            size - tested - 1,
        )
        assert train >= 1


@settings(deadline=None)
@given(class_sizes, fractions, st.floats(0.001, 1), st.floats(0.001, 1), seeds)
def test_smaller_subset_is_part_of_a_larger_one(sizes, validation, one, other, seed):
    labels = labels_of(sizes)
    small, large = (
        draw(labels, validation=validation, subset=subset, seed=seed)
        for subset in sorted([one, other])
    )
    for fewer, more in zip(parts(small), parts(large), strict=True):
        assert set(fewer) <= set(more)


@settings(deadline=None)
@given(class_sizes, st.floats(0.001, 1))
def test_subset_keeps_class_ratios_and_at_least_one_image(sizes, subset):
    labels = labels_of(sizes)
    for whole, kept in zip(parts(draw(labels)), parts(draw(labels, subset=subset)), strict=True):
        for label in range(len(sizes)):
            before, after = (int(np.sum(labels[part] == label)) for part in (whole, kept))
            assert after == 1 or after == pytest.approx(before * subset, abs=0.5)


@settings(deadline=None)
@given(class_sizes, seeds)
def test_the_same_seed_draws_the_same_rows_in_ascending_order(sizes, seed):
    labels = labels_of(sizes)
    first, second = draw(labels, seed=seed), draw(labels, seed=seed)
    for one, other in zip(parts(first), parts(second), strict=True):
        assert np.array_equal(one, other)
        assert np.all(np.diff(one) > 0)
        assert one.dtype == np.int64


def test_other_seed_draws_other_rows():
    labels = labels_of([50, 50])
    one, other = draw(labels, seed=0), draw(labels, seed=1)
    assert not np.array_equal(one.validation, other.validation)
    assert not np.array_equal(one.test, other.test)


def test_draw_is_pinned_between_releases():
    splits = draw(np.tile([0, 1], 10), validation=0.2, test=0.2, seed=7)
    assert splits.test.tolist() == [3, 6, 11, 12]
    assert splits.validation.tolist() == [4, 9, 10, 13]


def test_splits_of_the_source_are_kept():
    labels = np.tile([0, 1], 15)
    given_splits = np.repeat(np.array([0, 1, 2], dtype=np.int8), 10)
    splits = draw(labels, given_splits, validation=0.5, test=0.5)
    assert splits.train.tolist() == list(range(10))
    assert splits.validation.tolist() == list(range(10, 20))
    assert splits.test.tolist() == list(range(20, 30))


def test_own_test_split_leaves_only_validation_to_draw():
    labels = np.tile([0, 1], 20)
    given_splits = np.repeat(np.array([0, 2], dtype=np.int8), 20)
    splits = draw(labels, given_splits, validation=0.2)
    assert splits.test.tolist() == list(range(20, 40))
    assert len(splits.validation) == 4
    assert set(splits.train) | set(splits.validation) == set(range(20))


@pytest.mark.parametrize(("validation", "test"), [(0.99, 0.99), (0.001, 0.001), (0.5, 0.99)])
def test_three_images_of_a_class_give_each_split_one(validation, test):
    labels = labels_of([3, 3])
    for part in parts(draw(labels, validation=validation, test=test)):
        assert sorted(labels[part]) == [0, 1]


def test_too_few_images_of_a_class_are_refused_by_name():
    with pytest.raises(UnusableDataError) as raised:
        draw(labels_of([5, 2]))
    assert raised.value.problem == (
        "the class class1 has 2 images to be shared by train, validation and test, "
        "and each needs one"
    )
    assert raised.value.remedy == "add images of class1 or remove the class"


def test_one_image_suffices_if_no_split_is_drawn_from_train():
    given_splits = np.repeat(np.array([0, 1, 2], dtype=np.int8), 2)
    assert draw(np.tile([0, 1], 3), given_splits).train.tolist() == [0, 1]
