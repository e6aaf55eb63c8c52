"""Describes a network by few params that every family has, as text and as numbers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import groupby

from spaces.architecture import Architecture
from spaces.operations import Convolution, Pooling
from spaces.receptive_field import gate_branches

LAYERS = 16
"""Convolutions with a param each; an experiment of thousands of runs has to load them all."""


def describe(architecture: Architecture) -> dict[str, str | int]:
    """Return a short description that fits networks of any family."""
    features = _features(architecture)
    return {
        "convolutions": len(architecture.indices(Convolution)),
        "features": "-".join(_runs(features)),
        "pools_after": ",".join(map(str, _pools(architecture))) or "none",
        "kernel": "/".join(map(str, sorted(_kernels(architecture)))),
    }


def layer_params(architecture: Architecture) -> dict[str, int]:
    """Return numbers that charts can show on one axis each.

    Every network has the same numbers, because MLflow's charts leave out runs that lack one.
    Convolutions that only compute gates are left out.

    Returns:
        Number of poolings; features of the first, middle, last and widest convolution; features of
        each of the first `LAYERS` convolutions, 0 where the network has fewer.
    """
    features = _features(architecture) or [0]
    layers = [*features[:LAYERS], *[0] * (LAYERS - len(features))]
    return {
        "pools": len(_pools(architecture)),
        "features_first": features[0],
        "features_middle": features[len(features) // 2],
        "features_last": features[-1],
        "features_largest": max(features),
        **{f"features_{number:02}": amount for number, amount in enumerate(layers, start=1)},
    }


def _convolutions(architecture: Architecture) -> Iterator[Convolution]:
    """Yield the convolutions outside gates, in order."""
    aside = gate_branches(architecture)
    for index in architecture.indices(Convolution):
        operation = architecture.layers[index].operation
        if index not in aside and isinstance(operation, Convolution):
            yield operation


def _features(architecture: Architecture) -> list[int]:
    return [convolution.features for convolution in _convolutions(architecture)]


def _kernels(architecture: Architecture) -> set[int]:
    return {max(convolution.kernel) for convolution in _convolutions(architecture)}


def _pools(architecture: Architecture) -> list[int]:
    """Return the number of convolutions before each pooling."""
    convolutions = architecture.indices(Convolution)
    return [
        sum(1 for convolution in convolutions if convolution < index)
        for index in architecture.indices(Pooling)
    ]


def _runs(amounts: Sequence[int]) -> Iterator[str]:
    """Yield 64x3 for three equal amounts in a row, which deep networks often have."""
    for amount, group in groupby(amounts):
        count = len(list(group))
        yield str(amount) if count == 1 else f"{amount}x{count}"
