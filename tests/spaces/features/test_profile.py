import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.features.profile import POINTS, average, interpolate

VALUES = st.lists(st.floats(-100, 100), min_size=1, max_size=40)


@given(VALUES)
def test_profiles_have_fixed_length_and_stay_in_range(values: list[float]) -> None:
    for profile in (interpolate(values), average(values)):
        assert len(profile) == POINTS
        assert all(min(values) - 1e-9 <= each <= max(values) + 1e-9 for each in profile)


@given(VALUES)
def test_average_of_profile_is_average_of_values(values: list[float]) -> None:
    assert sum(average(values)) / POINTS == pytest.approx(sum(values) / len(values), abs=1e-9)


@given(VALUES, st.integers(1, 3))
def test_repeating_each_value_keeps_averages(values: list[float], times: int) -> None:
    repeated = [each for each in values for _ in range(times)]
    assert average(repeated) == pytest.approx(average(values), abs=1e-9)


def test_no_layers_give_zeros() -> None:
    assert interpolate([]) == average([]) == [0.0] * POINTS
