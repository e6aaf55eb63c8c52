"""Addresses of tracking stores: what is shown of them."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from search.tracking.destination import Destination
from search.urls import redacted

SECRETS = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="'\"<>&"))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("http://me:secret@db.example.com/x", "http://***@db.example.com/x"),
        ("postgresql://me:a/b@c@db/x", "postgresql://***@db/x"),
        (
            "postgresql://db/x?user=me&password=secret&x=1",
            "postgresql://db/x?user=me&password=***&x=1",
        ),
        ("'http://me:secret@db' of me@example.com", "'http://***@db' of me@example.com"),
        ("http://db:5000/x is away", "http://db:5000/x is away"),
    ],
)
def test_credentials_are_blotted_out_and_nothing_else(text: str, shown: str) -> None:
    assert redacted(text) == shown


@given(secret=SECRETS.filter(lambda text: len(text) > 3 and text not in "*** mlflow.example.com"))
def test_no_password_is_shown_however_it_is_written(secret: str) -> None:
    for address in (
        f"https://alice:{secret}@mlflow.example.com",
        f"postgresql://mlflow.example.com/runs?password={secret}",
    ):
        assert secret not in Destination(address, Path("runs")).shown
