"""Groups the events of a journal by run, as a store takes them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from search.tracking.journal_events import (
    DataInput,
    Event,
    Finish,
    Inputs,
    Metrics,
    Model,
    OfDriver,
    Scalar,
    Start,
    Update,
)


@dataclass
class Work:
    """The events of one run in a part of the journal."""

    name: str
    time: int
    params: dict[str, Scalar] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    metrics: list[Metrics] = field(default_factory=list)
    inputs: dict[str, DataInput] = field(default_factory=dict)
    status: Start | Finish | None = None


def group_events(events: Iterable[Event], search: str) -> dict[str, Work]:
    """Group events by run, without text files; runs are in order of appearance."""
    works: dict[str, Work] = {}
    for event in events:
        if isinstance(event, OfDriver):
            continue
        work = works.setdefault(event.run, Work(event.run or search, event.time))
        if isinstance(event, Start):
            if work.status is None:
                work.name, work.time = event.name, event.time
            # MLflow's parameters are immutable: the first value stays.
            work.params = {**event.params, **work.params}
        if isinstance(event, Start | Finish):
            work.status = event
        elif isinstance(event, Metrics):
            work.metrics.append(event)
        elif isinstance(event, Inputs):
            work.inputs |= {each.digest: each for each in event.data}
        if isinstance(event, Start | Update):
            work.tags.update(event.tags)
    return works


def models(events: Iterable[Event]) -> Iterable[Model]:
    """Return the last model of each run."""
    return {event.run: event for event in events if isinstance(event, Model)}.values()


def text_files(events: Iterable[Event]) -> dict[tuple[str, str], str]:
    """Return the last content of each text file, by run and name."""
    return {
        (event.run, name): text
        for event in events
        if isinstance(event, Start | Update)
        for name, text in event.artifacts.items()
    }
