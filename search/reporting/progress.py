"""Progress of a running search: a line for each trial, or each minute, and a status line."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from types import TracebackType
from typing import Self

from optuna.trial import TrialState
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from search.console import say
from search.formatting import duration, plural
from search.loop.time_left.estimate import TimeLeft
from search.study.events import Observer, StartedTrial
from search.study.records import Rejection
from search.study.summary import Summary
from trainables.epoch_metrics import EpochMetrics

LINE_EVERY = 60.0
"""Seconds without a line after which the next epoch prints one."""
_RUNNING_SHOWN = 3
_PREDICT_EVERY = 5.0
"""Seconds between two predictions of the time left, which take milliseconds each."""
_OUTCOMES = {
    TrialState.COMPLETE: "complete",
    TrialState.PRUNED: "stopped early",
    TrialState.FAIL: "FAILED",
}


class ProgressDisplay(Observer):
    """Prints the progress of the trials.

    Args:
        console: to print to.
        trials: number of trials to train.
        epochs: length of a whole training.
        before: summary of the search when its driver started.
        budget: returns the spent and the remaining budget, apart from trials.
        left: predicts the time left, finalists included.
        clock: seconds that only grow.
    """

    def __init__(
        self,
        console: Console,
        trials: int,
        epochs: int,
        before: Summary | None = None,
        budget: Callable[[], str] = str,
        left: Callable[[], TimeLeft | None] = lambda: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._trials = trials
        self._budget = budget
        self._left = left
        self._predicted: tuple[float, float | None] = (-_PREDICT_EVERY, None)
        self._epochs = epochs
        self._epochs_done = 0
        self._stopped = before.pruned if before else 0
        self._rejections: Counter[str] = Counter()
        self._running: dict[int, StartedTrial] = {}
        self._metrics: dict[int, EpochMetrics] = {}
        self._done = before.trained if before else 0
        self._best: tuple[float, int] | None = None
        if before is not None:
            self._rejections.update(before.rejections)
            if before.best is not None:
                self._best = (before.best.accuracy or 0.0, before.best.number)
        self._clock = clock
        self._started = self._printed_at = clock()
        self._bar = Progress(
            BarColumn(bar_width=20),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
            console=console,
            transient=True,
            disable=not console.is_terminal,
        )
        self._task = self._bar.add_task("starting", total=trials)

    def __enter__(self) -> Self:
        """Start the clock and the status line."""
        self._started = self._printed_at = self._clock()
        self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Remove the status line."""
        self._bar.stop()

    def rejected(self, number: int, rejection: Rejection) -> None:
        """Count the rejection."""
        self._rejections[rejection.reason] += 1
        self._refresh()

    def started(self, trial: StartedTrial) -> None:
        """Count the trial as running."""
        self._running[trial.number] = trial
        self._refresh()

    def reported(self, number: int, metrics: EpochMetrics) -> None:
        """Store the last metrics of the trial, and print a line if none was printed for long."""
        self._metrics[number] = metrics
        self._epochs_done += 1
        if self._clock() - self._printed_at >= LINE_EVERY:
            running = ", ".join(
                f"trial {each} epoch {last.epoch}/{self._epochs} ({last.validation_accuracy:.4f})"
                for each, last in self._latest()
            )
            more = len(self._running) - len(self._latest())
            self._print(f"running: {running}" + (f" and {more} more" if more > 0 else ""))
        self._refresh()

    def _latest(self) -> list[tuple[int, EpochMetrics]]:
        """Return the running trials with the best last accuracies."""
        known = [(n, self._metrics[n]) for n in self._running if n in self._metrics]
        return sorted(known, key=lambda each: -each[1].validation_accuracy)[:_RUNNING_SHOWN]

    def paused(self, number: int) -> None:
        """Print a line, unless the trial ran under an earlier driver."""
        if number in self._running:
            self._ended(number, "interrupted")

    def finished(self, number: int, outcome: TrialState, reason: str) -> None:
        """Print a line for the trial."""
        self._done += 1
        self._stopped += outcome is TrialState.PRUNED
        if outcome is TrialState.COMPLETE:
            reached = self._metrics[number].validation_accuracy
            if self._best is None or reached > self._best[0]:
                self._best = (reached, number)
        self._ended(number, f"{_OUTCOMES[outcome]}: {reason}" if reason else _OUTCOMES[outcome])

    def _ended(self, number: int, outcome: str) -> None:
        trial = self._running.pop(number)
        metrics = self._metrics.pop(number, None)
        epoch, reached, latencies = 0, "-     ", ""
        if metrics is not None:
            epoch, reached = metrics.epoch, f"{metrics.validation_accuracy:.4f}"
            measured = (metrics.latency_ms, metrics.batch_latency_ms)
            latencies = "".join(f"  {each:>8,.2f} ms" for each in measured if each is not None)
        self._print(
            f"[{self._done:>{len(str(self._trials))}}/{self._trials}] trial {number:<4}"
            f" accuracy {reached}  {epoch:>2}/{self._epochs} epochs"
            f"  {trial.costs.params / 1e3:>8,.1f}k params{latencies}"
            f"  {outcome:<13}"
        )
        self._refresh()

    def _print(self, line: str) -> None:
        """Print a line with the state of the search."""
        self._printed_at = self._clock()
        say(self._bar.console, f"{line} | {self._line()}")

    def _line(self) -> str:
        """Return the best accuracy, the rejections and the remaining time."""
        best = f"best {self._best[0]:.4f} (trial {self._best[1]})" if self._best else "no best yet"
        reasons = ", ".join(f"{reason} {n}" for reason, n in self._rejections.most_common())
        rejected = f"rejected {self._rejections.total()}" + (f" ({reasons})" if reasons else "")
        elapsed = self._clock() - self._started
        left = self._time_left(elapsed)
        counts = (
            f"{len(self._running)} running, {self._stopped} stopped early, "
            f"{plural(self._epochs_done, 'epoch')} trained"
        )
        line = f"{best} | {counts} | {rejected} | {duration(elapsed)} elapsed, {left} left"
        budget = self._budget()
        return f"{line} | {budget}" if budget else line

    def _time_left(self, elapsed: float) -> str:
        at, seconds = self._predicted
        if elapsed - at >= _PREDICT_EVERY:
            found = self._left()
            at, seconds = elapsed, None if found is None else found.seconds
            self._predicted = at, seconds
        return "?" if seconds is None else duration(max(0.0, seconds - (elapsed - at)))

    def _refresh(self) -> None:
        self._bar.update(self._task, completed=self._done, description=self._line())
