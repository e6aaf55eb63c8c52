"""Probes a trained network: runs the requested probes of every convolution."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from spaces.architecture import Architecture
from spaces.border import Rule, find_border
from spaces.errors import BadInputError
from trainables.data import Dataset
from trainables.probes.effective_field import describe_mass, measure_masses
from trainables.probes.images import Normalisation, ProbeImages
from trainables.probes.norms import count_disabled
from trainables.probes.records import DEFAULT_IMAGES, PROBES, LayerProbes, NetworkProbes, Probe
from trainables.probes.regression import SIDE, ProbeScore, pooled, score_probe
from trainables.probes.spectrum import Covariance, saturation
from trainables.probes.subject import ConvolutionLayer, Subject
from trainables.probes.triviality import measure_accuracy, zero_branch, zero_kernel

FEATURE_BYTES = 512 << 20
"""Most bytes of pooled features that logistic-regression probes hold at a time, of both splits."""
_FIELD_IMAGES = 32
_FIELD_VALUES = 1 << 21
"""Most values of the images of the effective receptive field, whose graph is kept whole."""


@dataclass(frozen=True)
class ProbeSettings:
    """What to probe, and on which images.

    Attributes:
        only: names of `PROBES`.
        images: most images of each split.
        split: that scores: ``validation``, or ``test`` for finalists.
        normalisation: of the images.
        rule: border rule.
    """

    only: tuple[Probe, ...] = PROBES
    images: int = DEFAULT_IMAGES
    split: str = "validation"
    normalisation: Normalisation = "data"
    rule: Rule = Rule.PREVIOUS_CONV


def probe_network(
    network: nn.Module,
    dataset: Dataset,
    settings: ProbeSettings,
    device: torch.device,
    *,
    title: str,
    weights: str,
    architecture: Architecture | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> NetworkProbes:
    """Probe a network in float32 and evaluation mode.

    Args:
        network: images ``[n, c, h, w]`` to values of the classes ``[n, classes]``. It moves to the
            device and stays in evaluation mode; its weights do not change.
        dataset: the images.
        settings: what to probe.
        device: of the probes.
        title: the network in words.
        weights: where its weights come from, in words.
        architecture: from which `trainables.builder.Network` built the network; without it the
            network is traced.
        progress: called with the name of each probe.

    Raises:
        BadInputError: the network does not take the images, or has no convolution.
    """
    network = network.to(device).float()
    scored = ProbeImages.draw(
        dataset, settings.split, settings.images, device, settings.normalisation
    )
    seen = ProbeImages.draw(dataset, "train", settings.images, device, settings.normalisation)
    subject = Subject(network, next(scored.batches(2)), title)
    notes = [
        f"{layer.name} is called {layer.calls} times per image; its first call is probed"
        for layer in subject.layers
        if layer.calls > 1
    ]
    found = _Probing(subject, seen, scored, len(dataset.classes), notes)
    layers, border = _with_fields(subject, dataset, settings.rule, architecture, notes)
    for name, probe in (
        ("saturation", found.saturation),
        ("probe", found.probe),
        ("triviality", found.triviality),
        ("disabled", found.disabled),
        ("field", found.field),
    ):
        if name in settings.only:
            progress(name)
            layers = probe(layers)
    accuracy = found.accuracy()
    if accuracy is not None and "triviality" in settings.only:
        notes.extend(_limits(accuracy, seen, scored))
    return NetworkProbes(
        title=title,
        weights=weights,
        split=settings.split,
        images=len(scored),
        training_images=len(seen),
        resolution=dataset.shape[:2],
        rule=settings.rule.value,
        border=border,
        accuracy=accuracy,
        layers=tuple(layers),
        norms=count_disabled(network) if "disabled" in settings.only else (),
        notes=tuple(notes),
    )


def _limits(accuracy: float, seen: ProbeImages, scored: ProbeImages) -> Iterator[str]:
    """Yield notes on what the triviality of these images cannot show."""
    guess = float((scored.labels == seen.labels.bincount().argmax()).double().mean())
    if accuracy <= guess:
        yield (
            f"the accuracy of {accuracy:.4f} is not above that of a guess ({guess:.4f}): the "
            "network has learned nothing to lose, so triviality says nothing about its convolutions"
        )
    if len(scored) < DEFAULT_IMAGES:
        yield f"one of the {len(scored)} images is {100 / len(scored):.1f} points of accuracy"


class _Probing:
    """The probes of one network; each adds its values to the records of the layers."""

    def __init__(
        self,
        subject: Subject,
        seen: ProbeImages,
        scored: ProbeImages,
        classes: int,
        notes: list[str],
    ) -> None:
        self._subject = subject
        self._seen = seen
        self._scored = scored
        self._notes = notes
        output = subject.output
        self._classifies = output is not None and output[1:] == (classes,)
        if not self._classifies:
            shape = "no tensor" if output is None else f"{list(output[1:])} values per image"
            self._notes.append(
                f"accuracy is unknown: the network returns {shape}, and there are {classes} classes"
            )

    @torch.inference_mode()
    def saturation(self, layers: Sequence[LayerProbes]) -> list[LayerProbes]:
        spectra: dict[int, Covariance] = {}

        def add(index: int, output: Tensor) -> None:
            samples = output.movedim(1, -1).flatten(0, -2)
            if index not in spectra:
                spectra[index] = Covariance(samples.shape[1], samples.device)
            spectra[index].add(samples)

        with self._subject.listening(add):
            for batch in self._scored.batches():
                self._subject.network(batch)
        return [
            replace(layer, saturation=saturation(spectra[index].matrix))
            for index, layer in enumerate(layers)
        ]

    @torch.inference_mode()
    def probe(self, layers: Sequence[LayerProbes]) -> list[LayerProbes]:
        scores: list[ProbeScore] = []
        for group in self._groups():
            # One group at a time: the features of all layers together may not fit in memory.
            fitted, scored = self._pooled(self._seen, group), self._pooled(self._scored, group)
            scores += [
                score_probe(fitted.pop(index), self._seen.labels, others, self._scored.labels)
                for index, others in scored.items()
            ]
        early = sum(not score.converged for score in scores)
        if early:
            self._notes.append(
                f"the logistic regressions of {early} of {len(scores)} convolutions ended before "
                "they converged"
            )
        return [
            replace(layer, probe_accuracy=score.accuracy)
            for layer, score in zip(layers, scores, strict=True)
        ]

    def _groups(self) -> Iterator[list[int]]:
        """Yield the layers in order, as many at a time as `FEATURE_BYTES` allows, at least one."""
        per_channel = SIDE**2 * 4 * (len(self._seen) + len(self._scored))
        group: list[int] = []
        size = 0
        for index, layer in enumerate(self._subject.layers):
            own = layer.shape[0] * per_channel
            if group and size + own > FEATURE_BYTES:
                yield group
                group, size = [], 0
            group.append(index)
            size += own
        yield group

    def _pooled(self, images: ProbeImages, group: Sequence[int]) -> dict[int, Tensor]:
        """Return the pooled features of some layers, float32 ``[images, features]`` on the CPU."""
        parts: dict[int, list[Tensor]] = {index: [] for index in group}

        def keep(index: int, output: Tensor) -> None:
            if index in parts:
                parts[index].append(pooled(output))

        with self._subject.listening(keep):
            for batch in images.batches():
                self._subject.network(batch)
        return {index: torch.cat(parts.pop(index)) for index in group}

    def accuracy(self) -> float | None:
        return measure_accuracy(self._subject.network, self._scored) if self._classifies else None

    def triviality(self, layers: Sequence[LayerProbes]) -> list[LayerProbes]:
        if not self._classifies:
            return list(layers)
        network, found = self._subject.network, []
        for record, layer in zip(layers, self._subject.layers, strict=True):
            with zero_kernel(layer):
                without_kernel = measure_accuracy(network, self._scored)
            with zero_branch(layer):
                without_branch = measure_accuracy(network, self._scored)
            found.append(
                replace(
                    record,
                    zero_kernel_accuracy=without_kernel,
                    zero_branch_accuracy=without_branch,
                )
            )
        return found

    def disabled(self, layers: Sequence[LayerProbes]) -> list[LayerProbes]:
        shares = {norm.name: norm for norm in count_disabled(self._subject.network)}
        return [
            replace(
                layer, disabled_features=shares[layer.norm].disabled / shares[layer.norm].features
            )
            if layer.norm in shares
            else layer
            for layer in layers
        ]

    def field(self, layers: Sequence[LayerProbes]) -> list[LayerProbes]:
        height, width, channels = self._scored.dataset.shape
        fitting = max(1, min(_FIELD_IMAGES, _FIELD_VALUES // (height * width * channels)))
        masses = measure_masses(self._subject, next(self._scored.batches(fitting)))
        found = []
        for layer, mass in zip(layers, masses, strict=True):
            field = describe_mass(mass)
            most = layer.field_max
            if most is not None and any(a > b for a, b in zip(field.extent, most, strict=True)):
                self._notes.append(
                    f"the gradient of {layer.name} reaches beyond its theoretical field: through "
                    "statistics over the image that are no norm or gate of torch"
                )
            found.append(
                replace(
                    layer,
                    effective_radius=field.radius,
                    effective_extent=field.extent,
                    mass_within=field.within,
                )
            )
        return found


def _with_fields(
    subject: Subject,
    dataset: Dataset,
    rule: Rule,
    architecture: Architecture | None,
    notes: list[str],
) -> tuple[list[LayerProbes], int | None]:
    """Return a record of each convolution with its theoretical field, and the border layer."""
    from trainables.tracing import trace  # noqa: PLC0415 - imports slowly, and rarely needed

    records = [_record(layer) for layer in subject.layers]
    height, width, channels = dataset.shape
    try:
        graph = architecture or trace(subject.network, (channels, height, width))
    except BadInputError as error:
        notes.append(f"theoretical fields and the border layer are unknown: {error.problem}")
        return records, None
    analysis = find_border(graph, rule)
    numbers = {
        f"layers.{index}" if architecture is not None else graph.layers[index].name: number
        for number, index in enumerate(analysis.convolutions, start=1)
    }
    for position, record in enumerate(records):
        number = numbers.get(record.name)
        if number is None:
            continue
        index, field = analysis.convolutions[number - 1], analysis.fields[number - 1]
        records[position] = replace(
            record,
            name=graph.layers[index].name or record.name,
            field_min=field.smallest,
            field_max=field.bounded,
            productive=analysis.is_productive(number),
        )
    unknown = sum(record.field_min is None for record in records)
    if unknown:
        notes.append(f"the theoretical fields of {unknown} convolutions are unknown")
    first = next((i for i, each in enumerate(records, start=1) if each.productive is False), None)
    return records, first


def _record(layer: ConvolutionLayer) -> LayerProbes:
    return LayerProbes(layer.name, layer.kernel, layer.shape[0], norm=layer.norm_name)
