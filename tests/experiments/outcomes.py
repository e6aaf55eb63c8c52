"""Results without a training, for tests of pages."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.published.border_layer_networks import main_path
from experiments.reproduction.records import Case, Outcome, Probes, Result
from trainables.probes.records import LayerProbes


def result(case: Case, seed: int = 0, accuracy: float = 0.5, **fields: object) -> Result:
    """Return a result of a case with a test accuracy and other fields of the outcome."""
    costs = case.candidate.costs
    values = {
        "test_accuracy": accuracy,
        "train_accuracy": accuracy,
        "params": costs.params,
        "macs": costs.macs,
        "probes": None,
    }
    # Pages read few fields; the others have no influence.
    outcome = Outcome.model_construct(key=case.name, seed=seed, **(values | fields))
    return Result(case, outcome)


def probes(case: Case, accuracies: Sequence[float], saturations: Sequence[float]) -> Probes:
    """Return probes of the main path; other convolutions have none."""
    architecture = case.candidate.architecture
    names = [architecture.layers[index].name for index in main_path(architecture)]
    layers = tuple(
        LayerProbes(name, (3, 3), 8, probe_accuracy=accuracy, saturation=saturation)
        for name, accuracy, saturation in zip(names, accuracies, saturations, strict=True)
    )
    return Probes(accuracy=0.5, images=100, border=None, disabled_features=None, layers=layers)
