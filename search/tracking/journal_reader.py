"""Reading a journal: its events, also while it grows, and what they say about drivers."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from search.tracking.journal_events import (
    PARENT,
    Close,
    Event,
    Finish,
    Open,
    Retrain,
    Status,
    decode,
)

_LONGEST_END = 512
"""Bytes of the last two events of a driver that has ended, at most."""


def read(path: Path, offset: int = 0, limit: int = 1 << 20) -> tuple[list[Event], int]:
    """Read the events that follow an offset.

    A torn line is passed over only when whole ones follow it: at the end of the file it may still
    be in the making, or be cut off by the next writer.

    Args:
        path: the journal; an absent one is empty.
        offset: where to begin, in bytes: 0 or what an earlier call returned.
        limit: stop at the first event that ends this many bytes after the offset, or later.

    Returns:
        The events, and the offset to go on from.
    """
    events: list[Event] = []
    end = position = offset
    try:
        file = path.open("rb")
    except FileNotFoundError:
        return events, offset
    with file:
        file.seek(offset)
        while end - offset < limit and (line := file.readline()).endswith(b"\n"):
            position += len(line)
            try:
                event = decode(line)
            except ValueError:
                continue
            end = position
            if event is not None:
                events.append(event)
    return events, end


def read_all(path: Path) -> Iterator[Event]:
    """Yield all events of a journal; an absent one is empty."""
    offset = 0
    while True:
        events, end = read(path, offset)
        yield from events
        if end == offset:
            return
        offset = end


def worked_seconds(path: Path) -> float:
    """Return for how long drivers have searched, to the last sign of each.

    Finalists come on top: what a search may yet spend does not depend on how long they took.
    """
    total = began = last = 0
    searches = True
    for event in read_all(path):
        if isinstance(event, Open):
            total += last - began
            began, searches = event.time, True
        if searches:
            last = max(began, event.time)
        searches = searches and not isinstance(event, Retrain)
    return (total + last - began) / 1000


def ended(path: Path) -> bool:
    """Return whether the driver has ended: whether the last event is a `Close`."""
    return isinstance(_last(path)[-1], Close)


def last_status(path: Path) -> Status | None:
    """Return how the last driver of a search said that it ended; None where it did not say."""
    finish, close = _last(path)
    said = isinstance(close, Close) and isinstance(finish, Finish) and finish.run == PARENT
    return finish.status if said and isinstance(finish, Finish) else None


def _last(path: Path) -> tuple[Event | None, Event | None]:
    """Return the last two events, None for what is too long to be of the end of a driver."""
    try:
        with path.open("rb") as file:
            # These events are short: this is asked often, and the last line can be megabytes.
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_END))
            tail = file.read()
    except FileNotFoundError:
        return None, None
    if not tail.endswith(b"\n"):
        return None, None
    found: list[Event | None] = []
    for line in tail.splitlines()[-2:]:
        try:
            found.append(decode(line))
        except ValueError:
            found.append(None)
    finish, close = [None, None, *found][-2:]
    return finish, close
