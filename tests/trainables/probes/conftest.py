"""Data sets and networks of which the probes are known."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from trainables.data import Dataset


@pytest.fixture
def coloured() -> Callable[..., Dataset]:
    """Return a function that makes images whose channel k is bright for class k alone."""

    def make(classes: int = 2, *, per_class: int = 12, side: int = 8) -> Dataset:
        random = np.random.default_rng(0)
        labels = np.repeat(np.arange(classes), per_class)
        images = random.integers(0, 40, (len(labels), side, side, classes), dtype=np.uint8)
        for image, label in zip(images, labels, strict=True):
            image[..., label] += 200
        rows = np.arange(len(labels))
        return Dataset(
            images,
            labels.astype(np.int64),
            tuple(map(str, range(classes))),
            *(rows[start::3] for start in range(3)),
        )

    return make
