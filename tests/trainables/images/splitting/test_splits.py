"""The three splits: disjoint, stratified, and equal for equal arguments."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.images.errors import UnusableDataError
from trainables.images.splitting.splits import Splits, draw_splits, join_groups

fractions = st.floats(0.01, 0.99)
seeds = st.integers(0, 2**64)
class_sizes = st.lists(st.integers(3, 60), min_size=2, max_size=6)


def labels_of(sizes: list[int], order_seed: int = 0) -> np.ndarray:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    return np.random.default_rng(order_seed).permutation(labels)


def draw(
    labels, given_splits=None, *, validation=0.1, test=0.1, subset=1.0, seed=0, groups=None
) -> Splits:
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
        groups=groups,
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


def test_long_class_name_is_shortened_in_a_refusal():
    labels, given = np.array([0, 0, 0, 1]), np.zeros(4, dtype=np.int8)
    with pytest.raises(UnusableDataError) as raised:
        draw_splits(labels, given, ("a", "b" * 90), validation=0.2, test=0.2, subset=1, seed=0)
    assert raised.value.problem.startswith(f"the class ...{'b' * 37} has 1 image")
    assert raised.value.remedy == f"add images of ...{'b' * 37} or remove the class"


def test_one_image_suffices_if_no_split_is_drawn_from_train():
    given_splits = np.repeat(np.array([0, 1, 2], dtype=np.int8), 2)
    assert draw(np.tile([0, 1], 3), given_splits).train.tolist() == [0, 1]


# Groups of images that stay together


def split_of(splits: Splits, count: int) -> np.ndarray:
    result = np.full(count, -1)
    for number, rows in enumerate(parts(splits)):
        result[rows] = number
    return result


@settings(deadline=None)
@given(class_sizes, seeds, fractions, fractions, st.data())
def test_a_group_is_on_one_side_of_every_drawn_split(sizes, seed, validation, test, data):
    # Three groups of each class, and others of any mixture.
    labels = labels_of(sizes)
    groups = np.array(
        data.draw(st.lists(st.integers(0, 12), min_size=len(labels), max_size=len(labels)))
    )
    for label in range(len(sizes)):
        groups[np.flatnonzero(labels == label)[:3]] = 100 + 3 * label + np.arange(3)
    splits = draw(labels, validation=validation, test=test, seed=seed, groups=groups)
    sides = split_of(splits, len(labels))
    for group in np.unique(groups):
        assert len(set(sides[groups == group])) == 1
    for part in parts(splits):
        assert set(labels[part]) == set(range(len(sizes)))


@settings(deadline=None)
@given(class_sizes, seeds, fractions)
def test_groups_of_single_images_change_nothing(sizes, seed, test):
    labels = labels_of(sizes)
    groups = np.random.default_rng(1).permutation(len(labels)) + 7
    plain, grouped = (
        draw(labels, test=test, seed=seed),
        draw(labels, test=test, seed=seed, groups=groups),
    )
    for one, other in zip(parts(plain), parts(grouped), strict=True):
        assert np.array_equal(one, other)


def test_one_pair_moves_only_few_other_images():
    labels = labels_of([300, 300])
    groups = np.arange(600)
    groups[1] = 0
    plain, paired = draw(labels, seed=5), draw(labels, seed=5, groups=groups)
    assert np.sum(split_of(plain, 600) != split_of(paired, 600)) <= 4


def test_grouped_splits_stay_close_to_the_fractions_per_class():
    generator = np.random.default_rng(0)
    labels = np.repeat([0, 1], [3000, 300])
    # 200 groups of 5 to 30 images, most of both classes.
    groups = generator.integers(0, 200, 3300)
    splits = draw(labels, validation=0.2, test=0.2, groups=groups)
    for label, size in enumerate((3000, 300)):
        assert np.sum(labels[splits.test] == label) == pytest.approx(0.2 * size, rel=0.1)
        assert np.sum(labels[splits.validation] == label) == pytest.approx(0.16 * size, rel=0.15)


def test_large_groups_are_not_drawn_for_test_more_often():
    labels = np.zeros(1100, dtype=np.int64)
    groups = np.concatenate([np.repeat(np.arange(100), 10), np.arange(100, 200)])
    in_test = [
        np.mean(draw(labels, test=0.2, seed=seed, groups=groups).test < 1000) for seed in range(20)
    ]
    assert np.mean(in_test) == pytest.approx(10 / 11, abs=0.02)


def test_class_in_fewer_groups_than_splits_is_refused_by_name():
    groups = np.repeat(np.arange(5), 4)
    with pytest.raises(UnusableDataError) as raised:
        draw(np.repeat([0, 1], [12, 8]), groups=groups)
    assert raised.value.problem == (
        "the class class1 has 2 groups of images to be shared by train, validation and test, "
        "and each needs one"
    )
    assert raised.value.remedy == "add groups of images of class1 or remove the class"


def test_groups_that_no_draw_can_divide_are_refused():
    # Each class is in three of four groups, but any three splits leave one without a class.
    contents = [(0, 1, 2), (0, 1, 3), (0, 2, 3), (1, 2, 3)]
    labels = np.array([label for content in contents for label in content])
    groups = np.repeat(np.arange(4), 3)
    with pytest.raises(UnusableDataError, match="no draw gives train, validation and test images"):
        draw(labels, groups=groups)


def test_groups_do_not_move_images_of_given_splits():
    labels = np.tile([0, 1], 20)
    given_splits = np.repeat(np.array([0, 2], dtype=np.int8), 20)
    groups = np.concatenate([np.repeat(np.arange(10), 2), np.arange(20)])
    splits = draw(labels, given_splits, validation=0.2, groups=groups)
    assert splits.test.tolist() == list(range(20, 40))


def test_joined_groups_are_connected_through_any_grouping():
    one = np.array([0, 0, 1, 1, 2, 3, 4])
    other = np.array([5, 6, 6, 7, 7, 8, 9])
    assert join_groups(one, other).tolist() == [0, 0, 0, 0, 0, 5, 6]
