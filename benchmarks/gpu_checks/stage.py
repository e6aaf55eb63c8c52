"""Runs one stage in its own process: ``gpu_checks.stage NAME WORK FILE DEADLINE OUT [DATA]``."""

from __future__ import annotations

import pkgutil
import signal
import sys
from pathlib import Path

from gpu_checks.records import Recorder
from gpu_checks.subjects import setting
from trainables.training.process import prepare_process


def main(
    name: str, work: str, file: str, deadline: str, folder: str, data: str | None = None
) -> None:
    """Run the checks of a stage, and record them in a file."""
    # Ending the stage also ends the processes that it has started.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    prepare_process(1)
    make_checks = pkgutil.resolve_name(work)
    make_checks(setting(float(deadline), data, Path(folder)), Recorder(name, Path(file)))


if __name__ == "__main__":
    main(*sys.argv[1:])
