"""The working file: one line per finished training, shared by all experiments."""

from __future__ import annotations

import fcntl
from pathlib import Path

from pydantic import ValidationError

from experiments.reproduction.record_lines import append_line, complete_lines, drop_incomplete_line
from experiments.reproduction.records import Outcome
from spaces.errors import BadInputError


class WorkingFile:
    """The finished trainings of all experiments. Several processes may use the file at a time.

    Args:
        path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, Outcome]:
        """Return the outcomes by their keys; an incomplete last line is left out.

        Raises:
            BadInputError: the file is damaged.
        """
        try:
            content = complete_lines(self._path.read_bytes())
        except FileNotFoundError:
            return {}
        try:
            outcomes = [Outcome.model_validate_json(line) for line in content.splitlines()]
        except ValidationError:
            problem = "it is no working file of this command, or it is damaged"
            raise BadInputError("--work", self._path, problem, "give another folder") from None
        return {outcome.key: outcome for outcome in outcomes}

    def append(self, outcome: Outcome) -> None:
        """Write a finished training to disk; remove a line that a killed process left incomplete.

        Raises:
            OSError: the file cannot be written.
        """
        self._path.parent.mkdir(parents=True, exist_ok=True)
        with self._path.open("a+b") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            drop_incomplete_line(file)
            append_line(file, outcome)
