"""One module per published experiment; each defines ``EXPERIMENT``."""

from __future__ import annotations

from difflib import get_close_matches
from importlib import import_module

from experiments.reproduction.records import Experiment
from spaces.errors import BadInputError

NAMES: tuple[str, ...] = (
    "batchnorm_only",
    "border_layer",
    "classic_networks",
    "layer_triviality",
    "layerwise_features",
)
"""Names of all experiments, which are those of their modules."""


def find(name: str) -> Experiment:
    """Return an experiment.

    Args:
        name: one of `NAMES`; hyphens stand for underscores.

    Raises:
        BadInputError: the name is unknown.
    """
    wanted = name.replace("-", "_")
    if wanted not in NAMES:
        close = get_close_matches(wanted, NAMES, n=1)
        remedy = f"did you mean {close[0]}?" if close else f"use one of {', '.join(NAMES)}"
        raise BadInputError("reproduce", name, "unknown experiment", remedy)
    experiment: Experiment = import_module(f"{__name__}.{wanted}").EXPERIMENT
    return experiment
