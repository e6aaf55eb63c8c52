"""Stage 3: in float32 all ways to run a training give equal results."""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch

from gpu_checks.inside import eager, float32, streamed
from gpu_checks.records import Finding, Recorder, expect
from gpu_checks.subjects import EVERYTHING, Setting
from spaces.candidate import Candidate
from trainables.epoch_metrics import EpochMetrics
from trainables.training.loop import Training

EPOCHS = 2
TOLERANCE = 1e-3
"""Maximum difference of losses: a GPU sums in any order."""


def check_exactness(setting: Setting, recorder: Recorder) -> None:
    """Compare trainings that must agree."""
    plain = setting.candidate()
    recipe: dict[str, Any] = {"optimizer": "adamw", "learning_rate": 2e-3, "ema": 0.9, "clip": 0.5}
    full = setting.candidate(0.2, **recipe)

    def captured_against_eager(chosen: Candidate, **options: Any) -> Callable[[], Finding]:
        def work() -> Finding:
            setting.need_gpu()
            with float32():
                captured = setting.train(chosen, EPOCHS, **options)
                ours = results(captured)
                expect(captured.is_captured, "steps are not captured")
                with eager():
                    other = setting.train(chosen, EPOCHS, **options)
                theirs = results(other)
                expect(not other.is_captured, "steps are captured")
            return compare(ours, theirs)

        return work

    def resumed() -> Finding:
        with float32():
            options: dict[str, Any] = {"augmentation": EVERYTHING}
            whole = results(setting.train(full, EPOCHS, **options))
            interrupted = setting.train(full, EPOCHS, **options)
            before = [interrupted.run_epoch()]
            file = io.BytesIO()
            torch.save(interrupted.state_dict(), file)
            file.seek(0)
            resumed = setting.train(full, EPOCHS, **options)
            resumed.load_state_dict(torch.load(file, weights_only=True))
            return compare(whole, [*before, *results(resumed)])

    def streamed_against_resident() -> Finding:
        found = []
        for context in (nullcontext(), streamed()):
            with float32(), context:
                trained = setting.train(full, EPOCHS, augmentation=EVERYTHING)
                found.append(results(trained))
            if setting.on_gpu:
                expect(trained.is_captured, "steps are not captured")
        return compare(*found)

    recorder.check("captured steps against eager ones", captured_against_eager(plain))
    recorder.check(
        "captured steps against eager ones, with dropout",
        captured_against_eager(setting.candidate(0.2)),
    )
    recorder.check(
        "captured steps against eager ones, with everything",
        captured_against_eager(full, augmentation=EVERYTHING),
    )
    recorder.check("interrupted and resumed against uninterrupted", resumed)
    recorder.check("streamed images against resident ones", streamed_against_resident)


def results(trained: Training) -> list[EpochMetrics]:
    """Run all remaining epochs."""
    return [trained.run_epoch() for _ in range(trained.epochs - trained.epoch)]


def compare(ours: list[EpochMetrics], theirs: list[EpochMetrics]) -> Finding:
    """Compare the losses of two trainings, epoch by epoch."""
    losses = [
        [(result.train_loss, result.validation_loss) for result in each] for each in (ours, theirs)
    ]
    difference = max(
        abs(a - b)
        for mine, other in zip(*losses, strict=True)
        for a, b in zip(mine, other, strict=True)
    )
    figures = {"ours": losses[0], "theirs": losses[1], "difference": difference}
    # Also false if a loss is NaN.
    expect(difference <= TOLERANCE, f"losses differ by {difference:.2g}", figures)
    return Finding(f"losses differ by {difference:.2g}", figures)
