"""The trained networks that several experiments share, so that each is trained only once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from optuna.trial import FixedTrial

from experiments.reproduction.records import Case, Images
from spaces.architecture import Architecture, Layer
from spaces.candidate import FAMILIES, Candidate
from spaces.named import NAMED
from spaces.operations import Activation, Dropout, GlobalPooling, Linear, Norm, Operation
from spaces.recipe import Recipe
from spaces.schedules import MultiStep
from spaces.task import Task
from trainables.probes.records import Probe
from trainables.specs import Augmentation

CIFAR10 = Task(channels=3, height=32, width=32, classes=10)
VGGS = ("vgg11", "vgg13", "vgg16", "vgg19")
RESNETS = ("resnet18", "resnet34")
PROBES: tuple[Probe, ...] = ("saturation", "probe", "triviality", "disabled")

REDUCED_IMAGES = Images("cifar10", CIFAR10, train=5_000, validation=1_000, test=5_000)
REDUCED_RECIPE = Recipe(
    learning_rate=0.1, weight_decay=5e-4, batch_size=64, label_smoothing=0.0, momentum=0.9
)
"""One cycle of SGD; see `spaces.schedules.OneCycle`."""
REDUCED_EPOCHS = 8
REDUCED_AUGMENTATION = Augmentation(flip="random")
DIVISOR = 8
"""Widths of the reduced protocol are those of the publication divided by this number."""

FULL_IMAGES = Images("cifar10", CIFAR10)
FULL_RECIPE = replace(REDUCED_RECIPE, schedule=MultiStep((10, 20), 0.1))
FULL_EPOCHS = 30
FULL_AUGMENTATION = Augmentation(crop=4, flip="random")


WIDTHS = ("width", "growth", "stem_features")
HEAD_DROPOUT = 0.25


def narrowed(
    name: str,
    task: Task = CIFAR10,
    divisor: int = DIVISOR,
    **changes: str | float | Sequence[int],
) -> Architecture:
    """Return a named network with all widths divided by a number.

    Grouped convolutions keep the width of each group, so the number of groups is divided.

    Args:
        name: key of `spaces.named.NAMED`.
        task: images and classes.
        divisor: of the widths; 1 for the network itself.
        changes: other values of the network, or options of its family, by name.
    """
    net = NAMED[name]
    values: dict[str, Any] = {
        key: max(1, value // divisor)
        if key in WIDTHS or key.startswith(("features_", "hidden_features_"))
        else value
        for key, value in net.values.items()
    }
    if values.get("groups", 1) > 1:
        values["groups"] = max(1, values["groups"] // divisor)
        values["width_per_group"] *= divisor
    values |= changes
    changed = replace(net, values=values)
    return FAMILIES[net.family](FixedTrial(values), task, **changed.options)


def published(
    name: str, task: Task = CIFAR10, **changes: str | float | Sequence[int]
) -> Architecture:
    """Return a network of Richter et al., whose VGGs have biases; see `narrowed`."""
    biases = {"bias": True} if name in VGGS else {}
    return narrowed(name, task, 1, **(biases | changes))


def with_published_head(architecture: Architecture) -> Architecture:
    """Replace everything behind the global pooling with the head of Richter et al.

    Batch norm, dropout, a hidden layer of half the features, ReLU, batch norm, dropout, classifier.
    """
    layers = architecture.layers
    pool = max(architecture.indices(GlobalPooling))
    features, classes = architecture.shapes[pool][0], architecture.shapes[-1][0]
    head: tuple[tuple[Operation, str], ...] = (
        (Norm("batch"), "head_norm1"),
        (Dropout(HEAD_DROPOUT), "head_dropout1"),
        (Linear(max(1, features // 2)), "hidden"),
        (Activation("relu"), "head_activation"),
        (Norm("batch"), "head_norm2"),
        (Dropout(HEAD_DROPOUT), "head_dropout2"),
        (Linear(classes), "classifier"),
    )
    return Architecture(
        layers[: pool + 1]
        + tuple(
            Layer(operation, (pool + number,), name)
            for number, (operation, name) in enumerate(head)
        )
    )


def reduced_case(name: str, architecture: Architecture) -> Case:
    """Return a case of the reduced protocol with probes.

    Args:
        name: of the case.
        architecture: of the network, for images of 32 pixels.
    """
    return Case(
        name,
        Candidate(architecture, REDUCED_RECIPE),
        REDUCED_IMAGES,
        REDUCED_EPOCHS,
        REDUCED_AUGMENTATION,
        PROBES,
    )


def full_case(name: str, architecture: Architecture) -> Case:
    """Return a case of the full protocol, with head and settings of Richter et al."""
    return Case(
        name,
        Candidate(with_published_head(architecture), FULL_RECIPE),
        FULL_IMAGES,
        FULL_EPOCHS,
        FULL_AUGMENTATION,
        PROBES,
    )


def reduced_cases() -> Sequence[Case]:
    """Return VGGs and ResNets with an eighth of their widths."""
    return [_with_network(reduced_case(name, narrowed(name)), name) for name in VGGS + RESNETS]


def full_cases() -> Sequence[Case]:
    """Return VGGs and ResNets of their full widths."""
    networks = VGGS + RESNETS
    return [_with_network(full_case(name, published(name)), name) for name in networks]


def _with_network(case: Case, network: str) -> Case:
    return replace(case, factors={"network": network})
