"""The tag by which a run is found in an MLflow store."""

from __future__ import annotations

from urllib.parse import quote

RUN_TAG = "borderline.run"


def run_tag(search: str, key: str) -> str:
    """Return the value of `RUN_TAG` for a run.

    Args:
        search: identity of the search in the store.
        key: of the run within the search; empty for the search's own run.
    """
    # Filters have no escapes, so the text must not contain a quote.
    return quote(f"{search}/{key}", safe="/ :+@=,")
