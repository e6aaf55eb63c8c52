"""The cases and protocols of the experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from experiments.published.classic_networks.page import describe
from experiments.published.classic_networks.published import (
    ACTIVATIONS,
    AUGMENTATIONS,
    BASE,
    NETWORKS,
    NORMS,
    WITHOUT_ERASING,
)
from experiments.published.networks import narrowed
from experiments.reproduction.records import Case, Experiment, Images, Protocol, Publication
from spaces.architecture import Architecture
from spaces.candidate import Candidate
from spaces.recipe import Recipe
from spaces.schedules import Cosine, MultiStep
from spaces.task import Task
from trainables.specs import Augmentation

ERASING = 0.5
"""Probability of random erasing."""


@dataclass(frozen=True)
class Scale:
    """What distinguishes the protocols.

    Attributes:
        images: images of all cases.
        divisor: of all widths.
        epochs: of each training.
        batch_size: images per step.
        milestones: epochs at which the multi-step schedule drops to a tenth.
        crop: padding of random crops in pixels.
    """

    images: Images
    divisor: int
    epochs: int
    batch_size: int
    milestones: tuple[int, ...]
    crop: int

    def network(self, name: str, **changes: str) -> Architecture:
        """Return a network of the comparison, with other values if given."""
        return narrowed(NETWORKS[name].builder, self.images.task, self.divisor, **changes)

    def cases(self) -> Sequence[Case]:
        """Return all cases; the first are the seven networks."""
        plain = Augmentation(crop=self.crop, flip="random")
        erased = plain.model_copy(update={"erase": ERASING})
        base = self.network(BASE)
        cases = [
            self._case(f"{name} erasing", self.network(name), erased, "network", name)
            for name in NETWORKS
        ]
        cases.append(self._case(BASE, base, plain, "base", BASE))
        for kind, values in (("activation", ACTIVATIONS), ("norm", NORMS)):
            cases += [
                self._case(
                    f"{BASE} {value}", self.network(BASE, **{kind: value}), plain, kind, value
                )
                for value in values
                if value not in ("relu", "batch")
            ]
        for name in AUGMENTATIONS:
            if name.startswith("mixup"):
                mixed = plain.model_copy(update={"mixup": float(name.split()[1])})
                cases.append(self._case(f"{BASE} {name}", base, mixed, "augmentation", name))
        cases += [
            self._case(name, self.network(name), plain, "augmentation", "none")
            for name in WITHOUT_ERASING
            if name != BASE
        ]
        steps = self._case(f"{BASE} multi-step", base, plain, "schedule", "multi-step")
        recipe = replace(steps.candidate.recipe, schedule=MultiStep(self.milestones, 0.1))
        return [*cases, replace(steps, candidate=replace(steps.candidate, recipe=recipe))]

    def _case(
        self,
        name: str,
        architecture: Architecture,
        augmentation: Augmentation,
        group: str,
        value: str,
    ) -> Case:
        recipe = Recipe(
            learning_rate=0.1,
            weight_decay=5e-4,
            batch_size=self.batch_size,
            label_smoothing=0.0,
            momentum=0.9,
            schedule=Cosine(0.0),
        )
        factors: Mapping[str, str | float] = {"group": group, "value": value}
        return Case(
            name,
            Candidate(architecture, recipe),
            self.images,
            self.epochs,
            augmentation,
            factors=factors,
        )


REDUCED = Scale(
    Images("cifar10", Task(3, 16, 16, 10), train=4_000, validation=500, test=5_000),
    divisor=4,
    epochs=8,
    batch_size=64,
    milestones=(4, 6),
    crop=2,
)
FULL = Scale(
    Images("cifar10", Task(3, 32, 32, 10)),
    divisor=1,
    epochs=250,
    batch_size=128,
    milestones=(125, 188),
    crop=4,
)

_DIFFERENCES = (
    "The published tables leave much of the recipe open; see the protocol.",
    "A JPEG copy of CIFAR-10, if the line Images names one, differs slightly from the originals.",
)

EXPERIMENT = Experiment(
    name="classic_networks",
    title="Classic networks on CIFAR-10",
    publication=Publication(
        authors="A published comparison",
        year=None,
        title="Classic networks on CIFAR-10",
        arxiv=None,
    ),
    question="Which of seven networks is best, and which activation, norm and augmentation?",
    protocols={
        "reduced": Protocol(
            description=(
                f"{REDUCED.images.train:,} training images of CIFAR-10, equally many of each "
                f"class, and {REDUCED.images.test:,} test images, resized to 16 pixels.",
                f"{REDUCED.epochs} epochs with batches of {REDUCED.batch_size}; SGD with Nesterov "
                "momentum 0.9, a cosine schedule from 0.1, weight decay 0.0005; random crops with "
                "a padding of 2 pixels, and flips.",
            ),
            deviations=(
                f"All widths are divided by {REDUCED.divisor}. Grouped convolutions keep the width "
                "of each group.",
                f"{REDUCED.epochs} epochs instead of 250, {REDUCED.images.train:,} training images "
                "instead of 50,000, half of the test images, and 16 pixels instead of 32. VGG16 "
                "has no fifth pooling layer, for which no pixels are left.",
            ),
            differences=(
                "The published networks train for 250 epochs. After few epochs, accuracy shows how "
                "fast a network learns, and not how well it ends.",
                "Regularisation, such as erasing and mixup, pays in long trainings that fit all "
                "training images. In short ones it can only slow the fit.",
                "A divisor of all widths changes networks unequally: ConvMixer and DenseNet121 "
                "keep their depth with few channels, and depthwise convolutions with few channels "
                "learn little.",
                *_DIFFERENCES,
            ),
            cases=REDUCED.cases,
            seeds=3,
            minutes=23,
        ),
        "full": Protocol(
            description=(
                "All images of CIFAR-10 with 32 pixels. The test images are scored after each "
                "epoch.",
                "250 epochs; SGD with a cosine schedule from 0.1, or with two steps.",
            ),
            deviations=(
                "The published tables give schedule, learning rate and epochs alone. Batches of "
                "128, Nesterov momentum 0.9, weight decay 0.0005, crops with a padding of 4 "
                "pixels, flips, an erasing probability of 0.5 and steps of 0.1 after epochs 125 "
                "and 188 are assumptions. The numbers behind mixup are read as alpha.",
                "Kernel and patch size of ConvMixer, the groups of ResNeXt18 and the blocks of the "
                "wide ResNet14 follow from the published parameter counts.",
            ),
            differences=_DIFFERENCES,
            cases=FULL.cases,
            seeds=3,
        ),
    },
    page=describe,
)
