"""Adds the effective receptive fields of a network to its analysis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console

from search.console import note, warn
from search.experiment.folder import Home
from search.experiment.training_spec import load_images
from search.reporting.analysis.document import AnalysisDocument, EffectiveRecord, LayerRecord
from search.reporting.analysis.models import ModelReference
from search.reporting.trained_networks import SearchNetworks
from spaces.architecture import Architecture
from spaces.border import BorderAnalysis
from spaces.errors import BadInputError

if TYPE_CHECKING:
    from torch import Tensor

    from trainables.probes.effective import Weighed
    from trainables.probes.effective_field import EffectiveField


_FUNCTIONS = ("conv2d", "conv_transpose2d", "convolution")
"""Names of the layers of function calls, after the module that makes them."""


@dataclass(frozen=True)
class EffectiveOptions:
    """The options of ``--effective``.

    Attributes:
        weights: file of weights; None for fresh ones, or for those of a search.
        data: images as in the field ``data`` of an experiment; None for noise, or for those of a
            search.
    """

    weights: Path | None = None
    data: str | None = None


@dataclass(frozen=True, eq=False)
class Measurable:
    """A network and the images with which its effective fields are measured.

    Attributes:
        architecture: its graph, whose image has the size of the images.
        weighed: the network with weights.
        images: float32 ``[n, c, h, w]``.
        seen: the images in words.
    """

    architecture: Architecture
    weighed: Weighed
    images: Tensor
    seen: str


def prepare_effective(
    reference: ModelReference, options: EffectiveOptions, home: Home, console: Console
) -> Measurable:
    """Load a network with weights, and images for it.

    Raises:
        BadInputError: the options contradict each other, or the network or images do not exist.
    """
    from trainables.probes import effective

    if reference.trial is not None:
        return _of_trial(reference, options, home, console)
    images, seen = None, "images of noise"
    if options.data is not None:
        images, seen = _load_images(options.data, reference, console)
        channels, height, width = images.shape[1:]
        reference = reference.for_images(channels, (height, width))
    if reference.is_module:
        module = effective.load_module(reference.model)
        weighed = effective.load_weights(module, reference.model, options.weights)
        architecture = reference.trace(module)
    else:
        architecture = reference.find(home)
        weighed = effective.build_network(architecture, options.weights, reference.model)
    if images is None:
        images = effective.noise_images(architecture.shapes[0])
    return Measurable(architecture, weighed, images, seen)


def _load_images(data: str, reference: ModelReference, console: Console) -> tuple[Tensor, str]:
    from search.experiment.loading import parse_experiment
    from trainables.probes.effective import images_of

    fields: dict[str, Any] = {"data": data}
    if reference.resolution is not None:
        height, width = reference.resolution
        if height != width:
            problem = "images are decoded to squares"
            raise BadInputError("--resolution", f"{height}x{width}", problem, "give one number")
        fields["resolution"] = height
    dataset = load_images(parse_experiment(fields), console)
    return images_of(dataset, "validation"), f"validation images of {data}"


def _of_trial(
    reference: ModelReference, options: EffectiveOptions, home: Home, console: Console
) -> Measurable:
    from trainables.probes.effective import Weighed, images_of

    for option, value in (
        ("--weights", options.weights),
        ("--data", options.data),
        ("--resolution", reference.resolution),
    ):
        if value is not None:
            problem = f"{reference.model} is a trained network of a search, which determines it"
            raise BadInputError(option, value, problem, "leave it out")
    (network,) = SearchNetworks(home, reference.model, console).load()
    weighed = Weighed(network.module.cpu(), network.origin, network.architecture)
    images = images_of(network.dataset, network.split)
    return Measurable(network.architecture, weighed, images, f"{network.split} images")


def with_effective_fields(
    document: AnalysisDocument, analysis: BorderAnalysis, subject: Measurable
) -> AnalysisDocument:
    """Return the document with the effective field of every convolution.

    Raises:
        BadInputError: the network does not take the images.
    """
    from trainables.probes.effective import effective_fields

    def report(count: int) -> None:
        note(f"measuring the effective fields of {count} convolutions ..")

    own = subject.weighed.architecture is not None
    fields = effective_fields(subject.weighed, subject.images, document.model, report)
    layers = [
        _with_field(layer, fields.get(f"layers.{index}" if own else _module_of(layer.name, fields)))
        for layer, index in zip(document.layers, analysis.convolutions, strict=True)
    ]
    unknown = sum(layer.effective is None for layer in layers)
    if unknown:
        note(
            f"{unknown} of {len(layers)} effective fields are unknown: these convolutions are no "
            "modules of torch, but linear layers or function calls"
        )
    for layer in layers:
        if not _contains(layer):
            warn(
                f"the gradient of {layer.name} reaches beyond its theoretical field: through "
                "statistics over the image that are no norm or gate of torch"
            )
    origin = f"{subject.weighed.origin}; {len(subject.images)} {subject.seen}"
    return document.replacing(layers=tuple(layers), weights=origin)


def _module_of(name: str, fields: Mapping[str, EffectiveField]) -> str:
    """Return the module of a convolution, which may itself call a function of torch."""
    owner, _, function = name.rpartition(".")
    return owner if name not in fields and function in _FUNCTIONS and owner in fields else name


def _with_field(layer: LayerRecord, field: EffectiveField | None) -> LayerRecord:
    if field is None:
        return layer.model_copy(update={"effective": None})
    record = EffectiveRecord(
        extent=field.extent, radius=field.radius, side=field.side, within=field.within
    )
    return layer.model_copy(update={"effective": record})


def _contains(layer: LayerRecord) -> bool:
    """Tell whether the theoretical field contains the extent of the gradient."""
    if layer.effective is None:
        return True
    both = zip(layer.effective.extent, layer.field_max, strict=True)
    return all(most is None or extent <= most for extent, most in both)
