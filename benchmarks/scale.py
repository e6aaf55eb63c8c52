"""Measures whether long searches use more time or memory: ``python benchmarks/scale.py``.

A whole search runs 2,000 trials of near-zero training (one epoch over some 130 images of 8x8
pixels, tiny networks) in its own process, with the study in sqlite and tracking into a fresh local
MLflow store. The benchmark reads resident memory from the system, and the time of each trial's end
from the journal. It compares the last trials with those around trial 200 by medians.

The sampler ``random``, the default here, has the same cost at any length, so all growth is the
driver's. ``--sampler tpe`` and ``auto`` show the additional cost of samplers that learn from all
trials.

Last figures (300 trials against trial 200, 27 November 2026; AMD EPYC, two cores shared with other
work; Python 3.11.7, torch 2.14.1, Ray 2.60.0, Optuna 5.0.0, MLflow 3.17.2): 1.22 times the time a
trial, 1.00 times the memory.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from bisect import bisect
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from harness import Figure, option_parser, show
from rich.console import Console

from search.experiment.folder import Home
from search.experiment.loading import parse_experiment
from search.experiment.schema import Experiment
from search.tracking.journal_events import PARENT, Finish
from search.tracking.journal_reader import read_all

NAME = "scale"
INTERVAL = 0.2
"""Seconds between two measurements of memory."""
STRETCH = 10
"""Trials per measurement of the time per trial: two train at a time, and end in pairs."""


def experiment(trials: int, sampler: str) -> Experiment:
    return parse_experiment(
        {
            "name": NAME,
            "data": "digits",
            "subset": 0.1,
            "space": {"name": "vgg", "depth": [1, 3], "features": [2, 16]},
            "recipe": {"batch_size": 64},
            "epochs": 1,
            "sampler": sampler,
            "scheduler": {"name": "none"},
            "budget": {"trials": trials},
            "finalists": {"count": 0},
            "resources": {"concurrent": 2, "cpus": 1},
        }
    )


@dataclass(frozen=True)
class Course:
    """Observations of a search.

    Attributes:
        ended: seconds since the epoch at which each trial ended, in order.
        memory: pairs of seconds since the epoch and MB of resident memory.
    """

    ended: list[float]
    memory: list[tuple[float, float]]

    def megabytes(self, first: int, last: int) -> float:
        """Return the median of the driver's memory between the ends of two trials."""
        moments = [moment for moment, _ in self.memory]
        begin, end = (bisect(moments, self.ended[trial]) for trial in (first, last))
        return median(size for _, size in self.memory[begin : max(end, begin + 1)])

    def milliseconds(self, first: int, last: int) -> float:
        """Return the median time per trial between two trials."""
        ends = self.ended
        return median(
            (ends[i + STRETCH] - ends[i]) / STRETCH * 1e3 for i in range(first, last - STRETCH)
        )


def megabytes(pid: int) -> float:
    """Return the resident memory of a process."""
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def observe(trials: int, sampler: str) -> Course:
    """Run a search in its own process and observe it."""
    memory: list[tuple[float, float]] = []
    with tempfile.TemporaryDirectory(prefix="scale-") as folder:
        driver = subprocess.Popen([sys.executable, __file__, folder, str(trials), sampler])
        while driver.poll() is None:
            memory.append((time.time(), megabytes(driver.pid)))
            time.sleep(INTERVAL)
        if driver.returncode:
            raise RuntimeError(f"the search ended with exit code {driver.returncode}")
        events = read_all(Home(Path(folder)).folder(NAME).journal)
        ended = [e.time / 1e3 for e in events if isinstance(e, Finish) and e.run != PARENT]
    return Course(ended, memory)


def main() -> None:
    parser = option_parser(__doc__)
    parser.add_argument("--sampler", choices=("random", "tpe", "auto"), default="random")
    given = parser.parse_args()
    trials, early_trial, width = (60, 25, 20) if given.quick else (2000, 200, 100)
    course = observe(trials, given.sampler)
    early = early_trial - width // 2, early_trial + width // 2
    late = trials - width, trials - 1
    print_course(course, width)
    rows = (("ms a trial", course.milliseconds, "ms"), ("driver's memory", course.megabytes, "MB"))
    figures = [
        Figure(
            f"{what}, {given.sampler}, at trial {trials}; against at trial {early_trial}",
            measure(*late),
            measure(*early),
            measure(*late) / measure(*early),
            "ratio <= 1.5",
            unit,
        )
        for what, measure, unit in rows
    ]
    show(figures, given.json)


def print_course(course: Course, width: int) -> None:
    """Print time and memory over the whole search."""
    windows = range(width, len(course.ended) - width, max(width, len(course.ended) // 10))
    for first in windows:
        window = first, first + width
        print(
            f"trial {first:>5,}: {course.milliseconds(*window):6.0f} ms a trial,"
            f" {course.megabytes(*window):6.0f} MB"
        )


if __name__ == "__main__":
    if len(sys.argv) == 4 and sys.argv[2].isdigit():
        from search.driver.run import run_search

        searched = experiment(int(sys.argv[2]), sys.argv[3])
        run_search(searched, Home(Path(sys.argv[1])), Console(quiet=True))
    else:
        main()
