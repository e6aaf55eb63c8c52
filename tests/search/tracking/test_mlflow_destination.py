"""How addresses of tracking stores are shown."""

from __future__ import annotations

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from search.tracking.mlflow_destination import Destination

SECRETS = st.text(st.characters(categories=["L", "N", "P", "S"], exclude_characters="'\"<>&"))


@given(secret=SECRETS.filter(lambda text: len(text) > 3 and text not in "*** mlflow.example.com"))
def test_no_form_of_password_is_shown(secret: str) -> None:
    for address in (
        f"https://alice:{secret}@mlflow.example.com",
        f"postgresql://mlflow.example.com/runs?password={secret}",
    ):
        assert secret not in Destination(address, Path("runs")).shown
