"""The significance test: how often it is wrong, and how often it detects a true difference."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from scipy import stats

from search.study.significance import Comparison, compare, compare_with_fixed

Right = NDArray[np.bool_]


class World:
    """Two networks with known true accuracies.

    An image is easy or hard for both, easier for one of them than for the other, luckier with one
    seed than with another, and so is every training on every image. In the population of images
    both are right equally often, but for ``better``.
    """

    def __init__(self, images: int, seeds: tuple[int, int], spread: float, noise: float) -> None:
        self._images, self._seeds = images, seeds
        self._spread, self._noise = spread, noise

    def draw(self, random: np.random.Generator, better: float = 0.0) -> tuple[Right, Right]:
        difficulty = random.normal(1.5, 2, self._images)
        arms = []
        for seeds, skill in zip(self._seeds, (better, 0.0), strict=True):
            margin = difficulty + random.normal(skill, 0.5, self._images)
            margin = margin + random.normal(0, self._spread, (seeds, 1))
            margin = margin + random.normal(0, self._noise, (seeds, self._images))
            arms.append(margin > 0)
        return arms[0], arms[1]

    def share_better(
        self, judge: Callable[[Right, Right], bool], better: float = 0.0, times: int = 600
    ) -> float:
        random = np.random.default_rng(4)
        return sum(judge(*self.draw(random, better)) for _ in range(times)) / times


def judged(alpha: float) -> Callable[[Right, Right], bool]:
    return lambda one, other: compare(one, other, alpha).is_better


WORLDS = {
    "seeds that hardly differ": World(500, (3, 3), 0.02, 1.0),
    "seeds that differ much": World(500, (3, 3), 0.3, 1.0),
    "two seeds": World(500, (2, 2), 0.2, 0.5),
    "five against two": World(500, (5, 2), 0.2, 1.0),
    "few images": World(100, (3, 3), 0.1, 1.0),
    "one against three": World(500, (1, 3), 0.2, 0.5),
}


@pytest.mark.parametrize("world", WORLDS.values(), ids=WORLDS)
def test_equal_challenger_is_rarely_called_better(world: World) -> None:
    # Three standard errors of a share of 0.05 in 600 draws are 0.027.
    assert world.share_better(judged(0.05)) <= 0.05 + 0.027


def test_smaller_alpha_is_wrong_less_often() -> None:
    world = WORLDS["seeds that differ much"]
    assert world.share_better(judged(0.01)) <= 0.01 + 0.013


@pytest.mark.parametrize(
    ("world", "better", "power"),
    [
        (World(2000, (3, 3), 0.05, 1.0), 0.3, 0.9),
        (World(2000, (5, 5), 0.1, 1.0), 0.5, 0.9),
        (World(500, (3, 3), 0.02, 1.0), 0.6, 0.9),
    ],
)
def test_true_difference_is_detected(world: World, better: float, power: float) -> None:
    assert world.share_better(judged(0.05), better, times=200) >= power


def test_comparing_images_alone_mistakes_lucky_seeds() -> None:
    def by_images(one: Right, other: Right) -> bool:
        paired = one.mean(axis=0) - other.mean(axis=0)
        return bool(stats.ttest_1samp(paired, 0, alternative="greater").pvalue < 0.05)

    world = WORLDS["seeds that differ much"]
    assert world.share_better(by_images) > 0.2
    assert world.share_better(judged(0.05)) < 0.08


def test_formula_on_a_small_example() -> None:
    one = np.array([[1, 1, 1, 0], [1, 1, 0, 1]], dtype=bool)
    other = np.array([[1, 0, 0, 0], [1, 1, 0, 0], [0, 1, 0, 0]], dtype=bool)
    found = compare(one, other, 0.05)
    paired = np.array([1 - 2 / 3, 1 - 2 / 3, 0.5, 0.5])
    parts = [
        (paired.var(ddof=1) / 4, 3),
        (0.0, 1),  # Both trainings are right three times.
        (np.var([0.25, 0.5, 0.25], ddof=1) / 3, 2),
    ]
    variance = sum(part for part, _ in parts)
    freedom = variance**2 / sum(part**2 / each for part, each in parts)
    assert found.difference == pytest.approx(0.75 - 1 / 3)
    t = found.difference / variance**0.5
    assert found.p_value == pytest.approx(stats.t.sf(t, freedom))
    assert found.high - found.low == pytest.approx(2 * stats.t.ppf(0.95, freedom) * variance**0.5)


def rights(seeds: int, images: int = 40, wrong: int = 0) -> Right:
    """Return trainings that are wrong about the same first images."""
    right = np.ones((seeds, images), dtype=bool)
    right[:, :wrong] = False
    return right


def test_equal_predictions_are_not_better() -> None:
    found = compare(rights(3, wrong=5), rights(3, wrong=5), 0.05)
    assert found == Comparison(0.0, 0.0, 0.0, 1.0, 0.05)
    assert not found.is_better


def test_difference_without_noise_is_significant() -> None:
    better = compare(rights(2), rights(2, wrong=40), 0.05)
    assert (better.difference, better.p_value, better.is_better) == (1.0, 0.0, True)
    worse = compare(rights(2, wrong=40), rights(2), 0.05)
    assert (worse.difference, worse.p_value, worse.is_better) == (-1.0, 1.0, False)


def test_single_trainings_are_never_significant() -> None:
    found = compare(rights(1), rights(1, wrong=30), 0.05)
    assert (found.low, found.high, found.p_value) == (-1.0, 1.0, 1.0)
    assert not found.is_better


def test_single_training_takes_spread_of_other_arm() -> None:
    random = np.random.default_rng(1)
    wide = random.random((4, 200)) < np.array([[0.5], [0.9], [0.6], [0.8]])
    narrow = random.random((4, 200)) < 0.7
    single = random.random((1, 200)) < 0.9
    assert compare(single, wide, 0.05).p_value > compare(single, narrow, 0.05).p_value


@pytest.mark.parametrize(
    ("one", "other"),
    [(rights(2, 10), rights(2, 11)), (rights(0), rights(2)), (rights(2, 1), rights(2, 1))],
)
def test_incomparable_predictions_are_refused(one: Right, other: Right) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        compare(one, other, 0.05)


def arm(images: int) -> st.SearchStrategy[Right]:
    return st.integers(1, 4).flatmap(lambda seeds: arrays(np.bool_, (seeds, images)))


pairs = st.integers(2, 12).flatmap(lambda images: st.tuples(arm(images), arm(images)))
alphas = st.sampled_from([0.001, 0.01, 0.05, 0.2])


@given(pairs, alphas)
def test_interval_p_value_and_decision_agree(pair: tuple[Right, Right], alpha: float) -> None:
    found = compare(*pair, alpha)
    assert -1 <= found.difference <= 1
    assert found.low <= found.difference <= found.high
    assert 0 <= found.p_value <= 1
    assert found.is_better == (found.low > 1e-12)


@given(pairs, alphas)
def test_swapping_arms_mirrors_the_result(pair: tuple[Right, Right], alpha: float) -> None:
    one, other = pair
    found, mirrored = compare(one, other, alpha), compare(other, one, alpha)
    assert mirrored.difference == pytest.approx(-found.difference)
    assert mirrored.low == pytest.approx(-found.high)
    assert not (found.is_better and mirrored.is_better)


@given(pairs, st.randoms(use_true_random=False))
def test_order_of_images_and_trainings_is_irrelevant(
    pair: tuple[Right, Right], random: object
) -> None:
    one, other = pair
    order = np.random.default_rng(random.randrange(99)).permutation(one.shape[1])  # type: ignore[attr-defined]
    found = compare(one, other, 0.05)
    again = compare(one[::-1][:, order], other[::-1][:, order], 0.05)
    assert again.p_value == pytest.approx(found.p_value)
    assert again.difference == pytest.approx(found.difference)


@given(pairs)
def test_smaller_alpha_never_promotes_more(pair: tuple[Right, Right]) -> None:
    assert not compare(*pair, 0.01).is_better or compare(*pair, 0.05).is_better


@given(pair=st.integers(2, 30).flatmap(lambda n: arrays(np.bool_, (2, n))))
def test_one_training_against_a_baseline_is_a_paired_t_test(pair: Right) -> None:
    one, fixed = pair
    found = compare_with_fixed(one[None], fixed, 0.025)
    assert found.difference == pytest.approx(one.mean() - fixed.mean())
    if (one == fixed).all() or np.ptp(one.astype(int) - fixed) == 0:
        assert found.is_better == (found.difference > 0)
        return
    expected = stats.ttest_rel(one.astype(float), fixed.astype(float), alternative="greater")
    assert found.p_value == pytest.approx(expected.pvalue)
    interval = stats.ttest_rel(one.astype(float), fixed.astype(float)).confidence_interval(0.95)
    assert (found.low, found.high) == pytest.approx((interval.low, interval.high))


def test_spread_of_seeds_widens_comparison_with_baseline() -> None:
    random = np.random.default_rng(0)
    fixed = random.random(200) < 0.5
    alike = np.stack([random.random(200) < 0.7 for _ in range(3)])
    apart = np.stack([random.random(200) < accuracy for accuracy in (0.5, 0.7, 0.9)])
    one, other = (compare_with_fixed(each, fixed, 0.025) for each in (alike, apart))
    assert one.is_better
    assert other.high - other.low > 2 * (one.high - one.low)


@pytest.mark.parametrize(("trainings", "images"), [((0, 5), 5), ((2, 5), 4), ((2, 1), 1)])
def test_comparison_with_baseline_needs_the_same_images(
    trainings: tuple[int, int], images: int
) -> None:
    with pytest.raises(ValueError, match="cannot compare"):
        compare_with_fixed(np.ones(trainings, bool), np.ones(images, bool), 0.025)
