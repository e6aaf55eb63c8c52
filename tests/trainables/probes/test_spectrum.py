"""Saturation: components are counted by the definition, and one pass equals two."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from trainables.probes.spectrum import Covariance, count_components, saturation


@pytest.mark.parametrize(
    ("variances", "expected"),
    [
        ([0.995, 0.003, 0.002], 1),
        ([0.99, 0.01], 1),  # Exactly at the threshold, whatever the rounding.
        ([0.6, 0.385, 0.01, 0.005], 3),
        ([0.005, 0.01, 0.6, 0.385], 3),
        ([1.0] * 100, 99),
        ([1.0, 1.0], 2),
        ([0.0, 0.0], 0),
        ([1.0, -1e-18], 1),
    ],
)
def test_components_hold_99_percent_of_the_variance(variances: list[float], expected: int) -> None:
    assert count_components(torch.tensor(variances)) == expected


@pytest.mark.parametrize("spectrum", [[0.6, 0.385, 0.01, 0.005], [0.999, 0.0005, 0.0005, 0.0]])
def test_saturation_of_known_spectrum_in_any_basis(spectrum: list[float]) -> None:
    generator = torch.Generator().manual_seed(0)
    basis = torch.linalg.qr(torch.randn(4, 4, dtype=torch.float64, generator=generator)).Q
    covariance = basis @ torch.diag(torch.tensor(spectrum, dtype=torch.float64)) @ basis.T
    assert saturation(covariance) == (0.75 if spectrum[0] == 0.6 else 0.25)


def test_saturation_of_infinite_activations_is_unknown() -> None:
    covariance = Covariance(2)
    covariance.add(torch.tensor([[1.0, float("inf")], [2.0, 3.0]]))
    assert saturation(covariance.matrix) is None


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 20), min_size=1, max_size=5),
    channels=st.integers(1, 6),
    shift=st.sampled_from([0.0, 1.0, -1e4, 1e6]),
    seed=st.integers(0, 1000),
)
def test_merged_covariance_equals_two_passes_on_shifted_data(
    sizes: list[int], channels: int, shift: float, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    parts = [
        torch.randn(size, channels, dtype=torch.float64, generator=generator) + shift
        for size in sizes
    ]
    merged = Covariance(channels)
    for part in parts:
        merged.add(part)
    samples = torch.cat(parts)
    assert merged.count == len(samples)
    if len(samples):
        expected = torch.cov(samples.T, correction=0).reshape(channels, channels)
        torch.testing.assert_close(merged.matrix, expected, rtol=1e-9, atol=1e-9)


def test_large_parts_are_split_and_give_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    samples = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) + 1000
    whole, split = Covariance(3), Covariance(3)
    whole.add(samples)
    monkeypatch.setattr("trainables.probes.spectrum._VALUES", 7)
    split.add(samples)
    assert split.count == 50
    torch.testing.assert_close(split.matrix, whole.matrix)
