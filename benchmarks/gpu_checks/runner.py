"""Runs stages in sequence, each in its own process, and records their results."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import last_error, write_json

from gpu_checks.processes import GRACE_SECONDS, run_limited
from gpu_checks.records import Check, Outcome, read_checks
from gpu_checks.stages import Stage

MOST_SECONDS = 540.0
"""Time limit of all stages, in seconds."""


@dataclass
class Results:
    """Results of all stages so far; the content of ``results.json``.

    Attributes:
        date: start of the first stage, UTC.
        stages: names of the stages, in order.
        checks: checks of all finished stages.
        seconds: duration of these stages.
    """

    date: str
    stages: list[str]
    checks: list[Check] = field(default_factory=list)
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """Return the results, starting with device, versions and the benchmark's rows."""
        named = {check.name: check.figures for check in self.checks if check.stage == "machine"}
        return {
            "date": self.date,
            "device": named.get("device") or None,
            "versions": named.get("versions") or None,
            "seconds": round(self.seconds, 1),
            "stages": self.stages,
            "figures": [check.figures["row"] for check in self.checks if "row" in check.figures],
            "checks": [asdict(check) for check in self.checks],
        }


def run_stages(
    stages: Sequence[Stage], folder: Path, data: str | None, seconds: float = MOST_SECONDS
) -> int:
    """Run stages within a time limit; return 1 if a check failed, else 0.

    Args:
        stages: the stages, in order.
        folder: folder for ``results.json`` and ``logs.tar.gz``.
        data: images of the benchmark; None for its default.
        seconds: time limit of all stages.
    """
    logs = folder / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    results = Results(datetime.now(UTC).isoformat(timespec="seconds"), [s.name for s in stages])
    started = time.monotonic()
    for stage in stages:
        left = seconds - (time.monotonic() - started) - GRACE_SECONDS
        if left < stage.least:
            results.checks.append(_not_begun(stage))
        else:
            results.checks += run_stage(stage, logs, data, min(stage.seconds, left))
        results.seconds = time.monotonic() - started
        write_json(folder / "results.json", results.as_json())
    return _summarise(results, folder, _pack(logs))


def run_stage(stage: Stage, folder: Path, data: str | None, seconds: float) -> list[Check]:
    """Run one stage and return its checks; an aborted stage adds a failed check."""
    file, log = folder / f"{stage.name}.jsonl", folder / f"{stage.name}.log"
    file.unlink(missing_ok=True)
    started = time.monotonic()
    command = [sys.executable, "-m", "gpu_checks.stage", stage.name, stage.work]
    command += [str(file), str(started + seconds), str(folder), *([data] if data else [])]
    with log.open("w", encoding="utf-8") as errors:
        code = run_limited(command, seconds, errors=errors)
    checks, begun = read_checks(file)
    file.unlink(missing_ok=True)
    if code == 0:
        return checks
    where = f" during: {begun}" if begun else ""
    if code is None:
        problem = f"not ended after {seconds:.0f} s{where}"
    elif code < 0:
        problem = f"killed by {signal.Signals(-code).name}{where}"
    else:
        problem = f"exit code {code}{where}: {last_error(log.read_text('utf-8', 'replace'))}"
    took = round(time.monotonic() - started, 2)
    failed = Check(stage.name, "the stage ends", Outcome.FAILED, problem, seconds=took)
    print(failed.line(), flush=True)
    return [*checks, failed]


def _not_begun(stage: Stage) -> Check:
    check = Check(stage.name, "the stage ends", Outcome.NOT_MEASURED, "no time left")
    print(check.line(), flush=True)
    return check


def _pack(logs: Path) -> Path:
    """Replace the folder of logs with one archive, which is easier to copy from a machine."""
    archive = shutil.make_archive(str(logs), "gztar", logs)
    shutil.rmtree(logs)
    return Path(archive)


def _summarise(results: Results, folder: Path, archive: Path) -> int:
    counts = Counter(check.outcome for check in results.checks)
    print(", ".join(f"{counts[outcome]} {outcome}" for outcome in Outcome))
    failed = [check for check in results.checks if check.outcome is Outcome.FAILED]
    for check in failed:
        print(check.line())
    lacking = Check("machine", "device", Outcome.NOT_MEASURED)
    if any(
        (check.stage, check.name, check.outcome) == (lacking.stage, lacking.name, lacking.outcome)
        for check in results.checks
    ):
        print("There is no GPU here: checks that need one are not measured.")
    print(f"Results: {folder / 'results.json'}; what stages printed: {archive}")
    return int(bool(failed))
