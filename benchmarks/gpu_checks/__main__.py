"""Runs all stages: ``sh benchmarks/on_gpu.sh [tests|bench|all] [OUT] [DATA]``.

Checks and measures training on a GPU in at most nine minutes, without Ray, a server or a network.
Each stage runs in its own process with a time limit: a stage that crashes or hangs loses only its
own results. On a machine without a GPU, checks that need one are ``not measured: no GPU``.

After every stage it writes OUT/results.json: device, versions, date, all checks, and the figures of
``benchmarks/training.py``. The exit code is 1 if a check failed.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from gpu_checks.runner import MOST_SECONDS, run_stages
from gpu_checks.stages import STAGES, stages_of


def main() -> int:
    """Run the stages given on the command line."""
    parser = argparse.ArgumentParser(
        prog="on_gpu.sh", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", nargs="?", choices=("tests", "bench", "all"), default="all")
    parser.add_argument("out", nargs="?", type=Path, default=Path("gpu-results"), metavar="OUT")
    parser.add_argument("data", nargs="?", metavar="DATA", help="images:PATH or cifar10")
    names = [stage.name for stage in STAGES]
    parser.add_argument(
        "--stages", help=f"run only these stages, comma separated: {', '.join(names)}"
    )
    parser.add_argument(
        "--seconds", type=float, default=MOST_SECONDS, help="time limit of all stages"
    )
    given = parser.parse_args()
    chosen = stages_of(given.part)
    if given.stages is not None:
        asked = given.stages.split(",")
        if unknown := set(asked) - set(names):
            parser.error(f"--stages: unknown are {', '.join(sorted(unknown))}")
        chosen = [stage for stage in chosen if stage.name in asked]
    return run_stages(chosen, given.out.resolve(), given.data, given.seconds)


if __name__ == "__main__":
    sys.exit(main())
