"""Causes of errors of an MLflow store, in one line."""

from __future__ import annotations

import pytest
import sqlalchemy

from search.tracking.mlflow_errors import UnavailableError, translated


@pytest.mark.parametrize(
    ("message", "cause"),
    [
        (
            "(sqlite3.OperationalError) database or disk is full\n[SQL: CREATE TABLE runs (id "
            "INTEGER)]\n(Background on this error at: https://sqlalche.me/e/20/e3q8)",
            "database or disk is full",
        ),
        (
            "(psycopg2.errors.DiskFull) could not extend file: No space left on device\n[SQL: x]",
            "could not extend file: No space left on device",
        ),
    ],
)
def test_cause_of_a_database_error_leaves_out_the_statement(message: str, cause: str) -> None:
    with pytest.raises(UnavailableError) as caught, translated():
        raise sqlalchemy.exc.SQLAlchemyError(message)
    assert str(caught.value) == cause
