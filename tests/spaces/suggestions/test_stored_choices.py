"""Choices of a parameter: a database returns each of them unchanged, or they are refused."""

import enum
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from spaces.suggestions.stored_choices import StoredChoices
from tests.spaces.graphs import examples


class Kind(enum.Enum):
    """An enumeration of a user."""

    PLAIN = 1
    WIDE = "wide"


class Size(enum.IntEnum):
    """Members that JSON turns into numbers."""

    SMALL = 1
    LARGE = 2


SINGLE = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("\0\ud800"), max_size=3)
    | st.sampled_from([*Kind, *Size, 2**64, -0.0, 1e308, 5e-324])
)
CHOICES = st.lists(
    st.recursive(SINGLE, lambda each: st.lists(each, max_size=3) | st.tuples(each, each)),
    min_size=1,
    max_size=6,
)


@examples(300)
@given(CHOICES)
def test_choices_are_restored_exactly_or_refused(choices):
    try:
        known = StoredChoices(choices)
    except ValueError:
        return
    restored = json.loads(json.dumps(known.stored))
    for choice, text in zip(choices, restored, strict=True):
        assert repr(known.restore(text)) == repr(choice)
        assert type(known.restore(text)) is type(choice)


def test_plain_choices_are_stored_as_they_are():
    choices = (None, True, 3, 0.1, "relu", 2**70)

    assert StoredChoices(choices).stored == choices


@pytest.mark.parametrize(
    ("choices", "stored"),
    [
        ([(3, 3), (3, 5)], ("(3, 3)", "(3, 5)")),
        ([(3,), ()], ("(3,)", "()")),
        ([[16, 32], []], ("[16, 32]", "[]")),
        ([(1, "a", None, (True, 0.5))], ("(1, 'a', None, (True, 0.5))",)),
        ([Kind.PLAIN, Kind.WIDE], ("Kind.PLAIN", "Kind.WIDE")),
        ([Size.SMALL, 1], ("Size.SMALL", 1)),
    ],
)
def test_other_choices_are_stored_as_text(choices, stored):
    assert StoredChoices(choices).stored == stored


def test_numpy_scalars_become_numbers_of_python():
    known = StoredChoices(np.array([16, 32]))
    mixed = StoredChoices([np.float32(0.5), np.bool_(True), np.str_("a"), (np.int8(3), 4)])

    assert known.stored == (16, 32)
    assert type(known.restore(16)) is int
    assert mixed.stored == (0.5, True, "a", "(3, 4)")
    assert [type(mixed.restore(each)) for each in mixed.stored] == [float, bool, str, tuple]


@pytest.mark.parametrize(
    "choice",
    [
        *[b"ab", object(), {"a": 1}, {1, 2}, print, int, 1j, np.zeros(2), np.datetime64(0, "s")],
        *[math.nan, math.inf, (1, math.nan), np.float64("nan"), "a\0", "\udfff", ("\0",)],
    ],
    ids=lambda choice: type(choice).__name__,  # An address would differ between processes.
)
def test_a_choice_that_a_database_changes_is_refused(choice):
    with pytest.raises(ValueError, match=r"the choice|the text"):
        StoredChoices([choice, 1])


@pytest.mark.parametrize(
    "choices",
    [[1, True], [0, False], [1, 1.0], [0.0, -0.0], [(1, 2), "(1, 2)"], [Kind.WIDE, "Kind.WIDE"]],
    ids=str,
)
def test_choices_that_cannot_be_told_apart_are_refused(choices):
    with pytest.raises(ValueError, match="cannot be told apart"):
        StoredChoices(choices)


@pytest.mark.parametrize("kind", [set, frozenset])
def test_choices_without_an_order_are_refused(kind):
    with pytest.raises(ValueError, match="have no fixed order"):
        StoredChoices(kind(["a", "b"]))


def test_a_choice_may_be_given_twice():
    assert StoredChoices([64, 64, 128]).restore(64) == 64
