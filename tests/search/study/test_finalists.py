"""The stored results of retraining: atomic, and never a pickle."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest

from search.study.finalists import FinalistStore, read_record
from trainables.specs import FinalistResult

RESULT = FinalistResult(7, 3, 0.9, 0.875, 12.5)
PREDICTIONS = np.array([0, 9, 3], dtype=np.int32)


@pytest.fixture
def store(tmp_path: Path) -> FinalistStore:
    """Return a folder that holds one result."""
    store = FinalistStore(tmp_path / "finalists")
    store.write(RESULT, b"weights", PREDICTIONS)
    return store


def test_a_stored_result_is_read_unchanged(store: FinalistStore) -> None:
    assert list(store.results()) == [RESULT]
    assert store.weights(7, 3).read_bytes() == b"weights"
    found = store.predictions(7, 3)
    assert found is not None
    np.testing.assert_array_equal(found, PREDICTIONS)
    assert found.dtype == np.int32


def test_a_result_is_stored_as_two_files(store: FinalistStore) -> None:
    folder = store.weights(7, 3).parent
    assert {path.name for path in folder.iterdir()} == {"trial-7-seed-3.pt", "trial-7-seed-3.npz"}


def test_validation_images_are_kept_and_may_be_missing(store: FinalistStore) -> None:
    # An older version wrote none.
    assert store.validation_right(7, 3) is None
    right = np.array([True, False, True, True])
    store.write(RESULT, b"weights", PREDICTIONS, right)
    found = store.validation_right(7, 3)
    assert found is not None
    np.testing.assert_array_equal(found, right)
    assert found.dtype == np.bool_
    assert list(store.results()) == [RESULT]
    assert store.validation_right(7, 4) is None


def test_an_unknown_result_is_missing(store: FinalistStore, tmp_path: Path) -> None:
    assert store.predictions(7, 4) is None
    assert list(FinalistStore(tmp_path / "empty").results()) == []


@pytest.mark.parametrize("damage", ["cut", "weights", "others"])
def test_an_incomplete_result_is_missing(store: FinalistStore, damage: str) -> None:
    record = store.record(7, 3)
    if damage == "cut":
        record.write_bytes(record.read_bytes()[:-30])
    elif damage == "weights":
        store.weights(7, 3).unlink()
    else:
        np.savez(record, something=PREDICTIONS)
    assert list(store.results()) == []


def test_a_pickle_is_not_loaded(tmp_path: Path) -> None:
    class Trap:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "sprung",)

    path = tmp_path / "trial-1-seed-1.npz"
    path.write_bytes(pickle.dumps(Trap()))
    assert read_record(path) is None
    np.savez(path, allow_pickle=True, predictions=np.array([Trap()], dtype=object))
    assert read_record(path) is None
    assert not (tmp_path / "sprung").exists()
