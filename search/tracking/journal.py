"""The journal of a search: a local file that holds every event, written before MLflow sees it.

A journal is a file of JSON lines. The driver is its only writer, and readers can follow it while it
grows. Whatever happens to the tracking server, the journal holds the events and can be replayed.
"""

from __future__ import annotations

import math
import os
import threading
import time as clock
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from search.tracking.journal_events import (
    Close,
    DataInput,
    Event,
    Finish,
    Inputs,
    Metrics,
    Model,
    Open,
    Retrain,
    Scalar,
    Start,
    Status,
    Update,
    decode,
    encode,
)
from search.tracking.pyfunc_model import PyfuncModel


class Journal:
    """Appends events to a journal file, one line and one write each.

    Opening cuts off a last line that a crash has torn, so that no event is appended to it. Threads
    may share a journal; processes may not.

    Args:
        path: the file; it and its folder are created if absent.

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
        """Record that a run starts or resumes.

        Args:
            run: key of the run within the search; ``PARENT`` for the search itself.
            name: shown to people.
            params: definition of the run; values that are no scalars are stored as text.
            tags: short labels, stored as text.
            artifacts: text of each file by its name.
            time: milliseconds since the epoch; now by default.

        Raises:
            OSError: the event cannot be written, for example to a full disk.
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
        """Record metrics of a run at a step.

        Raises:
            OSError: the event cannot be written.
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
        """Record tags and text files of a started run.

        Raises:
            OSError: the event cannot be written.
        """
        labels = {key: str(value) for key, value in (tags or {}).items()}
        self._append(Update(run, _now(time), labels, dict(artifacts or {})))

    def model(self, run: str, model: PyfuncModel, weights: str) -> None:
        """Record the network of a started run as a model.

        Args:
            run: key of the run.
            model: its description.
            weights: path of the file of its weights, relative to the folder of the journal.

        Raises:
            OSError: the event cannot be written.
        """
        self._append(
            Model(
                run,
                _now(None),
                weights,
                model.code,
                dict(model.sources),
                model.example,
                list(model.requirements),
            )
        )

    def inputs(self, run: str, data: Sequence[DataInput]) -> None:
        """Record the data sets that a started run uses.

        Raises:
            OSError: the event cannot be written.
        """
        self._append(Inputs(run, _now(None), tuple(data)))

    def finish(self, run: str, status: Status, *, time: int | None = None) -> None:
        """Record the end of a run.

        Raises:
            OSError: the event cannot be written.
        """
        self._append(Finish(run, _now(time), status))

    def retrain(self) -> None:
        """Record that the search has ended and that finalists are retrained from here on.

        Raises:
            OSError: the event cannot be written.
        """
        self._append(Retrain(_now(None)))

    def close(self) -> None:
        """Record the end of the driver and close the file; a second call does nothing.

        Raises:
            OSError: the event cannot be written; the file is closed nevertheless.
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
                # The next event would be appended to half a line.
                os.ftruncate(self._file, before)
                raise


def _repair(path: Path) -> None:
    """Cut off torn lines at the end of a journal."""
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
    """Return the offset at which the line before an offset starts, and that line."""
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


def _scalar(value: object) -> Scalar:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    return value if value is None or isinstance(value, str | int) else str(value)
