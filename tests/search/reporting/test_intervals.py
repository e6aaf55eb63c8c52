"""Confidence intervals of accuracies against published tables, and ties with the best."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from search.reporting.intervals import difference, ties_with_first, wilson

ACCURACIES = st.floats(0, 1)
IMAGES = st.integers(1, 100_000)


@pytest.mark.parametrize(
    ("right", "images", "low", "high"),
    [
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_score_interval_equals_table_of_newcombe(
    right: int, images: int, low: float, high: float
) -> None:
    """Table I of Newcombe 1998 (Statistics in Medicine 17, 857-872), method 3."""
    found = wilson(right / images, images)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(st.data(), st.integers(1, 500))
def test_score_interval_equals_that_of_scipy(data: st.DataObject, images: int) -> None:
    right = data.draw(st.integers(0, images))
    expected = stats.binomtest(right, images).proportion_ci(0.95, method="wilson")
    found = wilson(right / images, images)
    assert found.low == pytest.approx(expected.low, abs=1e-12)
    assert found.high == pytest.approx(expected.high, abs=1e-12)


@pytest.mark.parametrize(
    ("one", "other", "images", "low", "high"),
    [
        (9, 3, 10, 0.1705, 0.8090),
        (6, 2, 7, 0.0582, 0.8062),
        (10, 0, 10, 0.6075, 1.0),
    ],
)
def test_interval_of_difference_equals_table_of_newcombe(
    one: int, other: int, images: int, low: float, high: float
) -> None:
    """Table II of Newcombe 1998 (Statistics in Medicine 17, 873-890), method 10."""
    found = difference(one / images, other / images, images)
    assert (found.low, found.high) == (pytest.approx(low, abs=5e-5), pytest.approx(high, abs=5e-5))


@given(ACCURACIES, ACCURACIES, IMAGES)
def test_difference_the_other_way_round_is_mirrored(one: float, other: float, images: int) -> None:
    found, mirrored = difference(one, other, images), difference(other, one, images)
    assert found.low == pytest.approx(-mirrored.high, abs=1e-12)
    assert found.low <= one - other <= found.high


def test_interval_shows_decimals_that_it_determines() -> None:
    assert [str(wilson(0.5, images)) for images in (10, 10_000, 10**7)] == [
        "0.24-0.76",
        "0.490-0.510",
        "0.4997-0.5003",
    ]


def test_ties_end_at_the_first_distance_beyond_chance() -> None:
    # On 100 images, 0.9 differs from 0.78 but not from 0.82 (chi-square 5.5 and 2.7).
    assert ties_with_first([0.9, 0.9, 0.82, 0.78, 0.5], 100) == 3
    assert ties_with_first([0.9, 0.82, 0.78], 10_000) == 1
    assert ties_with_first([], 100) == 0


@given(st.lists(ACCURACIES, min_size=1), IMAGES)
def test_equal_accuracies_are_always_tied(accuracies: list[float], images: int) -> None:
    best_first = sorted(accuracies, reverse=True)
    assert ties_with_first(best_first, images) >= best_first.count(best_first[0])
