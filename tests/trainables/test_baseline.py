"""The baseline: logistic regression on small images, and a guess."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from trainables import baseline
from trainables.baseline import Baseline, compute_baseline, fetch_baseline, shrink
from trainables.data import Dataset, load
from trainables.specs import DataSpec


@pytest.fixture(scope="module")
def digits(image_cache: Path) -> Dataset:
    return load(DataSpec("digits"), cache=image_cache)


def few_images(classes: int = 3, images: int = 215) -> Dataset:
    """Return images whose brightness tells their class, the first class twice as often."""
    random = np.random.default_rng(0)
    labels = np.maximum(np.arange(images) % (classes + 1) - 1, 0)
    pixels = random.integers(0, 60, (images, 20, 24, 3)) + 60 * labels[:, None, None, None]
    rows = random.permutation(images)
    splits = (np.sort(part) for part in np.split(rows, [images * 7 // 10, images * 85 // 100]))
    names = tuple(f"class {number}" for number in range(classes))
    return Dataset(pixels.astype(np.uint8), labels, names, *splits)


def test_logistic_regression_knows_most_digits(digits: Dataset) -> None:
    found = compute_baseline(digits, "digest", seed=0)
    # Scikit-learn's example of a linear classifier on these images reaches 0.95 to 0.97.
    assert 0.94 < found.test < 0.99
    assert 0.9 < found.validation < 0.99
    assert found.trained == len(digits.train)
    np.testing.assert_array_equal(found.labels, digits.labels[digits.test])
    assert found.rows == tuple(range(len(digits.test)))


def test_guess_is_the_most_frequent_class_of_training_images() -> None:
    dataset = few_images()
    found = compute_baseline(dataset, "digest", seed=0)
    assert found.guess == 0
    assert found.guess_test == np.mean(dataset.labels[dataset.test] == 0)
    assert found.guess_validation == np.mean(dataset.labels[dataset.validation] == 0)
    assert found.test > 0.95


def test_fit_that_does_not_converge_is_silent(
    digits: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(baseline, "_WORK", 0)
    assert compute_baseline(digits, "digest", seed=0).test > 0.8


def test_large_splits_are_drawn_from_with_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline, "TRAINED", 40)
    monkeypatch.setattr(baseline, "SCORED", 20)
    dataset = few_images()
    one, same, other = (compute_baseline(dataset, "digest", seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one.rows != other.rows
    assert (one.trained, len(one.rows)) == (40, 20)
    assert list(one.rows) == sorted(set(one.rows))
    np.testing.assert_array_equal(one.labels, dataset.labels[dataset.test[list(one.rows)]])


def test_baseline_is_cached_by_content_order_splits_and_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed: list[Dataset] = []

    def compute(dataset: Dataset, data: str, seed: int) -> Baseline:
        computed.append(dataset)
        return compute_baseline(dataset, data, seed)

    monkeypatch.setattr(baseline, "compute_baseline", compute)
    monkeypatch.setattr(baseline, "_WORK", 0)
    dataset = few_images(images=60)
    first = fetch_baseline(dataset, "digest", 0, tmp_path)
    assert fetch_baseline(few_images(images=60), "digest", 0, tmp_path) == first
    assert len(computed) == 1
    others = [
        replace(dataset, digests=dataset.image_digests[::-1]),
        replace(dataset, labels=dataset.labels[::-1].copy()),
        replace(dataset, train=dataset.train[1:]),
        replace(dataset, test=dataset.validation, validation=dataset.test),
    ]
    for other in others:
        fetch_baseline(other, "digest", 0, tmp_path)
    fetch_baseline(dataset, "digest", 1, tmp_path)
    assert fetch_baseline(dataset, "other digest", 0, tmp_path).data == "other digest"
    assert len(computed) == 7
    (entry, *_) = tmp_path.rglob("baseline.json")
    entry.write_bytes(b"{")  # A damaged entry is computed again.
    for each in (dataset, *others):
        fetch_baseline(each, "digest", 0, tmp_path)
    fetch_baseline(dataset, "digest", 1, tmp_path)
    fetch_baseline(dataset, "other digest", 0, tmp_path)
    assert len(computed) == 8


@pytest.mark.parametrize("shape", [(8, 8, 1), (16, 20, 3), (33, 40, 1)])
def test_small_image_has_at_most_sixteen_rows_and_columns(shape: tuple[int, int, int]) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, *shape), dtype=np.uint8)
    found = shrink(images)
    assert found.shape == (2, min(shape[0], 16), min(shape[1], 16), shape[2])
    assert found.min() >= images.min()
    assert found.max() <= images.max()


def test_small_image_is_the_mean_of_blocks() -> None:
    images = np.random.default_rng(0).integers(0, 256, (2, 32, 48, 3), dtype=np.uint8)
    blocks: NDArray[np.float64] = images.reshape(2, 16, 2, 16, 3, 3).mean(axis=(2, 4))
    np.testing.assert_allclose(shrink(images), blocks, rtol=1e-5)


def test_stored_baseline_is_read_unchanged() -> None:
    found = Baseline("d", 1, 0.25, 0.5, 10, 0.75, (0, 2), (1, 0), (1, 1))
    assert Baseline.from_json(found.to_json()) == found
    assert found.test == 0.5
    with pytest.raises(ValueError, match="validation"):
        Baseline.from_json("{}")


def test_folds_score_the_baseline_on_all_training_images() -> None:
    dataset = few_images()
    folds = (np.arange(len(dataset.train)) % 3).astype(np.int8)[None]
    none = np.array([], dtype=np.int64)
    folded = replace(dataset, validation=none, folds=folds)
    found = compute_baseline(folded, "digest", seed=0)
    assert found.trained == len(folded.parts[0].train)
    assert found.guess_validation == pytest.approx(np.mean(dataset.labels[dataset.train] == 0))
    hits = found.validation * len(dataset.train)
    assert hits == pytest.approx(round(hits))
    assert found.validation > 0.95
    assert found.test > 0.95
