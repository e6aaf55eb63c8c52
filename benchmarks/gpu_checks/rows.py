"""Stage 8: the rows of ``benchmarks/training.py``, each group in its own process."""

from __future__ import annotations

import json
import re
import sys
import time
from typing import Any

from harness import last_error

from gpu_checks.processes import MARGIN_SECONDS, run_limited
from gpu_checks.records import NO_GPU, PROJECT, Check, Outcome, Recorder
from gpu_checks.subjects import Setting

SCRIPT = PROJECT / "benchmarks" / "training.py"


def record(setting: Setting, recorder: Recorder) -> None:
    """Compare with a script of the CIFAR-10 speed record."""
    _measure_on_gpu(setting, recorder, "record")


def memory(setting: Setting, recorder: Recorder) -> None:
    """Compare predicted with measured memory; also fast without a GPU."""
    _measure(setting, recorder, "memory")


def sharing(setting: Setting, recorder: Recorder) -> None:
    """Compare trainings that share the GPU with one alone."""
    _measure_on_gpu(setting, recorder, "sharing")


def utilisation(setting: Setting, recorder: Recorder) -> None:
    """Compare a large network with a matrix product."""
    _measure_on_gpu(setting, recorder, "utilisation")


def speed(setting: Setting, recorder: Recorder) -> None:
    """Compare with the loop of a practitioner, and with the bare step."""
    _measure_on_gpu(setting, recorder, "speed")


def accuracy(setting: Setting, recorder: Recorder) -> None:
    """Train for sixty seconds."""
    _measure_on_gpu(setting, recorder, "accuracy")


def _measure_on_gpu(setting: Setting, recorder: Recorder, group: str) -> None:
    if setting.on_gpu:
        _measure(setting, recorder, group)
    else:
        recorder.lack([f"the rows of {group}"], NO_GPU)


def _measure(setting: Setting, recorder: Recorder, group: str) -> None:
    """Run the script for one group of rows, and record the measured rows."""
    file, log = (setting.folder / f"rows-{group}.{ending}" for ending in ("json", "log"))
    file.unlink(missing_ok=True)
    command = [sys.executable, str(SCRIPT), "--quick", "--rows", group, "--json", str(file)]
    if setting.data is not None:
        command += ["--data", setting.data]
    limit = setting.seconds_left() - MARGIN_SECONDS
    started = time.perf_counter()
    with log.open("w", encoding="utf-8") as errors:
        code = run_limited(command, limit, errors=errors)
    seconds = round(time.perf_counter() - started, 2)
    rows: list[dict[str, Any]] = json.loads(file.read_text("utf-8")) if file.exists() else []
    for row in rows:
        recorder.add(_as_check(group, row, seconds))
    outcome = Outcome.FAILED
    if code is None:
        # Lack of time is not a fault of the project.
        outcome = Outcome.NOT_MEASURED
        detail = f"not ended after {limit:.0f} s; rows measured before are saved"
    elif code != 0 and not any("error" in row for row in rows):
        detail = f"exit code {code}: {last_error(log.read_text(encoding='utf-8'))}"
    else:
        return
    recorder.add(Check(group, "all rows are measured", outcome, detail, seconds=seconds))


def _as_check(group: str, row: dict[str, Any], seconds: float) -> Check:
    figures = {"row": row}
    if "error" in row:
        return Check(group, row["figure"], Outcome.FAILED, row["error"], figures, seconds)
    values = f"{row['ours']:.4g} against {row['baseline']:.4g} {row['unit']}"
    detail = f"{values}, ratio {row['ratio']:.3g}, target: {row['target']}"
    least = re.fullmatch(r"ratio (?:>= )?([\d.]+)", row["target"])
    missed = least is not None and row["ratio"] < float(least[1])
    outcome = Outcome.MISSED if missed else Outcome.PASSED
    return Check(group, row["figure"], outcome, detail, figures, seconds)
