"""The three errors of an MLflow store; each implies what the caller does next."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

from search.urls import redacted


class UnavailableError(Exception):
    """The store accepts nothing at present: try again later. The text is the cause in one line."""


class VanishedError(Exception):
    """A stored object is gone: the store was emptied or replaced. Replay the journal."""


class RefusedError(Exception):
    """The store will never accept this value: leave it out."""


@contextmanager
def translated() -> Iterator[None]:
    """Translate any error of a store into the errors of this module."""
    from mlflow.exceptions import MlflowException  # noqa: PLC0415 - takes seconds

    try:
        yield
    except (UnavailableError, VanishedError, RefusedError):
        raise
    except MlflowException as error:
        if error.error_code == "RESOURCE_DOES_NOT_EXIST":
            raise VanishedError(_cause(error)) from error
        if error.error_code == "INVALID_PARAMETER_VALUE":
            raise RefusedError(_cause(error)) from error
        raise UnavailableError(_cause(error)) from error
    except Exception as error:
        # Artifact stores raise errors of their own client libraries.
        if getattr(getattr(error, "response", None), "status_code", None) in {400, 413}:
            raise RefusedError(_cause(error)) from error
        raise UnavailableError(_cause(error)) from error


_CAUSES = (
    (
        re.compile(r"error code 401\b|\b401 Client Error"),
        "it does not accept this user and password: "
        "check MLFLOW_TRACKING_USERNAME and MLFLOW_TRACKING_PASSWORD",
    ),
    (
        re.compile(r"\b403\b.*Permission denied"),
        "this user may not write there: ask the server's administrator for permission",
    ),
    # SQLAlchemy appends the whole statement.
    (re.compile(r"\((?:sqlite3|psycopg2)[\w.]*\) ([^\[]+)"), r"\1"),
    (re.compile(r"timed out|timeout exception", re.IGNORECASE), "it does not answer in time"),
    (re.compile(r"too many (\d+) error responses"), r"it answers with error \1"),
    (re.compile(r"\[Errno -?\d+\] ([^'\"()<>]+)"), r"\1"),
)


def _cause(error: Exception) -> str:
    """Return the cause of an error in one short line; libraries write pages."""
    text = redacted(" ".join(str(error).split()))
    for pattern, cause in _CAUSES:
        if match := pattern.search(text):
            return match.expand(cause).strip().rstrip(".")
    text = re.sub(r"^(API request to \S+ failed with exception|[A-Z_]+:) ", "", text)
    text = text or type(error).__name__
    return text if len(text) <= 200 else text[:199] + "…"
