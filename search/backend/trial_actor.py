"""The Ray Tune trainable: runs trials in a process of their own.

The driver imports this module, but only the processes of trials import torch, which takes two
seconds and 300 MB.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ray import tune

from trainables.specs import TrainingSpec

if TYPE_CHECKING:
    from trainables.trial import Trial


class TrialActor(tune.Trainable):
    """Hands Ray Tune's calls to `trainables.trial.Trial`."""

    _trial: Trial

    def setup(self, config: dict[str, Any], spec: TrainingSpec) -> None:  # type: ignore[override]
        """Begin the first trial of this process."""
        from trainables.trial import Trial  # noqa: PLC0415 - imports torch

        self._trial = Trial(config, spec)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        """Begin the next trial in the same process."""
        self._trial.reset(new_config)
        return True

    def step(self) -> dict[str, Any]:
        """Train one epoch."""
        return self._trial.step()

    def cleanup(self) -> None:
        """Save a trial that ends before its last epoch."""
        self._trial.stop()
