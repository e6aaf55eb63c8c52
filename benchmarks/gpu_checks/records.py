"""What a check found: a line for people, an object in the results."""

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
"""Why a check that needs a GPU is not measured."""


class Outcome(StrEnum):
    """How a check ended."""

    PASSED = "passed"
    MISSED = "below target"
    FAILED = "failed"
    NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Check:
    """One check of a stage.

    Attributes:
        stage: the stage's name.
        name: the rule that was checked.
        outcome: how it ended.
        detail: one line; of a check that did not pass, why.
        figures: what was measured, plain values for JSON.
        seconds: how long it took.
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
    """What a check that passed has to say."""

    detail: str = ""
    figures: dict[str, Any] = field(default_factory=dict)


class CheckFailedError(Exception):
    """The rule does not hold.

    Args:
        problem: one line that says what was found.
        figures: what was measured.
    """

    def __init__(self, problem: str, figures: dict[str, Any] | None = None) -> None:
        super().__init__(problem)
        self.problem = problem
        self.figures = figures or {}


class NotMeasuredError(Exception):
    """The check cannot be made here; the message says why."""


def expect(holds: bool, problem: str, figures: dict[str, Any] | None = None) -> None:
    """Fail the check unless something holds."""
    if not holds:
        raise CheckFailedError(problem, figures)


class Recorder:
    """Makes the checks of one stage, and keeps each of them when it ends.

    The file has one JSON value a line: the name of a check when it begins, the check when it ends.
    So it tells, when the process dies, during which check that happened.

    Args:
        stage: the stage's name.
        file: where the checks are kept.
    """

    def __init__(self, stage: str, file: Path) -> None:
        self._stage = stage
        self._file = file

    def check(self, name: str, work: Callable[[], Finding | None]) -> None:
        """Make one check; whatever it raises is how it ended."""
        self._write(name)
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

    def lack(self, names: Iterable[str], reason: str) -> None:
        """Note checks that cannot be made here."""
        for name in names:
            self.add(Check(self._stage, name, Outcome.NOT_MEASURED, reason))

    def add(self, check: Check) -> None:
        """Print and keep a check."""
        print(check.line(), flush=True)
        self._write(asdict(check))

    def _write(self, value: object) -> None:
        with self._file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(value) + "\n")


def _place(error: Exception) -> str:
    """Return the line of the project that raised an error, as an appendix to its message."""
    ours = [
        f"{file.relative_to(PROJECT)}:{frame.lineno}"
        for frame in traceback.extract_tb(error.__traceback__)
        if (file := Path(frame.filename)).is_relative_to(PROJECT)
        # Neither a package in the project's environment nor the check itself.
        if not {"site-packages", "gpu_checks", "tests"} & set(file.parts)
    ]
    return f" ({ours[-1]})" if ours else ""


def read_checks(file: Path) -> tuple[list[Check], str | None]:
    """Return the checks that a stage has kept, and the name of the one that it was making."""
    checks: list[Check] = []
    begun: str | None = None
    for line in file.read_text(encoding="utf-8").splitlines() if file.exists() else ():
        try:
            value = json.loads(line)
        except ValueError:
            continue  # The process was killed while it wrote.
        if isinstance(value, str):
            begun = value
        else:
            checks.append(Check(**value | {"outcome": Outcome(value["outcome"])}))
            begun = None if begun == checks[-1].name else begun
    return checks, begun
