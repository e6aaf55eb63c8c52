"""The checkpoints of one training: written whole or not at all, and never trusted blindly.

The digest of its content is part of a file's name, so a file that was cut short or has changed is
told from a good one, and the one before it is used. What is kept: the last two, and the best.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

SHARE = 0.05
"""Most of a training's time that is spent on writing checkpoints."""
_KEPT = 2
_NAME = re.compile(r"epoch-(\d+)-accuracy-(\d\.\d+)-([0-9a-f]{16})\.pt")


@dataclass(frozen=True)
class _File:
    path: Path
    epoch: int
    accuracy: float
    digest: str


class Checkpoints:
    """The checkpoints of one training in a folder of their own.

    Args:
        folder: created when the first is written.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._saved = 0
        self._next = 0.0

    @property
    def exist(self) -> bool:
        """Tell whether there are any, or were."""
        return self._folder.is_dir()

    def offer(self, epoch: int, accuracy: float, state: Mapping[str, Any]) -> None:
        """Write the state after an epoch, unless the last one was written only just now.

        Small networks are written after every epoch; for large ones writing takes at most a
        twentieth of the time.
        """
        if time.monotonic() >= self._next:
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
        path = self._folder / f"epoch-{epoch:05}-accuracy-{shown:.6f}-{digest}.pt"
        self._folder.mkdir(parents=True, exist_ok=True)
        aside = self._folder / f".{os.getpid()}.part"
        try:
            # Not forced to the disk: what a power cut tears is told by its digest.
            aside.write_bytes(data)
            aside.replace(path)
        except OSError:
            aside.unlink(missing_ok=True)
            raise
        self._saved = epoch
        self._remove_old()
        now = time.monotonic()
        self._next = now + (now - started) / SHARE

    def load(self) -> dict[str, Any] | None:
        """Return the last state that is whole, None where there is none.

        Nothing in it can run code; tensors come to the CPU, wherever they were.
        """
        for file in reversed(self._files()):
            try:
                data = file.path.read_bytes()
            except OSError:
                continue
            if hashlib.blake2b(data, digest_size=8).hexdigest() != file.digest:
                continue
            # A digest says that a file is whole, not who has written it.
            with suppress(UnpicklingError, RuntimeError):
                state: dict[str, Any] = torch.load(io.BytesIO(data), "cpu", weights_only=True)
                self._saved = file.epoch
                return state
        return None

    def _files(self) -> list[_File]:
        """Return what is there, oldest first."""
        if not self._folder.is_dir():
            return []
        found = [
            _File(path, int(match[1]), float(match[2]), match[3])
            for path in self._folder.iterdir()
            if (match := _NAME.fullmatch(path.name))
        ]
        return sorted(found, key=lambda file: file.epoch)

    def _remove_old(self) -> None:
        files = self._files()
        best = max(files, key=lambda file: (file.accuracy, file.epoch))
        for file in files[:-_KEPT]:
            if file is not best:
                file.path.unlink(missing_ok=True)
