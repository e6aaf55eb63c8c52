"""The cases and protocols of the experiment."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain

from experiments.published.border_layer.networks import border_on_main_path, truncate_residual
from experiments.published.border_layer.page import describe
from experiments.published.networks import (
    CIFAR10,
    DIVISOR,
    REDUCED_EPOCHS,
    RESNETS,
    VGGS,
    full_case,
    narrowed,
    published,
    reduced_case,
)
from experiments.reproduction.records import Case, Experiment, Protocol, Publication
from spaces.architecture import Architecture
from spaces.remedies import truncate
from spaces.task import Task
from trainables.probes.records import Probe

SMALL = Task(channels=3, height=16, width=16, classes=10)
CURVES: tuple[Probe, ...] = ("saturation", "probe")
ATTENTIONS = (
    ("vgg16", "squeeze-excitation"),
    ("resnet18", "squeeze-excitation"),
    ("resnet18", "spatial"),
)
"""Spatial attention doubles the time of VGG16, so the residual network alone has it."""
POOLS: Mapping[str, tuple[int, ...]] = {
    "all pools first": (1, 2, 3, 4, 5),
    "pool added": (1, 2, 4, 7, 10),
    "pools earlier": (1, 3, 5, 8, 11),
    "pool removed": (2, 4, 7, 13),
    "pools later": (2, 6, 10, 13),
    "first pool removed": (4, 7, 10, 13),
}
"""Pooling layers of VGG16 by the convolutions that they follow; 2, 4, 7, 10, 13 as published.

``pool added`` leaves out the last pooling layer, for which no pixels are left.
"""


@dataclass(frozen=True)
class _Scale:
    """How a protocol builds networks and cases."""

    network: Callable[..., Architecture]
    case: Callable[[str, Architecture], Case]

    def build(
        self,
        network: str,
        variant: str,
        architecture: Architecture,
        probes: tuple[Probe, ...] | None = None,
    ) -> Case:
        """Return a case.

        Args:
            network: name of the whole network.
            variant: the change; empty for none.
            architecture: with a linear head.
            probes: None for all.
        """
        case = self.case(f"{network} {variant}".strip(), architecture)
        shape = architecture.shapes[0]
        size = Task(*shape, classes=CIFAR10.classes)
        return replace(
            case,
            images=replace(case.images, task=size),
            probes=case.probes if probes is None else probes,
            factors={
                "network": network,
                "variant": variant or "whole",
                "border": border_on_main_path(architecture) or 0,
            },
        )

    def cases(self) -> Sequence[Case]:
        """Return all cases."""
        return list(
            chain(self._whole(), self._truncated(), self._pools(), self._attention(), self._small())
        )

    def _whole(self) -> list[Case]:
        return [self.build(name, "", self.network(name)) for name in VGGS + RESNETS]

    def _truncated(self) -> list[Case]:
        cases = []
        for name in VGGS + RESNETS:
            whole = self.network(name)
            cut = truncate if name in VGGS else truncate_residual
            for variant, keep in (("truncated", False), ("truncated, border kept", True)):
                shorter = cut(whole, keep_border=keep)
                if shorter is not None:
                    cases.append(self.build(name, variant, shorter, ()))
        return cases

    def _pools(self) -> list[Case]:
        cases = [
            self.build("vgg16", variant, self.network("vgg16", pool_after=places), CURVES)
            for variant, places in POOLS.items()
        ]
        less = self.network("resnet18", stage_stride_3=1, stage_stride_4=1)
        return [*cases, self.build("resnet18", "less downsampling", less, CURVES)]

    def _attention(self) -> list[Case]:
        return [
            self.build(name, f"{kind} attention", self.network(name, attention=kind), CURVES)
            for name, kind in ATTENTIONS
        ]

    def _small(self) -> list[Case]:
        """Return the three networks in the README of the authors' toolbox."""
        changes: dict[str, dict[str, str | int]] = {
            "at 16 px": {},
            "at 16 px, truncated": {"stages": 1},
            "at 16 px, less downsampling": {"stem": "cifar"},
        }
        return [
            self.build("resnet18", variant, self.network("resnet18", SMALL, **change), ())
            for variant, change in changes.items()
        ]


_DIFFERENCES = (
    "The published result tables were not available, so most accuracies have no published number "
    "beside them. Borders, parameters and MACs have one.",
    "The README of the authors' toolbox does not name the images of its three accuracies. Compare "
    "their order and their ratios, and not their values.",
    "Parameters and MACs of this page include the head. The published ones do not.",
    "A JPEG copy of CIFAR-10, if the line Images names one, differs slightly from the originals.",
)

REDUCED = _Scale(narrowed, reduced_case)
FULL = _Scale(published, full_case)

EXPERIMENT = Experiment(
    name="border_layer",
    title="Do layers beyond the border help?",
    publication=Publication(
        authors="Richter et al.",
        year=2021,
        title="Should You Go Deeper?",
        arxiv="2106.12307",
    ),
    question="Does probe accuracy stop rising, and does saturation fall, where the border layer is "
    "predicted?",
    protocols={
        "reduced": Protocol(
            description=(
                "5,000 training images of CIFAR-10 with 32 pixels, equally many of each class, and "
                "5,000 test images.",
                f"{REDUCED_EPOCHS} epochs with batches of 64; SGD with Nesterov momentum 0.9, a "
                "one-cycle schedule with a peak of 0.1, weight decay 0.0005; random flips.",
                "Probes use 1,000 images of each split.",
            ),
            deviations=(
                f"The widths of all networks are divided by {DIVISOR}. VGGs have no biases.",
                "One linear layer follows the global pooling, without hidden layer and dropout.",
                f"{REDUCED_EPOCHS} epochs instead of 30, 5,000 training images instead of 50,000, "
                "half of the test images, and no random crops.",
                "One cycle instead of steps: networks with 16 layers learn more in few epochs.",
            ),
            differences=(
                "Narrow networks that train for few epochs on few images stay far below the "
                "accuracy of the full protocol. A receptive field depends on kernels and strides "
                "alone, so the border is the same for every width.",
                "The first layer costs a larger part of the MACs of narrow networks, because the "
                "number of its input channels stays 3.",
                *_DIFFERENCES,
            ),
            cases=REDUCED.cases,
            seeds=3,
            minutes=24,
        ),
        "full": Protocol(
            description=(
                "All images of CIFAR-10 with 32 pixels. The test images are scored after each "
                "epoch.",
                "30 epochs with batches of 64; SGD with a learning rate of 0.1, times 0.1 every 10 "
                "epochs; crops with a padding of 4 pixels, and flips.",
                "Head: global pooling, batch norm, dropout 0.25, a linear layer of half the "
                "features, ReLU, batch norm, dropout 0.25, classifier.",
            ),
            deviations=(
                "Momentum 0.9 (Nesterov) and weight decay 0.0005 are assumptions, as is the number "
                "of seeds: the sources at hand do not give them.",
                "Probes use 1,000 images of each split.",
            ),
            differences=_DIFFERENCES,
            cases=FULL.cases,
            seeds=3,
        ),
    },
    page=describe,
)
