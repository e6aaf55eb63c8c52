"""The lines that a running search prints beside those of its trials."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

from search.loop.simulated_clock import SimulatedClock
from search.loop.time_left.estimate import TimeLeft
from search.reporting.progress import LINE_EVERY, ProgressDisplay
from search.study.events import StartedTrial
from trainables.epoch_metrics import EpochMetrics


def run(console: Any, seconds: float, left: float = 90.0) -> None:
    """Report five epochs of two trials at equal distances."""
    clock = SimulatedClock()
    progress = ProgressDisplay(
        console, 8, 9, left=lambda: TimeLeft(left, 0.0, left, left), clock=clock.read
    )
    for number in (4, 5):
        progress.started(cast("StartedTrial", SimpleNamespace(number=number)))
    for epoch in range(1, 6):
        clock.now += seconds
        for number in (4, 5):
            progress.reported(
                number, EpochMetrics(epoch, 0.0, 0.0, 0.0, 0.1 * number + epoch / 100, 1.0)
            )


def test_long_epochs_print_a_line_each_minute(printed: Callable[..., str]) -> None:
    lines = printed(lambda console: run(console, LINE_EVERY)).splitlines()
    assert len(lines) == 5
    assert lines[1].startswith("running: trial 5 epoch 1/9 (0.5100), trial 4 epoch 2/9 (0.4200) |")
    assert "2 running, 0 stopped early, 3 epochs trained" in lines[1]
    assert lines[1].endswith("2m00s elapsed, 1m30s left")


def test_short_epochs_print_no_flood_of_lines(printed: Callable[..., str]) -> None:
    assert len(printed(lambda console: run(console, LINE_EVERY / 4)).splitlines()) == 1
