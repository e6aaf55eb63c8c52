"""What an experiment consists of: cases to train, their outcomes, and the page about them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Literal

from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, PlainSerializer

from spaces.candidate import Candidate
from spaces.task import Task
from trainables.probes.records import DEFAULT_IMAGES, LayerProbes, Probe
from trainables.specs import Augmentation

NO_AUGMENTATION = Augmentation()

ProtocolName = Literal["reduced", "full"]


@dataclass(frozen=True)
class Images:
    """The images of a case: a fixed subset, drawn with split seed 0.

    Attributes:
        source: name of the image set, such as ``cifar10``, ``mnist``, ``fashion-mnist`` or
            ``digits``. The option ``--data`` names its place.
        task: shape of the images, which they are resized to, and number of classes.
        train: number of training images, equally many of each class; None for all.
        validation: number of images outside the training set that are scored after each epoch; 0
            scores the test images, as most publications do.
        test: number of other images that are scored after the last epoch; None for all.
    """

    source: str
    task: Task
    train: int | None = None
    validation: int = 0
    test: int | None = None


@dataclass(frozen=True)
class Abort:
    """Ends a training early that has not learned enough.

    Attributes:
        epoch: number of epochs after which it is decided.
        train_accuracy: smallest accuracy on the training images with which a training continues.
    """

    epoch: int
    train_accuracy: float


@dataclass(frozen=True)
class Case:
    """One network under one setting. It is trained once for each seed of the protocol.

    Attributes:
        name: unique in its protocol, such as ``vgg16`` or ``resnet14 batchnorm``.
        candidate: network and recipe.
        images: what it is trained and scored on.
        epochs: of the training.
        augmentation: random changes to training images.
        probes: made after the training, on test images; see `trainables.probes`.
        probe_images: most images of each split for the probes.
        abort: ends trainings early; None for never.
        seeds: number of trainings if it differs from that of the protocol.
        factors: values by which tables and figures group cases, by the name of their column, such
            as ``{"network": "vgg16", "truncated": "no"}``. They do not influence the training.
    """

    name: str
    candidate: Candidate
    images: Images
    epochs: int
    augmentation: Augmentation = NO_AUGMENTATION
    probes: tuple[Probe, ...] = ()
    probe_images: int = DEFAULT_IMAGES
    abort: Abort | None = None
    seeds: int | None = None
    factors: Mapping[str, str | float] = field(default_factory=dict)


def _split(value: object) -> object:
    return value.split() if isinstance(value, str) else value


def _join(values: tuple[float, ...]) -> str:
    return " ".join(map(str, values))


Floats = Annotated[tuple[float, ...], BeforeValidator(_split), PlainSerializer(_join)]
"""In a file: separated by blanks."""


class Probes(BaseModel):
    """The probes of a trained network; see `trainables.probes.records.NetworkProbes`.

    Attributes:
        accuracy: of the whole network on the probed images, 0..1.
        images: number of test images that were probed.
        border: 1-based number of the border layer by the default rule; None without one.
        disabled_features: fraction of all features of batch norms that are disabled; None if not
            measured.
        layers: one entry per convolution, in forward order.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    accuracy: float
    images: int
    border: int | None
    disabled_features: float | None
    layers: tuple[LayerProbes, ...]


class Outcome(BaseModel):
    """The numbers of one training: a line of the working file.

    Attributes:
        key: hash of network, recipe, augmentation, epochs, images, probes and seed. Experiments
            share trainings of equal keys. Device and versions are not part of it.
        seed: of initial weights, order of images and augmentation.
        train_accuracy: on the augmented training images during the last epoch, 0..1.
        test_accuracy: after the last epoch, 0..1.
        test_loss: mean cross-entropy on the same images.
        train_accuracies: during each epoch, 0..1. A shorter list than the case has epochs means
            that the training was aborted.
        validation_accuracies: after each epoch, 0..1.
        train_losses: mean cross-entropy during each epoch.
        validation_losses: mean cross-entropy after each epoch.
        params: number of parameters of the network.
        trained_params: number of parameters that were trained.
        macs: multiply-accumulates of a forward pass of one image.
        cpu_seconds: processor time of training, scoring and probes.
        wall_seconds: time that passed meanwhile.
        images: the images in words: name and kind of source, and digest.
        device: of the training.
        versions: of Python and torch.
        date: of the end of the training, as 2026-01-31.
        probes: None if the case has none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", ser_json_inf_nan="constants")

    key: str
    seed: int
    train_accuracy: float
    test_accuracy: float
    test_loss: float
    train_accuracies: Floats
    validation_accuracies: Floats
    train_losses: Floats
    validation_losses: Floats
    params: int
    trained_params: int
    macs: int
    cpu_seconds: float
    wall_seconds: float
    images: str
    device: str
    versions: str
    date: str
    probes: Probes | None = None


@dataclass(frozen=True)
class Result:
    """A case and one of its trainings."""

    case: Case
    outcome: Outcome


@dataclass(frozen=True)
class Publication:
    """Where the published numbers are from.

    Attributes:
        authors: such as ``Frankle, Schwab & Morcos``.
        year: of the publication; None if unknown.
        title: of the publication.
        arxiv: number on arXiv, such as ``2003.00152``; None without one.
    """

    authors: str
    year: int | None
    title: str
    arxiv: str | None


@dataclass(frozen=True)
class Protocol:
    """What is trained.

    Attributes:
        description: sentences about images, networks and recipe.
        deviations: sentences, one for each difference from the publication.
        differences: sentences: likely reasons why measured and published numbers differ.
        cases: builds the cases; their names are unique.
        seeds: number of trainings of each case, with the seeds 0, 1, ..
        minutes: CPU minutes on one core that all trainings take; None if not measured.
    """

    description: tuple[str, ...]
    deviations: tuple[str, ...]
    differences: tuple[str, ...]
    cases: Callable[[], Sequence[Case]]
    seeds: int
    minutes: float | None = None


@dataclass(frozen=True)
class Point:
    """A point of a figure.

    Attributes:
        x: horizontal position.
        y: vertical position.
        spread: half the length of the error bar; 0 for none.
        label: shown when the pointer is over the point.
    """

    x: float
    y: float
    spread: float = 0.0
    label: str = ""


@dataclass(frozen=True)
class Series:
    """Points of one colour.

    Attributes:
        name: for the legend.
        points: in the order in which lines join them.
        joined: whether a line joins the points.
        dashed: whether it is dashed, such as for published numbers.
    """

    name: str
    points: tuple[Point, ...]
    joined: bool = True
    dashed: bool = False


@dataclass(frozen=True)
class Mark:
    """A vertical line in a figure, such as at the border layer."""

    x: float
    label: str


@dataclass(frozen=True)
class Chart:
    """A line chart or a scatter plot.

    Attributes:
        title: above the figure.
        x_label: what the horizontal axis shows, with its unit.
        y_label: what the vertical axis shows, with its unit.
        series: at most eight.
        marks: vertical lines.
        percent: whether values of y are fractions that are shown in percent.
        y_range: smallest and largest shown value; None to fit the points.
        x_log: whether the horizontal axis is logarithmic.
    """

    title: str
    x_label: str
    y_label: str
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    percent: bool = False
    y_range: tuple[float, float] | None = None
    x_log: bool = False


@dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        header: text of each column.
        rows: text of each cell.
        caption: one or two sentences; empty for none.
    """

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Section:
    """A part of a page.

    Attributes:
        heading: text.
        sentences: a paragraph each.
        parts: tables and figures in their order; `Markup` is inserted as it is.
    """

    heading: str
    sentences: tuple[str, ...] = ()
    parts: tuple[Table | Chart | Markup, ...] = ()


@dataclass(frozen=True)
class Page:
    """What an experiment has found. The framework adds protocol, device, versions and seeds.

    Attributes:
        answer: sentences that answer the question of the experiment with numbers.
        comparison: the measured numbers beside the published ones.
        sections: further tables and figures.
        picture: the figure among them that the documentation shows; None without results for it.
    """

    answer: tuple[str, ...]
    comparison: Table
    sections: tuple[Section, ...]
    picture: Chart | None = None


@dataclass(frozen=True)
class Experiment:
    """A published experiment.

    Attributes:
        name: of the module in `experiments.published`, for the command.
        title: one line.
        publication: where the published numbers are from.
        question: what the experiment asks.
        protocols: ``reduced`` for two CPU cores and ``full`` with the publication's own settings.
        page: describes the results of any protocol. It is called with all results that exist, at
            least one, in the order of cases and seeds, and must work with a part of them.
    """

    name: str
    title: str
    publication: Publication
    question: str
    protocols: Mapping[ProtocolName, Protocol]
    page: Callable[[Sequence[Result]], Page]
