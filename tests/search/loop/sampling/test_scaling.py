"""Features are standardised by random draws, whatever candidates were asked for before."""

from __future__ import annotations

import numpy as np
import pytest

from search.loop.sampling import scaling
from search.loop.sampling.proposals import Proposal

NAMES = ("depth", "params", "macs", "constant")
DRAWS = [Proposal({}, str(i), (float(i), 2.0 * i, float(i % 3), 7.0), 1) for i in range(9)]


def test_costs_come_first_and_constant_features_are_left_out() -> None:
    found = scaling.Scaling(NAMES, DRAWS)(DRAWS)
    assert found.shape == (9, 3)
    assert found.mean(axis=0) == pytest.approx([0, 0, 0])
    assert found.std(axis=0) == pytest.approx([1, 1, 1])
    # Parameters are twice the depth, so both have the same standardised values.
    assert found[:, 0] == pytest.approx(found[:, 2])


def test_full_store_of_rows_starts_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "_KEPT_ROWS", 4)
    scaled = scaling.Scaling(NAMES, DRAWS)
    whole = scaling.Scaling(NAMES, DRAWS)(DRAWS)
    for chosen in ([0, 1, 2], [3, 4], [0, 4], list(range(9)), [8, 0]):
        found = scaled([DRAWS[index] for index in chosen])
        assert np.array_equal(found, whole[chosen])
    assert scaled([]).shape == (0, 3)


def test_described_again_with_other_features_gets_another_row() -> None:
    scaled = scaling.Scaling(NAMES, DRAWS)
    before = scaled(DRAWS[:1])
    again = Proposal({}, DRAWS[0].digest, DRAWS[5].features, 1)
    assert np.array_equal(scaled([again]), scaled(DRAWS[5:6]))
    assert not np.array_equal(scaled([again]), before)
