"""Stage 2: with every recipe, steps are captured and never wait for the device."""

from __future__ import annotations

import math
from itertools import product
from typing import Any

from gpu_checks.inside import Warnings, take_watched_steps
from gpu_checks.records import NO_GPU, Finding, Recorder, expect
from gpu_checks.subjects import EVERYTHING, Setting
from spaces.candidate import Candidate
from trainables.specs import Augmentation

SPEED_RECORDS: dict[str, dict[str, Any]] = {
    "muon": {"optimizer": "muon"},
    "muon without momentum": {"optimizer": "muon", "momentum": 0.0},
    "rate of norm biases": {"norm_bias_rate": 64},
    "dirac, lookahead": {"initialization": "dirac", "lookahead": 5},
    "whitening, small images": {"first_layer": "whitening", "small_images": 0.5},
    "muon, rate of norm biases, lookahead, moving average, clipping": {
        "optimizer": "muon",
        "norm_bias_rate": 8,
        "lookahead": 5,
        "ema": 0.99,
        "clip": 0.5,
    },
}
"""Changes to the plain recipe that come from the CIFAR-10 speed records."""
WATCHED = 2
"""Number of observed eager steps."""


def check_capture(setting: Setting, recorder: Recorder) -> None:
    """Train one epoch of each size of images with each kind of recipe."""
    for optimizer, ema, clip, augmentation, dropout in product(
        ("sgd", "adamw"), (0.0, 0.99), (0.0, 0.5), (Augmentation(), EVERYTHING), (0.0, 0.2)
    ):
        words = (
            optimizer,
            ema and "moving average",
            clip and "clipping",
            augmentation is EVERYTHING and "all augmentations",
            dropout and "dropout",
        )
        name = ", ".join(word for word in words if word)
        rate = 0.02 if optimizer == "sgd" else 0.002
        recipe = {"optimizer": optimizer, "ema": ema, "clip": clip, "learning_rate": rate}
        _check_recipe(setting, recorder, name, setting.candidate(dropout, **recipe), augmentation)
    for name, changes in SPEED_RECORDS.items():
        _check_recipe(setting, recorder, name, setting.candidate(**changes), EVERYTHING)
    for optimizer in ("sgd", "adamw"):
        chosen = setting.candidate(optimizer=optimizer, trainable="batchnorm")
        _check_recipe(setting, recorder, f"{optimizer}, batch norms only", chosen, EVERYTHING)
    if not setting.on_gpu:
        recorder.lack(("steps are captured", "no step waits for the device"), NO_GPU)


def _check_recipe(
    setting: Setting,
    recorder: Recorder,
    name: str,
    chosen: Candidate,
    augmentation: Augmentation,
) -> None:
    def work() -> Finding:
        sizes = 2 if chosen.recipe.small_images else 1
        trained = setting.train(chosen, epochs=1 + sizes, augmentation=augmentation)
        with Warnings() as warned:
            for _ in range(sizes):
                result = trained.run_epoch()
        expect(math.isfinite(result.train_loss), f"the loss is {result.train_loss}")
        figures = {"train_loss": result.train_loss, "seconds": result.epoch_seconds}
        if setting.on_gpu:
            reason = ", ".join(warned.messages) or "without a warning"
            expect(trained.is_captured, f"steps are not captured: {reason}", figures)
            take_watched_steps(trained, WATCHED)
        return Finding(figures=figures)

    recorder.check(name, work)
