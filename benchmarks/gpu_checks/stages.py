"""All stages, in the order that finds most faults earliest."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Stage:
    """A part of the checks that runs in its own process.

    Attributes:
        name: name of the stage.
        work: ``module:function``, called with the setting and a recorder.
        seconds: its time limit.
        part: ``tests`` or ``bench``; None for both.
        least: minimum remaining seconds to start the stage.
    """

    name: str
    work: str
    seconds: float
    part: str | None = "tests"
    least: float = 10.0


STAGES = (
    Stage("machine", "gpu_checks.machine:check_machine", 60, None),
    Stage("capture", "gpu_checks.captured:check_capture", 60),
    Stage("exactness", "gpu_checks.exact:check_exactness", 60),
    Stage("failures", "gpu_checks.failures:check_failures", 60),
    Stage("reuse", "gpu_checks.reuse:check_reuse", 60),
    Stage("operations", "gpu_checks.operations:check_operations", 60),
    Stage("tests", "gpu_checks.suite:run_tests", 120),
    Stage("record", "gpu_checks.rows:record", 90, "bench"),
    Stage("memory", "gpu_checks.rows:memory", 80, "bench"),
    Stage("utilisation", "gpu_checks.rows:utilisation", 60, "bench"),
    Stage("profile", "gpu_checks.profiled:profile_replays", 40, "bench"),
    Stage("sharing", "gpu_checks.rows:sharing", 120, "bench"),
    Stage("speed", "gpu_checks.rows:speed", 120, "bench"),
    Stage("accuracy", "gpu_checks.rows:accuracy", 125, "bench", least=110),
)


def stages_of(part: str) -> list[Stage]:
    """Return the stages of ``tests``, ``bench`` or ``all``."""
    return [stage for stage in STAGES if part == "all" or stage.part in (None, part)]
