"""Trials to draw with, and junk to give instead of options."""

from __future__ import annotations

import optuna
from hypothesis import strategies as st
from optuna.samplers import BaseSampler, RandomSampler
from optuna.trial import Trial

from spaces import BadInputError


def random_trial(seed: int = 0) -> Trial:
    return study(RandomSampler(seed=seed)).ask()


def study(sampler: BaseSampler) -> optuna.Study:
    return optuna.create_study(sampler=sampler, direction="maximize")


NUMBERS = (
    st.integers(-3, 12) | st.floats() | st.sampled_from([0.5, 10**400, -(10**400), True, False])
)
SINGLE = st.none() | NUMBERS | st.text(max_size=3) | st.binary(max_size=2)
OPTIONS = st.one_of(
    SINGLE,
    st.lists(NUMBERS, min_size=2, max_size=2),
    st.tuples(st.integers(-2, 3), st.integers(1, 12) | st.just(10**400)),
    st.recursive(
        SINGLE,
        lambda junk: (
            st.lists(junk, max_size=3)
            | st.tuples(junk, junk)
            | st.dictionaries(st.integers(0, 9) | st.text(max_size=2), junk, max_size=2)
        ),
        max_leaves=4,
    ),
)
"""What an experiment file may hold where an option is expected; small numbers are often right."""


def assert_one_helpful_line(error: BadInputError, field: str, value: object) -> None:
    """Check the line that a user reads: field = value: problem; remedy."""
    line = str(error)
    assert len(line.splitlines()) == 1
    assert error.field == field
    assert error.value is value
    shown = str(value) if len(str(value)) <= 120 else str(value)[:117] + "..."
    if str(value) != str(value).strip():
        shown = repr(shown)
    expected = f"{field} = {shown}: {error.problem}; {error.remedy}"
    assert line.split() == expected.split()
    assert error.problem
    assert error.remedy
