"""Runs stages in sequence, each in its own process, and records their results."""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from harness import last_error, write_json

from gpu_checks.processes import GRACE_SECONDS, end_group, run_limited
from gpu_checks.records import NO_GPU, Check, Outcome, read_checks
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

    @property
    def has_gpu(self) -> bool | None:
        """Tell whether there is a GPU that works; None before the first stage."""
        found = [c.outcome for c in self.checks if (c.stage, c.name) == ("machine", "device")]
        return found[0] is Outcome.PASSED if found else None

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
    with ExitStack() as ending:
        for stage in stages:
            left = seconds - (time.monotonic() - started) - GRACE_SECONDS
            if stage.needs_gpu and results.has_gpu is False:
                # Its process would import torch only to report this.
                results.checks.append(_not_begun(stage, NO_GPU))
            elif left < stage.least:
                results.checks.append(_not_begun(stage, "no time left"))
            else:
                results.checks += run_stage(stage, logs, data, min(stage.seconds, left))
            results.seconds = time.monotonic() - started
            write_json(folder / "results.json", results.as_json())
            if stage.name == "machine" and results.has_gpu and _need_images(stages):
                ending.enter_context(_decoding(data, logs))
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
    outcome = Outcome.FAILED
    if code is None:
        problem = f"not ended after {seconds:.0f} s{where}"
        if stage.part == "bench":
            # Lack of time is not a fault of the project.
            outcome, problem = Outcome.NOT_MEASURED, f"{problem}; earlier rows are saved"
    elif code < 0:
        problem = f"killed by {signal.Signals(-code).name}{where}"
    else:
        problem = f"exit code {code}{where}: {last_error(log.read_text('utf-8', 'replace'))}"
    took = round(time.monotonic() - started, 2)
    failed = Check(stage.name, "the stage ends", outcome, problem, seconds=took)
    print(failed.line(), flush=True)
    return [*checks, failed]


def _need_images(stages: Sequence[Stage]) -> bool:
    return any(stage.part == "bench" for stage in stages)


@contextmanager
def _decoding(data: str | None, logs: Path) -> Iterator[None]:
    """Decode the images in the background, until the context ends."""
    command = [sys.executable, "-m", "gpu_checks.decode", *([data] if data else [])]
    with (logs / "decode.log").open("w", encoding="utf-8") as errors:
        # Stages report images that cannot be used.
        process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=errors, stderr=errors, start_new_session=True
        )
        try:
            yield
        finally:
            end_group(process)


def _not_begun(stage: Stage, reason: str) -> Check:
    check = Check(stage.name, "all checks", Outcome.NOT_MEASURED, reason)
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
