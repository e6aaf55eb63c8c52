"""Finalists that chance does not tell from the first, by images and seeds of validation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from search.study.finalist_ties import distances, tied_with_first
from search.study.finalists import Finalist, FinalistStore
from trainables.specs import FinalistResult

IMAGES = 400
ALPHA = 0.025


@pytest.fixture
def store(tmp_path: Path) -> FinalistStore:
    return FinalistStore(tmp_path)


def finalist(store: FinalistStore, number: int, *right: int, known: int = 99) -> Finalist:
    """Return a finalist that is right about the first images; an older version wrote the rest."""
    results = []
    for seed, count in enumerate(right):
        result = FinalistResult(number, seed, count / IMAGES, 0.5, 1.0)
        images = np.arange(IMAGES) < count if seed < known else None
        store.write(result, b"", np.zeros(3, dtype=np.int32), images)
        results.append(result)
    return Finalist(number, tuple(results))


def test_same_images_and_seeds_separate_finalists(store: FinalistStore) -> None:
    best = finalist(store, 4, 381, 380, 379)
    others = [finalist(store, 7, 378, 380, 379), finalist(store, 9, 361, 360, 359)]
    behind = distances([best, *others], store, ALPHA)
    assert tied_with_first(behind) == [7]
    assert behind[9].difference == pytest.approx(0.05)
    assert 0 < behind[9].low < 0.05 < behind[9].high


def test_spread_of_seeds_ties_finalists(store: FinalistStore) -> None:
    best, other = finalist(store, 4, 390, 370), finalist(store, 9, 370, 350)
    assert tied_with_first(distances([best, other], store, ALPHA)) == [9]


def test_numbers_of_seeds_may_differ(store: FinalistStore) -> None:
    best, other = finalist(store, 4, 380, 381, 380, 379), finalist(store, 9, 360, 361)
    assert tied_with_first(distances([best, other], store, ALPHA)) == []


def test_result_of_an_older_version_is_not_compared(store: FinalistStore) -> None:
    best, other = finalist(store, 4, 380, 380), finalist(store, 9, 380, 380, known=1)
    assert distances([best, other], store, ALPHA) == {}
    assert distances([other, best], store, ALPHA) == {}
    assert distances([], store, ALPHA) == {}
