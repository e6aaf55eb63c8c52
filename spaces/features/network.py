"""Describes an architecture by a fixed number of named features.

Every architecture has the same features, whatever space drew it and however deep it is, so a
surrogate model compares all of them. Amounts are logarithms to base 2, because networks differ by
factors. Convolutions that only compute gates (squeeze-and-excitation, attention) are left out of
depths and profiles.
"""

from __future__ import annotations

from collections import Counter
from math import log2

from spaces.architecture import Architecture
from spaces.costs import Costs, costs
from spaces.features.profile import POINTS, average, interpolate
from spaces.operations import (
    ACTIVATIONS,
    CONVOLUTIONS,
    NORMS,
    Activation,
    Add,
    Concat,
    Convolution,
    Dropout,
    Gate,
    Linear,
    Norm,
    Pooling,
)
from spaces.receptive_field import (
    ReceptiveField,
    field_inputs,
    gate_branches,
    receptive_fields,
)

VERSION = 1
"""Version of the list of features and their definitions; a change of either raises it."""
LEVELS = 6
"""Levels of resolution, by halvings of the image's sides; the last one holds the rest, too."""

PROFILES = ("width", "resolution", "smallest_field", "largest_field", "kernel", "macs")
"""Quantities by relative depth, see `NETWORK_FEATURES`."""
BY_LEVEL = ("convolutions", "level_width", "level_macs")
"""Quantities by level of resolution, see `NETWORK_FEATURES`."""

NETWORK_FEATURES: tuple[str, ...] = (
    *("params", "macs", "kept_values", "peak_values"),
    *("depth", "longest_path", "shortest_path", "beyond_shortest", "beyond_longest"),
    *("adds", "concats", "gates", "poolings", "max_poolings"),
    *("grouped", "pointwise", "dilation"),
    *("hidden_layers", "hidden_features", "dropout"),
    *(f"activation_{name}" for name in (*ACTIVATIONS, "other")),
    *(f"norm_{name}" for name in (*NORMS, "other")),
    *(f"{name}_{place}" for name in PROFILES for place in range(1, POINTS + 1)),
    *(f"{name}_{level}" for name in BY_LEVEL for level in range(LEVELS)),
)
"""Names of the features of an architecture, in order.

- ``params``, ``macs``, ``kept_values``, ``peak_values``: costs, see `spaces.costs.Costs`.
- ``depth``: number of convolutions; ``longest_path`` and ``shortest_path`` count those on the way
  from the image to the output.
- ``beyond_shortest``, ``beyond_longest``: convolutions whose input sees more than the image, by
  the smallest or the largest receptive field.
- ``adds``, ``concats``, ``gates``, ``poolings``: number of these layers; ``max_poolings``: fraction
  of the poolings that take the maximum.
- ``grouped``, ``pointwise``: fraction of convolutions with groups or with a 1x1 kernel;
  ``dilation``: mean over all.
- ``hidden_layers``, ``hidden_features``: fully connected layers before the last one, and the mean
  of their features; ``dropout``: sum of the rates.
- ``activation_*``, ``norm_*``: fraction of these layers with each function or norm.
- by relative depth (eight values each, first to last): ``width``, the features of convolutions;
  ``resolution``, the pixels of their output relative to the image; ``smallest_field`` and
  ``largest_field``, relative to the image; ``kernel``, with dilation; ``macs``. The last two are
  means over the eighth, because they alternate from layer to layer.
- by level of resolution (six values each, the image first): number of ``convolutions``; the largest
  width (``level_width``); ``level_macs``.
"""


def network_features(
    architecture: Architecture, known_costs: Costs | None = None
) -> tuple[float, ...]:
    """Return the values of `NETWORK_FEATURES`; equal for architectures with equal layers.

    Args:
        architecture: to describe.
        known_costs: of the architecture; None derives them.

    Raises:
        CollapsedLayerError: a feature map has less than one pixel.

    Example:
        >>> from spaces.named import named
        >>> from spaces.task import Task
        >>> net = named("resnet18", Task(channels=3, height=32, width=32, classes=10))
        >>> values = dict(zip(NETWORK_FEATURES, network_features(net), strict=True))
        >>> round(2 ** values["depth"] - 1), values["adds"]
        (20, 8.0)
    """
    layers, shapes = architecture.layers, architecture.shapes
    fields = receptive_fields(architecture)
    aside = gate_branches(architecture)
    convolutions = [i for i in architecture.indices(*CONVOLUTIONS) if i not in aside]
    height, width = shapes[0][1:]
    found = known_costs or costs(architecture)
    longest, shortest = _path_lengths(architecture)

    beyond_shortest = beyond_longest = grouped = pointwise = dilation = 0
    profiles: dict[str, list[float]] = {name: [] for name in PROFILES}
    counts, widths, level_macs = [0] * LEVELS, [0] * LEVELS, [0] * LEVELS
    side = log2(height * width)
    for index in convolutions:
        operation, inputs, *_ = layers[index]
        seen = [fields[i] for i in field_inputs(architecture, index, False)]
        beyond_shortest += _exceeds(seen, height, width, largest=False)
        beyond_longest += _exceeds(seen, height, width, largest=True)
        if type(operation) is Convolution:
            grouped += operation.groups > 1
            dilation += operation.dilation[0]
        windows = architecture.windows[index]
        kernel = float(windows[0][0] * windows[1][0]) if windows is not None else 1.0
        pointwise += kernel == 1.0
        channels, rows, columns = shapes[index]
        macs = operation.macs(tuple([shapes[i] for i in inputs]), shapes[index])
        pixels = log2(rows * columns)
        field = fields[index]
        profiles["width"].append(log2(channels))
        profiles["resolution"].append(pixels - side)
        profiles["smallest_field"].append(log2(field.smallest[0] * field.smallest[1]) - side)
        profiles["largest_field"].append(log2(field.largest[0] * field.largest[1]) - side)
        profiles["kernel"].append(log2(kernel))
        profiles["macs"].append(log2(1 + macs))
        level = min(max(round((side - pixels) / 2), 0), LEVELS - 1)
        counts[level] += 1
        widths[level] = max(widths[level], channels)
        level_macs[level] += macs
    number = max(len(convolutions), 1)
    values = [
        *map(_log, (found.params, found.macs, found.kept_values, found.peak_values)),
        *map(_log, (len(convolutions), longest, shortest, beyond_shortest, beyond_longest)),
        *_layer_counts(architecture),
        grouped / number,
        pointwise / number,
        dilation / number,
        *_head(architecture),
        *_kinds(architecture),
    ]
    for name in PROFILES:
        read = average if name in ("kernel", "macs") else interpolate
        values += read(profiles[name])
    for amounts in (counts, widths, level_macs):
        values += map(_log, amounts)
    return tuple(values)


def _log(amount: int) -> float:
    """Return the logarithm of an amount that may be 0."""
    return log2(1 + amount)


def _exceeds(seen: list[ReceptiveField], height: int, width: int, *, largest: bool) -> bool:
    """Tell whether the inputs of a layer see more than the image along both axes."""
    if largest:
        return any(each.largest[0] > height and each.largest[1] > width for each in seen)
    return all(each.smallest[0] > height and each.smallest[1] > width for each in seen)


def _path_lengths(architecture: Architecture) -> tuple[int, int]:
    """Return the convolutions along the longest and the shortest path to the output."""
    longest, shortest = [0], [0]
    for index in range(1, len(architecture.layers)):
        own = type(architecture.layers[index].operation) in CONVOLUTIONS
        inputs = field_inputs(architecture, index, False)
        longest.append(own + max([longest[i] for i in inputs]))
        shortest.append(own + min([shortest[i] for i in inputs]))
    return longest[-1], shortest[-1]


def _layer_counts(architecture: Architecture) -> list[float]:
    poolings = [architecture.layers[i].operation for i in architecture.indices(Pooling)]
    maxima = sum(each.mode == "max" for each in poolings if isinstance(each, Pooling))
    joins = [float(len(architecture.indices(kind))) for kind in (Add, Concat, Gate)]
    return [*joins, float(len(poolings)), maxima / max(len(poolings), 1)]


def _head(architecture: Architecture) -> list[float]:
    hidden = architecture.indices(Linear)[:-1]
    features = sum(architecture.shapes[i][0] for i in hidden) / max(len(hidden), 1)
    drops = [architecture.layers[i].operation for i in architecture.indices(Dropout)]
    rates = sum(each.rate for each in drops if isinstance(each, Dropout))
    return [float(len(hidden)), log2(1 + features), float(rates)]


def _kinds(architecture: Architecture) -> list[float]:
    """Return the fraction of each function among activations, and of each norm among norms."""
    activations: Counter[str] = Counter()
    norms: Counter[str] = Counter()
    for operation, *_ in architecture.layers:
        if type(operation) is Activation:
            activations[operation.function] += 1
        elif type(operation) is Norm:
            norms[operation.norm] += 1
    return [*_fractions(activations, ACTIVATIONS), *_fractions(norms, NORMS)]


def _fractions(counts: Counter[str], known: tuple[str, ...]) -> list[float]:
    total = max(counts.total(), 1)
    others = counts.total() - sum(counts[name] for name in known)
    return [*(counts[name] / total for name in known), others / total]
