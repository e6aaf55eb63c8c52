"""Saves and loads the checkpoints of one training.

Files are written atomically, and their names contain a digest of the content. A truncated or
changed file is therefore detected, and the previous one is used. The last two and the best
checkpoint are kept.
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

from cluster.folder_store import open_store

WRITING_FRACTION = 0.05
"""Maximum fraction of a training's time spent on writing checkpoints, successfully or not."""
_KEPT = 2
_NAME = re.compile(r"epoch-(\d+)-accuracy-(\d\.\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class _File:
    name: str
    epoch: int
    accuracy: float
    digest: str


class Checkpoints:
    """The checkpoints of one training.

    When storage is unavailable, training continues without new checkpoints.

    Args:
        place: a folder or ``s3://bucket/prefix``; created with the first checkpoint.
    """

    _away_until: ClassVar[float] = 0.0
    """Time before which no training of this process retries unavailable storage."""

    def __init__(self, place: Path | str) -> None:
        self._store = open_store(place)
        self._saved = 0
        self._next = 0.0

    @property
    def exist(self) -> bool:
        """Tell whether the place of the checkpoints exists.

        Raises:
            OSError: the storage is unavailable.
        """
        return self._store.exists()

    @property
    def timeout(self) -> float:
        """Maximum delay of a call by unavailable storage, in seconds."""
        return self._store.timeout

    def offer(self, epoch: int, accuracy: float, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch, unless writing would take too much time.

        Writing takes at most 1/20 of the time: states of small networks are written after every
        epoch, others less often.
        """
        if time.monotonic() >= max(self._next, Checkpoints._away_until):
            self.save(epoch, accuracy, state)

    def save(self, epoch: int, accuracy: float, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch.

        Args:
            epoch: number of finished epochs.
            accuracy: validation accuracy, 0..1; decides which checkpoint is the best.
            state: tensors and plain values.

        Raises:
            OSError: the state cannot be written; earlier checkpoints are intact.
        """
        if epoch == self._saved:
            return
        started = time.monotonic()
        content = io.BytesIO()
        torch.save(dict(state), content)
        data = content.getbuffer()
        digest = hashlib.blake2b(data, digest_size=8).hexdigest()
        # Accuracy is NaN after divergence.
        shown = accuracy if 0 <= accuracy <= 1 else 0.0
        try:
            self._store.write(f"epoch-{epoch:05}-accuracy-{shown:.6f}-{digest}.pt", data)
            self._saved = epoch
            self._remove_old()
        except OSError:
            # Another try may take as long, also for the next trial of this process.
            Checkpoints._away_until = _rested(started)
            raise
        self._next = _rested(started)

    def load(self) -> dict[str, Any] | None:
        """Return the last intact state, or None.

        Loading runs no code from the file. Tensors are loaded to the CPU.
        """
        with suppress(OSError):
            for file in reversed(self._files()):
                state = self._read(file)
                if state is not None:
                    self._saved = file.epoch
                    return state
        return None

    def _read(self, file: _File) -> dict[str, Any] | None:
        """Return the state in a file, or None if the file is damaged."""
        try:
            data = self._store.read(file.name)
        except OSError:
            return None
        if hashlib.blake2b(data, digest_size=8).hexdigest() != file.digest:
            return None
        # A digest proves that a file is intact, not who wrote it.
        with suppress(UnpicklingError, RuntimeError):
            state: dict[str, Any] = torch.load(io.BytesIO(data), "cpu", weights_only=True)
            return state
        return None

    def _files(self) -> list[_File]:
        """Return the checkpoint files, oldest first."""
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
    """Return the time before which no further checkpoint is written."""
    now = time.monotonic()
    return now + (now - started) / WRITING_FRACTION
