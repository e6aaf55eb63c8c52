"""Metrics, params and tags as MLflow takes them: clean text, in batches of limited size."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

from mlflow.entities import Metric, Param, RunTag

Entry = Metric | Param | RunTag

# Limits of a request; the last one leaves room for what surrounds the entries.
_METRICS_A_BATCH = 1000
_OTHERS_A_BATCH = 100
_BYTES_A_BATCH = 900_000


def batches(entries: Sequence[Entry]) -> Iterator[list[Entry]]:
    """Split entries, in order, into batches within the limits of a request."""
    batch: list[Entry] = []
    others = size = 0
    for entry in entries:
        other = not isinstance(entry, Metric)
        length = 200 + len(json.dumps([entry.key, str(entry.value)]))
        if batch and (
            len(batch) == _METRICS_A_BATCH
            or others + other > _OTHERS_A_BATCH
            or size + length > _BYTES_A_BATCH
        ):
            yield batch
            batch = []
            others = size = 0
        batch.append(entry)
        others += other
        size += length
    if batch:
        yield batch


def clean(text: str, longest: int | None = None) -> str:
    """Return text that every database accepts: no NUL, no lone surrogate, not too long."""
    text = text.encode("utf-8", "replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")
    return text if longest is None or len(text) <= longest else text[: longest - 1] + "…"


def shown(entry: Entry) -> str:
    """Return kind, name and value of an entry for a message, the latter two cut."""
    kind = {Metric: "metric", Param: "parameter", RunTag: "tag"}[type(entry)]
    return f"the {kind} {entry.key[:60]!r} = {str(entry.value)[:60]!r}"
