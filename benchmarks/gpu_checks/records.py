"""Results of checks: a line for people, an object in the results."""

from __future__ import annotations

import json
import time
import traceback
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from harness import one_line

PROJECT = Path(__file__).resolve().parent.parent.parent
NO_GPU = "no GPU"
"""Reason why a check that needs a GPU is not measured."""


class Outcome(StrEnum):
    """Outcome of a check."""

    PASSED = "passed"
    MISSED = "below target"
    FAILED = "failed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Check:
    """One check of a stage.

    Attributes:
        stage: name of the stage.
        name: the checked rule.
        outcome: outcome of the check.
        detail: one line; the cause if the check did not pass.
        figures: measurements, as plain values for JSON.
        seconds: duration.
    """

    stage: str
    name: str
    outcome: Outcome
    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)
    seconds: float = 0.0

    def line(self) -> str:
        """Return the check in one line."""
        detail = f": {self.detail}" if self.detail else ""
        return f"{self.stage}: {self.name}: {self.outcome}{detail} ({self.seconds:.1f} s)"


@dataclass(frozen=True)
class Finding:
    """Result of a check that passed."""

    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class CheckFailedError(Exception):
    """The rule does not hold.

    Args:
        problem: one line that describes the result.
        figures: measurements.
    """

    def __init__(self, problem: str, figures: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.figures = figures or {}


class NotMeasuredError(Exception):
    """The check cannot run here; the message is the reason."""


def expect(holds: bool, problem: str, figures: dict[str, Any] | None = None) -> None:
    """Fail the check unless a condition holds."""
    if not holds:
        raise CheckFailedError(problem, figures)


class Recorder:
    """Runs the checks of one stage, and records each at its end.

    Each line of the file is a JSON value: the name of a check at its start, the check at its end.
    If the process dies, the file thus shows during which check.

    Args:
        stage: name of the stage.
        file: file for the checks.
    """

    def __init__(self, stage: str, file: Path) -> None:
        self._stage = stage
        self._file = file

    def check(self, name: str, work: Callable[[], Finding | None]) -> None:
        """Run one check; an exception determines its outcome."""
        self.begin(name)
        started = time.perf_counter()
        outcome, finding = Outcome.PASSED, Finding()
        try:
            finding = work() or finding
        except NotMeasuredError as reason:
            outcome, finding = Outcome.NOT_MEASURED, Finding(str(reason))
        except CheckFailedError as failure:
            outcome, finding = Outcome.FAILED, Finding(failure.problem, failure.figures)
        except Exception as error:
            traceback.print_exc()
            outcome, finding = Outcome.FAILED, Finding(one_line(error) + _place(error))
        seconds = round(time.perf_counter() - started, 2)
        self.add(Check(self._stage, name, outcome, finding.detail, finding.figures, seconds))

    def begin(self, name: str) -> None:
        """Record the start of a check."""
        self._write(name)

    def lack(self, names: Iterable[str], reason: str) -> None:
        """Record checks that cannot run here."""
        for name in names:
            self.add(Check(self._stage, name, Outcome.NOT_MEASURED, reason))

    def add(self, check: Check) -> None:
        """Print and record a check."""
        print(check.line(), flush=True)
        self._write(asdict(check))

    def _write(self, value: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")


def _place(error: Exception) -> str:
    """Return the project line that raised an error, as a suffix of its message."""
    ours = [
        f"{file.relative_to(PROJECT)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (file := Path(frame.filename)).is_relative_to(PROJECT)
        # Not a package in the project's environment, and not the check itself.
        if not {"site-packages", "gpu_checks", "tests"} & set(file.parts)
    ]
    return f" ({ours[-1]})" if ours else ""


def read_checks(file: Path) -> tuple[list[Check], str | None]:
    """Return the recorded checks of a stage, and the name of the unfinished check."""
    checks: list[Check] = []
    begun: str | None = None
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # The process was killed while writing.
        if isinstance(value, str):
            begun = value
        else:
            checks.append(Check(**value | {"outcome": Outcome(value["outcome"])}))
            begun = None if begun == checks[-1].name else begun
    return checks, begun
