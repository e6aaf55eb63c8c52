"""The checkpoints of one training: written whole or not at all, and never trusted blindly.

The digest of its content is part of a file's name, so a file that was cut short or has changed is
told from a good one, and the one before it is used. What is kept: the last two, and the best.
"""

from __future__ import annotations

import hashlib
import io
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any, ClassVar

import torch

from cluster.stores import open_store

WRITING_FRACTION = 0.05
"""Most of a training's time that is spent on writing checkpoints, also in vain."""
_KEPT = 2
_NAME = re.compile(r"epoch-(\d+)-accuracy-(\d\.\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class _File:
    name: str
    epoch: int
    accuracy: float
    digest: str


class Checkpoints:
    """The checkpoints of one training in a place of their own.

    A storage that is away costs the chance to go on from there, never the training.

    Args:
        place: a folder or ``s3://bucket/prefix``; made when the first is written.
    """

    _away_until: ClassVar[float] = 0.0
    """Until when no training of this process offers anything to a storage that was away."""

    def __init__(self, place: Path | str) -> None:
        self._store = open_store(place)
        self._saved = 0
        self._next = 0.0

    @property
    def exist(self) -> bool:
        """Tell whether there are any, or were.

        Raises:
            OSError: the storage is away.
        """
        return self._store.exists()

    @property
    def timeout(self) -> float:
        """Seconds that a storage which is away may hold up a call beyond what the call takes."""
        return self._store.timeout

    def offer(self, epoch: int, accuracy: float, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch, unless the last one was written only just now.

        Small networks are written after every epoch; for large ones writing takes at most a
        twentieth of the time.
        """
        if time.monotonic() >= max(self._next, Checkpoints._away_until):
            self.save(epoch, accuracy, state)

    def save(self, epoch: int, accuracy: float, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch.

        Args:
            epoch: number of epochs done.
            accuracy: by which the best is known, 0..1.
            state: tensors and plain values.

        Raises:
            OSError: it could not be written; what was there before is still there.
        """
        if epoch == self._saved:
            return
        started = time.monotonic()
        content = io.BytesIO()
        torch.save(dict(state), content)
        data = content.getbuffer()
        digest = hashlib.blake2b(data, digest_size=8).hexdigest()
        # A trial that is not a number has no accuracy to speak of.
        shown = accuracy if 0 <= accuracy <= 1 else 0.0
        try:
            self._store.write(f"epoch-{epoch:05}-accuracy-{shown:.6f}-{digest}.pt", data)
            self._saved = epoch
            self._remove_old()
        except OSError:
            # Another try may take as long, and the next trial of this process would fare alike.
            Checkpoints._away_until = _rested(started)
            raise
        self._next = _rested(started)

    def load(self) -> dict[str, Any] | None:
        """Return the last state that is whole, None where there is none.

        Nothing in it can run code; tensors come to the CPU, wherever they were.
        """
        with suppress(OSError):
            for file in reversed(self._files()):
                state = self._read(file)
                if state is not None:
                    self._saved = file.epoch
                    return state
        return None

    def _read(self, file: _File) -> dict[str, Any] | None:
        """Return what a file holds, None where it is not whole."""
        try:
            data = self._store.read(file.name)
        except OSError:
            return None
        if hashlib.blake2b(data, digest_size=8).hexdigest() != file.digest:
            return None
        # A digest says that a file is whole, not who has written it.
        with suppress(UnpicklingError, RuntimeError):
            state: dict[str, Any] = torch.load(io.BytesIO(data), "cpu", weights_only=True)
            return state
        return None

    def _files(self) -> list[_File]:
        """Return what is there, oldest first."""
        found = [
            _File(entry.name, int(match[1]), float(match[2]), match[3])
            for entry in self._store.entries()
            if (match := _NAME.fullmatch(entry.name))
        ]
        return sorted(found, key=lambda file: file.epoch)

    def _remove_old(self) -> None:
        files = self._files()
        best = max(files, key=lambda file: (file.accuracy, file.epoch))
        for file in files[:-_KEPT]:
            if file is not best:
                self._store.remove(file.name)


def _rested(started: float) -> float:
    """Return the time from which on what was begun then has taken its share of the time."""
    now = time.monotonic()
    return now + (now - started) / WRITING_FRACTION
