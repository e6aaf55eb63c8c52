"""All stages, the most important first, because time may run out."""

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
        needs_gpu: whether no check of it runs without a GPU.
    """

    name: str
    work: str
    seconds: float
    part: str | None = "tests"
    least: float = 10.0
    needs_gpu: bool = False


STAGES = (
    Stage("machine", "gpu_checks.machine:check_machine", 60, None),
    # Figures mean little if steps are not captured, or give other results.
    Stage("capture", "gpu_checks.captured:check_capture", 50),
    Stage("exactness", "gpu_checks.exact:check_exactness", 50),
    Stage("record", "gpu_checks.rows:record", 90, "bench", needs_gpu=True),
    Stage("accuracy", "gpu_checks.rows:accuracy", 100, "bench", least=85, needs_gpu=True),
    Stage("first_step", "gpu_checks.rows:first_step", 40, "bench"),
    Stage("speed", "gpu_checks.rows:speed", 110, "bench", needs_gpu=True),
    Stage("utilisation", "gpu_checks.rows:utilisation", 45, "bench", needs_gpu=True),
    Stage("sharing", "gpu_checks.rows:sharing", 110, "bench", needs_gpu=True),
    Stage("memory", "gpu_checks.rows:memory", 60, "bench"),
    Stage("failures", "gpu_checks.failures:check_failures", 50),
    Stage("reuse", "gpu_checks.reuse:check_reuse", 50),
    Stage("operations", "gpu_checks.operations:check_operations", 50),
    Stage("cudnn", "gpu_checks.rows:cudnn", 45, "bench", needs_gpu=True),
    Stage("compile", "gpu_checks.rows:compiled", 90, "bench", needs_gpu=True),
    Stage("roofline", "gpu_checks.rows:roofline", 45, "bench", needs_gpu=True),
    Stage("profile", "gpu_checks.profiled:profile_replays", 40, "bench", needs_gpu=True),
    Stage("tests", "gpu_checks.suite:run_tests", 120),
)


def stages_of(part: str) -> list[Stage]:
    """Return the stages of ``tests``, ``bench`` or ``all``."""
    return [stage for stage in STAGES if part == "all" or stage.part in (None, part)]
