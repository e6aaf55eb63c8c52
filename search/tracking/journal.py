"""The local journal of a search: every event, written before anything else hears of it.

A journal is a file of JSON lines. The driver is its only writer; readers may follow it while it
grows. It is what makes tracking harmless: whatever happens to the tracking server, the events are
here and can be replayed.
"""

import json
import math
import os
import threading
import time as clock
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Literal, Self

PARENT = ""
"""Key of the run that stands for the whole search; its trials are the other keys."""

Scalar = str | int | float | bool | None
Status = Literal["FINISHED", "FAILED", "KILLED"]


@dataclass(frozen=True)
class Open:
    """A driver begins to write: that of a new search, or of one that is resumed."""

    time: int


@dataclass(frozen=True)
class Start:
    """A run begins, or is taken up again after it had finished."""

    run: str
    time: int
    name: str
    params: Mapping[str, Scalar] = field(default_factory=dict)
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Metrics:
    """Values that a run reported at one step; they may be NaN or infinite."""

    run: str
    time: int
    step: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Update:
    """Tags and text files that are added to a run or replace those of the same name."""

    run: str
    time: int
    tags: Mapping[str, str] = field(default_factory=dict)
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Finish:
    """A run ends."""

    run: str
    time: int
    status: Status


@dataclass(frozen=True)
class Retrain:
    """The driver has ended the search and retrains finalists, which no budget counts."""

    time: int


@dataclass(frozen=True)
class Close:
    """The driver has ended; what follows, if anything, begins with an `Open`."""

    time: int


OfDriver = Open | Retrain | Close
"""What is said of a driver and of no run."""
Event = OfDriver | Start | Metrics | Update | Finish

_KINDS: dict[str, type[Event]] = {
    "open": Open,
    "start": Start,
    "metrics": Metrics,
    "update": Update,
    "finish": Finish,
    "retrain": Retrain,
    "close": Close,
}
_NAMES = {kind: name for name, kind in _KINDS.items()}
_LONGEST_END = 512
"""Bytes of the last two events of a driver that has ended, at most."""


class Journal:
    """Appends events to a journal file, one line and one write each.

    Opening repairs what a crash left: a torn last line is cut off, so that no event is ever merged
    with it. A journal may be shared by threads, not by processes.

    Args:
        path: the file; it and its folder are created where absent.

    Raises:
        OSError: the file cannot be opened or written.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        path.parent.mkdir(parents=True, exist_ok=True)
        _repair(path)
        self._file: int | None = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self._lock = threading.Lock()
        try:
            self._append(Open(_now(None)))
        except BaseException:
            os.close(self._file)
            raise

    def start(
        self,
        run: str,
        name: str,
        *,
        params: Mapping[str, object] | None = None,
        tags: Mapping[str, object] | None = None,
        artifacts: Mapping[str, str] | None = None,
        time: int | None = None,
    ) -> None:
        """Record that a run begins, or is taken up again.

        Args:
            run: key of the run within the search; ``PARENT`` for the search itself.
            name: what people read.
            params: what defines the run; what is no plain scalar is kept as its text.
            tags: short labels, kept as text.
            artifacts: file name to text content.
            time: milliseconds since the epoch; now, where not given.

        Raises:
            OSError: the event could not be written (no space left, for one).
        """
        self._append(
            Start(
                run,
                _now(time),
                name,
                {key: _scalar(value) for key, value in (params or {}).items()},
                {key: str(value) for key, value in (tags or {}).items()},
                dict(artifacts or {}),
            )
        )

    def metrics(
        self, run: str, step: int, metrics: Mapping[str, float], *, time: int | None = None
    ) -> None:
        """Record what a run reported at a step.

        Raises:
            OSError: the event could not be written.
        """
        values = {key: float(value) for key, value in metrics.items()}
        self._append(Metrics(run, _now(time), int(step), values))

    def update(
        self,
        run: str,
        *,
        tags: Mapping[str, object] | None = None,
        artifacts: Mapping[str, str] | None = None,
        time: int | None = None,
    ) -> None:
        """Record tags and text files of a run that has started.

        Raises:
            OSError: the event could not be written.
        """
        labels = {key: str(value) for key, value in (tags or {}).items()}
        self._append(Update(run, _now(time), labels, dict(artifacts or {})))

    def finish(self, run: str, status: Status, *, time: int | None = None) -> None:
        """Record that a run ended.

        Raises:
            OSError: the event could not be written.
        """
        self._append(Finish(run, _now(time), status))

    def retrain(self) -> None:
        """Record that the search has ended and finalists are retrained.

        Raises:
            OSError: the event could not be written.
        """
        self._append(Retrain(_now(None)))

    def close(self) -> None:
        """Record that the driver has ended and close the file; a second call does nothing.

        Raises:
            OSError: the event could not be written; the file is closed all the same.
        """
        if self._file is None:
            return
        try:
            self._append(Close(_now(None)))
        finally:
            os.close(self._file)
            self._file = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _append(self, event: Event) -> None:
        line = encode(event)
        with self._lock:
            if self._file is None:
                raise ValueError(f"the journal {self.path} is closed")
            before = os.fstat(self._file).st_size
            rest = line
            try:
                while rest:
                    rest = rest[os.write(self._file, rest) :]
            except BaseException:
                # Half a line would swallow the event that is written next.
                os.ftruncate(self._file, before)
                raise


def encode(event: Event) -> bytes:
    """Return the line that stands for an event, with its newline."""
    fields = asdict(event)
    if isinstance(event, Metrics):
        fields["metrics"] = {key: _number(value) for key, value in event.metrics.items()}
    line = json.dumps({"event": _NAMES[type(event)], **fields}, allow_nan=False)
    return line.encode() + b"\n"


def decode(line: bytes) -> Event | None:
    """Return the event that a line stands for.

    Args:
        line: one line of a journal.

    Returns:
        The event, or None for a well-formed line of a kind or shape that is not known here (written
        by a later version).

    Raises:
        ValueError: the line is no JSON object: it is torn.
    """
    fields = json.loads(line)
    if not isinstance(fields, dict):
        raise ValueError("not an event")
    kind = _KINDS.get(str(fields.get("event")))
    if kind is None:
        return None
    known = {name: fields[name] for name in kind.__dataclass_fields__ if name in fields}
    try:
        if kind is Metrics:
            values: dict[str, Any] = known["metrics"]
            known["metrics"] = {key: float(value) for key, value in values.items()}
        return kind(**known)
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


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


def _repair(path: Path) -> None:
    """Cut off what is torn at the end of a journal."""
    if not path.exists():
        return
    with path.open("rb") as file:
        size = whole = file.seek(0, os.SEEK_END)
        while whole:
            begin, line = _line_before(file, whole)
            try:
                if line.endswith(b"\n"):
                    decode(line)
                    break
            except ValueError:
                pass
            whole = begin
    if whole < size:
        os.truncate(path, whole)


def _line_before(file: BinaryIO, end: int) -> tuple[int, bytes]:
    """Return the line that ends at an offset, and the offset at which it begins."""
    line = b""
    begin = end
    while begin:
        step = min(begin, 1 << 16)
        begin -= step
        file.seek(begin)
        line = file.read(step) + line
        newline = line.rfind(b"\n", 0, -1)
        if newline >= 0:
            return begin + newline + 1, line[newline + 1 :]
    return begin, line


def _now(time: int | None) -> int:
    return clock.time_ns() // 1_000_000 if time is None else int(time)


def _number(value: float) -> float | str:
    """Return what stands for a metric in strict JSON, which knows no NaN and no infinity."""
    if math.isfinite(value):
        return value
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _scalar(value: object) -> Scalar:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else str(value)
