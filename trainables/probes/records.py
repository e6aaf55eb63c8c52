"""The results of probing a network: plain data, free of torch."""

from __future__ import annotations

from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Literal, Self, get_args

from pydantic import TypeAdapter, ValidationError

from spaces.errors import BadInputError
from spaces.operation_base import Pair
from spaces.remedies import Truncated

Probe = Literal["saturation", "probe", "triviality", "disabled", "field"]
PROBES: tuple[Probe, ...] = get_args(Probe)
"""Names of all probes, in the order of their columns."""
_MEASURED: dict[Probe, tuple[str, ...]] = {
    "saturation": ("saturation",),
    "probe": ("probe_accuracy",),
    "triviality": ("zero_kernel_accuracy", "zero_branch_accuracy"),
    "disabled": ("disabled_features",),
    "field": ("effective_radius", "effective_extent", "mass_within"),
}
"""The fields of `LayerProbes` that each probe fills in."""
METRICS = (
    "saturation",
    "probe_accuracy",
    "zero_kernel_accuracy",
    "zero_branch_accuracy",
    "disabled_features",
    "effective_radius",
)
"""Fields of `LayerProbes` that are metrics of a run, with one step for each convolution."""
DISABLED_BELOW = 0.01
"""A feature is disabled if the magnitude of its scale in a batch norm is below this value."""
DEFAULT_IMAGES = 1000
"""Images of each split that the probes use at most."""


def check_probes(names: list[str], field: str) -> tuple[Probe, ...]:
    """Return the probes of these names, each once, in the order of `PROBES`.

    Args:
        names: of the probes.
        field: setting that contains them, for messages.

    Raises:
        BadInputError: a name is unknown, or there is none.
    """
    for name in names:
        if name not in PROBES:
            close = get_close_matches(name, PROBES, n=1)
            remedy = f"did you mean {close[0]}?" if close else f"use {', '.join(PROBES)}"
            raise BadInputError(field, name, "unknown probe", remedy)
    if not names:
        raise BadInputError(field, "", "names no probe", f"use {', '.join(PROBES)}")
    return tuple(name for name in PROBES if name in names)


def title_of_trial(number: int, truncated: Truncated | None) -> str:
    """Return the title of the network of a trial, which says how far it was truncated."""
    return f"trial {number}" + (f" (truncated to {truncated})" if truncated else "")


@dataclass(frozen=True)
class LayerProbes:
    """The probes of one convolution; None for a probe that was not made or has no value.

    Attributes:
        name: of the convolution.
        kernel: rows and columns of its kernel.
        channels: number of its features.
        field_min: smallest theoretical receptive field of its output, rows and columns.
        field_max: largest theoretical receptive field.
        productive: whether it precedes the border layer.
        saturation: smallest number of principal components with 99 % of the variance of its
            output, divided by the number of channels.
        probe_accuracy: accuracy of logistic regression on its output, 0..1.
        zero_kernel_accuracy: accuracy of the network with a zero kernel, 0..1.
        zero_branch_accuracy: accuracy if the output after the following norm is zero, too.
        norm: name of the norm that follows directly; empty if there is none.
        disabled_features: fraction of the features that the following batch norm disables.
        effective_radius: distance in pixels within which 95 % of the gradient's mass lies.
        effective_extent: rows and columns of the image with a gradient other than zero.
        mass_within: fraction of the gradient's mass within 0, 1, 2, .. pixels of its centre.
    """

    name: str
    kernel: Pair
    channels: int
    field_min: Pair | None = None
    field_max: Pair | None = None
    productive: bool | None = None
    saturation: float | None = None
    probe_accuracy: float | None = None
    zero_kernel_accuracy: float | None = None
    zero_branch_accuracy: float | None = None
    norm: str = ""
    disabled_features: float | None = None
    effective_radius: float | None = None
    effective_extent: Pair | None = None
    mass_within: tuple[float, ...] = ()

    @property
    def metrics(self) -> dict[str, float]:
        """The values of `METRICS` that are known."""
        values = {name: getattr(self, name) for name in METRICS}
        return {name: value for name, value in values.items() if value is not None}


@dataclass(frozen=True)
class NormShare:
    """The features of one batch norm.

    Attributes:
        name: of the norm.
        features: their number.
        disabled: number of features whose scale has a magnitude below `DISABLED_BELOW`.
    """

    name: str
    features: int
    disabled: int


@dataclass(frozen=True)
class NetworkProbes:
    """The probes of a network.

    Attributes:
        title: the network in words.
        weights: where its weights come from, in words.
        split: on which accuracies were measured: ``validation`` or ``test``.
        images: number of images of that split that were used.
        training_images: number of training images that fitted the logistic regressions.
        resolution: rows and columns of the images.
        rule: border rule of ``productive``.
        border: 1-based number of the border layer, None without one or if it is unknown.
        accuracy: baseline accuracy of the whole network on these images; None if unknown.
        layers: one entry per convolution, in forward order.
        norms: one entry per batch norm with a scale.
        notes: one line for each thing that was left out or assumed.
    """

    title: str
    weights: str
    split: str
    images: int
    training_images: int
    resolution: Pair
    rule: str
    border: int | None
    accuracy: float | None
    layers: tuple[LayerProbes, ...]
    norms: tuple[NormShare, ...] = ()
    notes: tuple[str, ...] = ()

    @property
    def disabled_features(self) -> float | None:
        """Fraction of all features of batch norms that are disabled; None without any."""
        features = sum(norm.features for norm in self.norms)
        return sum(norm.disabled for norm in self.norms) / features if features else None

    def has(self, metric: str) -> bool:
        """Tell whether any layer has a value of this metric."""
        return any(getattr(layer, metric) is not None for layer in self.layers)

    def is_of_same_network(self, other: NetworkProbes) -> bool:
        """Tell whether both describe the same weights, measured on the same images."""
        return self._measured_on == other._measured_on

    @property
    def _measured_on(self) -> tuple[object, ...]:
        layers = tuple((each.name, each.kernel, each.channels) for each in self.layers)
        images = (self.split, self.images, self.training_images, self.resolution)
        return (self.title, self.weights, *images, self.rule, self.accuracy, layers)

    def replacing(self, stored: NetworkProbes, only: tuple[Probe, ...]) -> NetworkProbes:
        """Return stored probes of the same network with these probes replaced by own ones.

        Args:
            stored: see `is_of_same_network`.
            only: names of the probes that this record holds.
        """
        names = [name for probe in only for name in _MEASURED[probe]]
        layers = tuple(
            replace(old, **{name: getattr(new, name) for name in names})
            for old, new in zip(stored.layers, self.layers, strict=True)
        )
        notes = tuple(dict.fromkeys((*stored.notes, *self.notes)))
        norms = self.norms if "disabled" in only else stored.norms
        return replace(self, layers=layers, norms=norms, notes=notes)

    def to_json(self) -> str:
        """Return the probes as JSON."""
        return TypeAdapter(type(self)).dump_json(self, indent=1).decode()

    @classmethod
    def from_json(cls, text: str | bytes) -> Self:
        """Return the probes that `to_json` wrote.

        Raises:
            ValueError: the text is something else.
        """
        try:
            return TypeAdapter(cls).validate_json(text)
        except ValidationError as error:
            raise ValueError(str(error)) from None
