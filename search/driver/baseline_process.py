"""Computes the baseline of a search in a process beside it."""

from __future__ import annotations

import os
import pickle
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryFile
from types import TracebackType
from typing import Self

from search.experiment.folder import SearchFolder
from trainables.specs import DataSpec

_ROOT = Path(__file__).resolve().parents[2]
GRACE = 60.0
"""Seconds for which the end of a search waits for the process; usually it ended long before."""


class BaselineProcess:
    """The process; it ends with the `with` block at the latest.

    A baseline that the folder already holds for the same data is reused.

    Args:
        folder: of the search; receives the baseline.
        data: the images, with their identity.
    """

    def __init__(self, folder: SearchFolder, data: DataSpec) -> None:
        self._folder = folder
        self._data = data
        self._process: subprocess.Popen[str] | None = None
        self._failure = ""

    def __enter__(self) -> Self:
        """Start the process unless the baseline is stored."""
        stored, expected = self._folder.baseline, self._data.expected
        if stored is not None and expected is not None and stored.data == expected.digest:
            return self
        try:
            self._start()
        except OSError as error:
            self._failure = str(error)
        return self

    def _start(self) -> None:
        command = [sys.executable, "-P", "-m", "trainables.baseline"]
        # Threads that wait for each other would slow down the trainings.
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        environment["PYTHONPATH"] = os.pathsep.join(
            [str(_ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
        )
        with TemporaryFile() as given:
            pickle.dump(self._data, given)
            given.seek(0)
            # In a session of its own, so that Ctrl-C in the terminal reaches the driver alone.
            self._process = subprocess.Popen(  # noqa: S603
                [*command, str(self._folder.baseline_file)],
                stdin=given,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                env=environment,
                start_new_session=True,
            )

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """End the process if it still runs; a resumed search starts another one."""
        if self._process is not None:
            with self._process:
                self._process.kill()

    @property
    def is_running(self) -> bool:
        """Whether the process still computes."""
        return self._process is not None and self._process.poll() is None

    def wait(self, seconds: float = GRACE) -> str:
        """Wait until the baseline is stored.

        Args:
            seconds: most seconds to wait.

        Returns:
            A line for people if there is no baseline; else "".
        """
        cause = self._failure or self._ending(seconds)
        return f"The report has no logistic regression to compare with: {cause}" if cause else ""

    def _ending(self, seconds: float) -> str:
        """Return why the process stored no baseline; empty if it did, or was not needed."""
        if self._process is None:
            return ""
        try:
            _, errors = self._process.communicate(timeout=seconds)
        except subprocess.TimeoutExpired:
            return f"it was not ready {seconds:.0f}s after the search"
        if self._process.returncode == 0:
            return ""
        return (errors.strip().splitlines() or [f"exit code {self._process.returncode}"])[-1]
