"""Results without a training, for tests of pages."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.published.border_layer.networks import main_path
from experiments.reproduction.records import Case, Outcome, Probes, Result
from trainables.probes.records import LayerProbes


def result(case: Case, seed: int = 0, accuracy: float = 0.5, **fields: object) -> Result:
    """Return a result of a case with a test accuracy and other fields of the outcome."""
    costs = case.candidate.costs
    values: dict[str, object] = {
        "key": case.name,
        "seed": seed,
        "train_accuracy": accuracy,
        "test_accuracy": accuracy,
        "test_loss": 1.0,
        "train_accuracies": (accuracy / 2, accuracy),
        "validation_accuracies": (accuracy / 2, accuracy),
        "train_losses": (2.0, 1.0),
        "validation_losses": (2.0, 1.0),
        "params": costs.params,
        "trained_params": costs.params,
        "macs": costs.macs,
        "cpu_seconds": 1.0,
        "wall_seconds": 1.0,
        "images": "cifar10",
        "device": "cpu",
        "versions": "python 3, torch 2",
        "date": "2026-01-31",
    }
    return Result(case, Outcome.model_validate(values | fields))


def probes(case: Case, accuracies: Sequence[float], saturations: Sequence[float]) -> Probes:
    """Return probes of the main path; other convolutions have none."""
    architecture = case.candidate.architecture
    names = [architecture.layers[index].name for index in main_path(architecture)]
    layers = tuple(
        LayerProbes(name, (3, 3), 8, probe_accuracy=accuracy, saturation=saturation)
        for name, accuracy, saturation in zip(names, accuracies, saturations, strict=True)
    )
    return Probes(accuracy=0.5, images=100, border=None, disabled_features=None, layers=layers)
