"""Zeroes each convolution of trained networks (Wang et al. 2020)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

from experiments.published.networks import (
    DIVISOR,
    FULL_EPOCHS,
    REDUCED_EPOCHS,
    RESNETS,
    full_cases,
    reduced_cases,
)
from experiments.published.summaries import UNKNOWN, deviation, percent
from experiments.reproduction.records import (
    Case,
    Chart,
    Experiment,
    Mark,
    Page,
    Point,
    Probes,
    Protocol,
    Publication,
    Result,
    Section,
    Series,
    Table,
)
from spaces.operations import Convolution
from trainables.probes.records import LayerProbes

TRIVIAL_BELOW = 0.02
"""A layer is called trivial if the network loses less accuracy without it."""

ZERO_KERNEL = "zero kernel"
KINDS: dict[str, Callable[[LayerProbes], float | None]] = {
    ZERO_KERNEL: lambda layer: layer.zero_kernel_accuracy,
    "zero branch": lambda layer: layer.zero_branch_accuracy,
}
"""Ways to remove a layer, and the accuracy without it."""


@dataclass(frozen=True)
class Layer:
    """One convolution of a network, with the accuracy that is lost without it.

    Attributes:
        number: 1-based, in forward order.
        name: of the convolution.
        channels: numbers of its input and output channels.
        is_shortcut: whether it has a 1x1 kernel, as the shortcuts of ResNets.
        losses: lost accuracy for each seed, by the keys of `KINDS`; negative for a gain.
    """

    number: int
    name: str
    channels: tuple[int, int]
    is_shortcut: bool
    losses: Mapping[str, tuple[float, ...]]

    @property
    def changes(self) -> bool:
        """Whether it changes the number of channels."""
        return self.channels[0] != self.channels[1]

    def loss(self, kind: str) -> float:
        """Return the mean loss over seeds."""
        return fmean(self.losses[kind])

    def is_trivial(self, kind: str) -> bool:
        """Tell whether the network loses little without it."""
        return self.loss(kind) < TRIVIAL_BELOW


@dataclass(frozen=True)
class Network:
    """A trained network.

    Attributes:
        name: of the network.
        accuracies: of the whole network for each seed, on the probed images.
        layers: its convolutions.
    """

    name: str
    accuracies: tuple[float, ...]
    layers: tuple[Layer, ...]

    @property
    def is_residual(self) -> bool:
        """Whether it has skip connections."""
        return self.name in RESNETS

    @property
    def inner(self) -> tuple[Layer, ...]:
        """Its convolutions but the first, which reads the image."""
        return self.layers[1:]


def networks(results: Sequence[Result]) -> list[Network]:
    """Return the networks whose layers were removed, with all finished seeds."""
    found = []
    for name in dict.fromkeys(str(result.case.factors["network"]) for result in results):
        own = [result for result in results if result.case.factors["network"] == name]
        probes = [each.outcome.probes for each in own if each.outcome.probes is not None]
        if probes:
            channels = channels_of(own[0].case)
            accuracies = tuple(each.accuracy for each in probes)
            layers = tuple(_layers(probes, channels))
            found.append(Network(name, accuracies, layers))
    return found


def channels_of(case: Case) -> dict[str, tuple[int, int]]:
    """Return the numbers of input and output channels of each convolution by its name."""
    network = case.candidate.architecture
    return {
        network.layers[index].name: (
            network.shapes[network.layers[index].inputs[0]][0],
            network.shapes[index][0],
        )
        for index in network.indices(Convolution)
    }


def _layers(probes: Sequence[Probes], channels: Mapping[str, tuple[int, int]]) -> Iterator[Layer]:
    for position, layer in enumerate(probes[0].layers):
        losses = {
            kind: tuple(
                seed.accuracy - without
                for seed in probes
                if (without := accuracy_without(seed.layers[position])) is not None
            )
            for kind, accuracy_without in KINDS.items()
        }
        yield Layer(position + 1, layer.name, channels[layer.name], layer.kernel == (1, 1), losses)


def page(results: Sequence[Result]) -> Page:
    """Describe the results."""
    found = networks(results)
    chart = _overview_chart(found)
    return Page(
        answer=tuple(_answer(found)),
        comparison=_comparison(found),
        sections=(_overview(found, chart), *(_section(network) for network in found)),
        picture=chart if found else None,
    )


def _answer(found: Sequence[Network]) -> Iterator[str]:
    for residual, kind_of in ((True, "ResNets"), (False, "VGGs")):
        layers = _inner(found, residual)
        if not layers:
            continue
        changing, same = _by_change(layers)
        text = f"{kind_of}: "
        if changing and same:
            at_change, elsewhere = (
                fmean(layer.loss(ZERO_KERNEL) for layer in group) for group in (changing, same)
            )
            text += (
                f"without a convolution that changes the number of channels, accuracy drops by "
                f"{100 * at_change:.1f} percentage points on average; without another one, by "
                f"{100 * elsewhere:.1f}. "
            )
        trivial = [layer for layer in layers if layer.is_trivial(ZERO_KERNEL)]
        among = sum(layer.changes for layer in trivial)
        text += (
            f"{len(trivial)} of {len(layers)} convolutions are trivial (loss below "
            f"{100 * TRIVIAL_BELOW:g} points); {among} of them change the number of channels."
        )
        yield text


def _comparison(found: Sequence[Network]) -> Table:
    rows = [
        (
            "Networks without skips: trivial convolutions",
            "none",
            _share_of_trivial(_inner(found, residual=False)),
        ),
        (
            "ResNets: trivial convolutions",
            "many, if over-parameterised",
            _share_of_trivial(_inner(found, residual=True)),
        ),
        (
            "ResNets: mean loss where channels change / elsewhere",
            "non-trivial where channels change",
            _losses_by_change(_inner(found, residual=True)),
        ),
        (
            "ResNets: the same without shortcuts",
            "not stated",
            _losses_by_change(_main_path(found)),
        ),
        (
            "Networks without skips: the same",
            "not stated",
            _losses_by_change(_inner(found, residual=False)),
        ),
    ]
    return Table(
        ("finding", "published", "measured"),
        tuple(rows),
        "The publication's findings in words; its tables of numbers are not available. Measured: "
        "with a zero kernel, without the first convolution of each network.",
    )


def _overview_chart(found: Sequence[Network]) -> Chart:
    return Chart(
        f"Lost accuracy over relative depth ({ZERO_KERNEL})",
        "relative depth: 0 is the first convolution, 1 the last",
        "lost accuracy",
        tuple(
            _positions(found, residual, changes)
            for residual in (True, False)
            for changes in (True, False)
        ),
        percent=True,
    )


def _overview(found: Sequence[Network], chart: Chart) -> Section:
    rows = [_row(network, kind) for network in found for kind in KINDS]
    table = Table(
        (
            "network",
            "accuracy",
            "removed by",
            "trivial",
            "mean loss where channels change",
            "elsewhere",
        ),
        tuple(rows),
        "Accuracy on the probed test images; losses in percentage points. The first convolution of "
        "each network is left out.",
    )
    sentences = (
        "Zero kernel: the convolution returns zero, and the batch norm behind it a constant. Zero "
        "branch: the output of this batch norm is zero, too.",
    )
    return Section("All networks", sentences, (table, chart))


def _positions(found: Sequence[Network], residual: bool, changes: bool) -> Series:
    """Return the layers of some networks that change the number of channels, or do not."""
    points = tuple(
        Point(
            (layer.number - 1) / max(1, len(network.layers) - 1),
            layer.loss(ZERO_KERNEL),
            label=f"{network.name} {_describe(layer)}: {100 * layer.loss(ZERO_KERNEL):.1f} points",
        )
        for network in found
        if network.is_residual == residual
        for layer in network.layers
        if layer.changes == changes
    )
    family = "ResNets" if residual else "VGGs"
    name = f"{family}, channels change" if changes else f"{family}, others"
    return Series(name, points, joined=False)


def _row(network: Network, kind: str) -> tuple[str, ...]:
    changing, same = _by_change(network.inner)
    return (
        network.name,
        percent(network.accuracies),
        kind,
        _share_of_trivial(network.inner, kind),
        _points(changing, kind),
        _points(same, kind),
    )


def _section(network: Network) -> Section:
    chart = Chart(
        f"{network.name}: lost accuracy without each convolution",
        "number of the convolution (vertical lines: the number of channels changes)",
        "lost accuracy",
        tuple(
            Series(
                kind,
                tuple(
                    Point(
                        layer.number,
                        layer.loss(kind),
                        deviation(layer.losses[kind]),
                        f"{kind}: {_describe(layer)}: {100 * layer.loss(kind):.1f} points",
                    )
                    for layer in network.layers
                    if layer.losses[kind]
                ),
            )
            for kind in KINDS
        ),
        marks=tuple(
            Mark(layer.number, "" if layer.is_shortcut else "{}→{}".format(*layer.channels))
            for layer in network.layers
            if layer.changes
        ),
        percent=True,
    )
    return Section(network.name, (), (chart,))


def _describe(layer: Layer) -> str:
    return "{} ({}→{} channels)".format(layer.name, *layer.channels)


def _inner(found: Sequence[Network], residual: bool) -> list[Layer]:
    return [
        layer for network in found if network.is_residual == residual for layer in network.inner
    ]


def _main_path(found: Sequence[Network]) -> list[Layer]:
    """Return the convolutions of ResNets that are no shortcuts, without the first of each."""
    return [layer for layer in _inner(found, residual=True) if not layer.is_shortcut]


def _by_change(layers: Sequence[Layer]) -> tuple[list[Layer], list[Layer]]:
    """Return the layers that change the number of channels, and the others."""
    changing = [layer for layer in layers if layer.changes]
    return changing, [layer for layer in layers if not layer.changes]


def _share_of_trivial(layers: Sequence[Layer], kind: str = ZERO_KERNEL) -> str:
    if not layers:
        return UNKNOWN
    return f"{sum(layer.is_trivial(kind) for layer in layers)} of {len(layers)}"


def _losses_by_change(layers: Sequence[Layer]) -> str:
    changing, same = _by_change(layers)
    return f"{_points(changing, ZERO_KERNEL)} / {_points(same, ZERO_KERNEL)} points"


def _points(layers: Sequence[Layer], kind: str) -> str:
    return f"{100 * fmean(layer.loss(kind) for layer in layers):.1f}" if layers else UNKNOWN


_DIFFERENCES = (
    f"The share of trivial layers depends on the limit of {100 * TRIVIAL_BELOW:g} percentage "
    "points, which the publication does not give in these terms.",
    "Accuracies are measured on at most 1,000 test images, so single layers are uncertain by about "
    "one percentage point.",
)

EXPERIMENT = Experiment(
    name="layer_triviality",
    title="Which convolutions of a trained network are trivial?",
    publication=Publication("Wang et al.", 2020, "Is Each Layer Non-trivial in CNN?", "2009.09938"),
    question="How much accuracy does a trained network lose if the kernel of one convolution is "
    "set to zero, without retraining? Are the non-trivial ones where the number of channels "
    "changes?",
    protocols={
        "full": Protocol(
            description=(
                "CIFAR-10 at 32 pixels, all 50,000 training and 10,000 test images. VGG11, 13, 16 "
                "and 19, ResNet18 and 34 with the stem for large images.",
                f"{FULL_EPOCHS} epochs of SGD, learning rate 0.1, divided by 10 every 10 epochs, "
                "batch size 64, weight decay 0.0005, random crops (padding 4) and flips: the "
                "trainings are those of border_layer.",
            ),
            deviations=(
                "The training settings are those of Richter et al. 2021, so that both experiments "
                "share the trained networks.",
            ),
            differences=_DIFFERENCES,
            cases=full_cases,
            seeds=3,
        ),
        "reduced": Protocol(
            description=(
                "CIFAR-10 at 32 pixels, 5,000 training and 5,000 test images. VGG11, 13, 16 and "
                f"19, ResNet18 and 34, with their widths divided by {DIVISOR}.",
                f"{REDUCED_EPOCHS} epochs of SGD with a one-cycle schedule, peak learning rate "
                "0.1, batch size 64, weight decay 0.0005, random flips. The trainings are those of "
                "border_layer.",
            ),
            deviations=(
                f"Reduced: widths divided by {DIVISOR}, a tenth of the training images, "
                f"{REDUCED_EPOCHS} epochs.",
                "The training settings are those of border_layer, so that both experiments share "
                "the trained networks.",
            ),
            differences=(
                "The networks here are trained for few epochs. Longer training of wider networks "
                "makes more layers trivial, because they have more parameters than they need.",
                *_DIFFERENCES,
            ),
            cases=reduced_cases,
            seeds=3,
            minutes=9,
        ),
    },
    page=page,
)
