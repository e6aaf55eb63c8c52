"""Reads a journal while it grows: its events, and the time and end of its drivers."""

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
"""Most bytes of the last two events of an ended driver."""


def read(path: Path, offset: int = 0, limit: int = 1 << 20) -> tuple[list[Event], int]:
    """Read the events that follow an offset.

    A torn line is skipped if whole lines follow it. At the end of the file it may still be
    incomplete, or the next writer cuts it off.

    Args:
        path: the journal; an absent file is empty.
        offset: in bytes: 0 or the offset that an earlier call returned.
        limit: stop after the event that reaches this many bytes after the offset.

    Returns:
        The events, and the offset of the next call.
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
    """Yield all events of a journal; an absent file is empty."""
    offset = 0
    while True:
        events, end = read(path, offset)
        yield from events
        if end == offset:
            return
        offset = end


def worked_seconds(path: Path) -> float:
    """Return the time that drivers have searched, each up to its last event.

    Retraining finalists is not counted, as in the budget.
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
    """Tell whether the driver has ended: the last event is a `Close`."""
    return isinstance(_last(path)[-1], Close)


def last_status(path: Path) -> Status | None:
    """Return the status that the last driver recorded at its end; None if it was killed."""
    finish, close = _last(path)
    said = isinstance(close, Close) and isinstance(finish, Finish) and finish.run == PARENT
    return finish.status if said and isinstance(finish, Finish) else None


def _last(path: Path) -> tuple[Event | None, Event | None]:
    """Return the last two events; None for one that is too long for the end of a driver."""
    try:
        with path.open("rb") as file:
            # Called often, and another last line can be megabytes long.
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
