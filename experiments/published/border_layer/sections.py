"""The sections of the page."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.published.border_layer.charts import aligned, both, compared
from experiments.published.border_layer.curves import Curve
from experiments.published.border_layer.networks import main_path
from experiments.published.border_layer.selection import (
    Curves,
    Groups,
    border_of,
    equal_when_truncated,
    factor,
    mean_plateau,
    placement_names,
    plain_networks,
)
from experiments.published.summaries import (
    UNKNOWN,
    accuracies,
    millions,
    paired,
    percent,
    plain,
    points,
)
from experiments.reproduction.records import (
    Chart,
    Point,
    Result,
    Section,
    Series,
    Table,
)


def flattening(groups: Groups, found: Curves) -> Section:
    """Return probes and saturation of plain networks, before and beyond the border."""
    tails = plain_networks(groups, found)
    rows = [
        (
            name,
            factor(groups, name, "border"),
            str(len(group[0].probe) + 1 - int(border_of(group))),
            points([each.gain_before for each in group]),
            points([each.gain_beyond for each in group]),
            percent([each.saturation_before for each in group]),
            percent([each.saturation_beyond for each in group]),
            plain([each.plateau for each in group]),
        )
        for name, group in tails.items()
    ]
    whole = _whole(tails)
    return Section(
        "Do probes and saturation flatten at the border?",
        (
            "Gains of probe accuracy are percentage points per layer. Before the border they count "
            "from the first layer to the last productive one; beyond it, from there to the last "
            "layer. Numbers are means and standard deviations over seeds.",
            "The plateau is the first layer at which the probe has made nine tenths of its largest "
            "gain over the first layer.",
            "Gains usually shrink with depth, with or without a border. The networks with moved "
            "pooling layers separate both: they have the same convolutions, but other borders. A "
            "layer that is before the border in one of them is beyond it in another.",
        ),
        (
            Table(
                (
                    "network",
                    "border layer",
                    "layers from it on",
                    "probe gain before",
                    "probe gain beyond",
                    "saturation before",
                    "saturation beyond",
                    "plateau layer",
                ),
                tuple(rows),
            ),
            *(both(name, group) for name, group in whole.items()),
            *aligned_probes(groups, found),
            *aligned("Saturation of VGGs, aligned at the border", whole, "saturation"),
        ),
    )


def aligned_probes(groups: Groups, found: Curves) -> tuple[Chart, ...]:
    """Return the probe accuracies of VGGs over the distance from the border, if there are two."""
    whole = _whole(plain_networks(groups, found))
    return aligned("Probe accuracy of VGGs, aligned at the border", whole, "probe")


def _whole(curves: Curves) -> Curves:
    """Return the networks without a variant."""
    return {name: group for name, group in curves.items() if " " not in name}


def placements(groups: Groups, found: Curves) -> Section:
    """Return VGG16 with other pooling layers."""
    names = placement_names(groups)
    shown = {name: found[name] for name in names if name in found}
    rows = []
    for name in sorted(names, key=lambda name: int(factor(groups, name, "border"))):
        group, outcome = groups[name], groups[name][0].outcome
        known = found.get(name, ())
        rows.append(
            (
                name,
                _pool_places(group[0]),
                factor(groups, name, "border"),
                plain([each.plateau for each in known]),
                f"{outcome.macs / 1e6:.2f}",
                percent(accuracies(group)),
                points(paired(group, groups.get("vgg16", ()))) if name != "vgg16" else UNKNOWN,
            )
        )
    pairs = tuple(
        Point(border_of(each), mean_plateau(each), label=name) for name, each in shown.items()
    )
    diagonal = tuple(Point(x, x) for x in (4.0, 11.0))
    charts: tuple[Chart, ...] = ()
    if pairs:
        charts = (
            Chart(
                title="Predicted border and measured plateau of VGG16",
                x_label="border layer",
                y_label="plateau layer",
                series=(
                    Series("pooling placements", pairs, joined=False),
                    Series("equal", diagonal, dashed=True),
                ),
            ),
        )
    return Section(
        "Moved, added and removed pooling layers",
        (
            "All these networks have the convolutions of VGG16. Pooling layers decide where the "
            "receptive field exceeds the image, and how much a forward pass costs.",
            "Removing a pooling layer behind the border does not move the border.",
            "Differences are percentage points of test accuracy relative to VGG16, seed by seed.",
        ),
        (
            Table(
                (
                    "network",
                    "pooling after convolutions",
                    "border layer",
                    "plateau layer",
                    "million MACs",
                    "test accuracy",
                    "difference",
                ),
                tuple(rows),
            ),
            *charts,
            *aligned("Probe accuracy of VGG16, aligned at the border", shown, "probe"),
            *aligned("Saturation of VGG16, aligned at the border", shown, "saturation"),
        ),
    )


def _pool_places(result: Result) -> str:
    architecture = result.case.candidate.architecture
    path = main_path(architecture)
    pools = [i for i, layer in enumerate(architecture.layers) if layer.operation.kind == "pooling"]
    return ", ".join(str(sum(conv < pool for conv in path)) for pool in pools)


def truncation(groups: Groups) -> Section:
    """Return whole and truncated networks."""
    rows = []
    for name, group in groups.items():
        network, variant = (factor(groups, name, column) for column in ("network", "variant"))
        if variant != "whole" and not variant.startswith("truncated"):
            continue
        outcome = group[0].outcome
        architecture = group[0].case.candidate.architecture
        rows.append(
            (
                network,
                variant,
                str(len(main_path(architecture))),
                millions(outcome.params),
                f"{outcome.macs / 1e6:.2f}",
                percent(accuracies(group)),
                points(paired(group, groups.get(network, ()))) if variant != "whole" else UNKNOWN,
            )
        )
    rows.sort(key=lambda row: row[0])
    return Section(
        "Networks truncated at the border",
        (
            "A truncated network ends with the last productive convolution; with its border kept, "
            "with the border layer. Residual networks are cut between blocks.",
            "Differences are percentage points of test accuracy relative to the whole network, "
            "seed by seed.",
            *filter(None, [equal_when_truncated(groups)]),
        ),
        (
            Table(
                (
                    "network",
                    "variant",
                    "convolutions on the main path",
                    "million parameters",
                    "million MACs",
                    "test accuracy",
                    "difference",
                ),
                tuple(rows),
            ),
        ),
    )


def attention(groups: Groups, found: Curves) -> Section:
    """Return networks with and without attention."""
    rows = []
    parts: list[Table | Chart] = []
    for network in ("vgg16", "resnet18"):
        names = [
            name
            for name in groups
            if factor(groups, name, "network") == network
            and (name == network or "attention" in factor(groups, name, "variant"))
        ]
        for name in names:
            group = groups[name]
            rows.append(
                (
                    name,
                    millions(group[0].outcome.params),
                    percent(accuracies(group)),
                    points(paired(group, groups.get(network, ()))) if name != network else UNKNOWN,
                    *_before_and_beyond(found.get(name, ())),
                )
            )
        shown = {name: found[name] for name in names if name in found}
        for quantity in ("probe", "saturation"):
            parts += compared(network, shown, quantity)
    header = (
        "network",
        "million parameters",
        "test accuracy",
        "difference",
        "probe gain before",
        "probe gain beyond",
    )
    return Section(
        "Attention",
        (
            "Squeeze-and-excitation pools the whole map, so its gate sees the whole image in every "
            "layer. Spatial attention weights the pixels with a 7x7 convolution. The border "
            "ignores both.",
            "Differences are relative to the network without attention, seed by seed.",
        ),
        (Table(header, tuple(rows)), *parts),
    )


def _before_and_beyond(group: Sequence[Curve]) -> tuple[str, str]:
    if not group or not group[0].has_tail:
        return UNKNOWN, UNKNOWN
    return points([each.gain_before for each in group]), points(
        [each.gain_beyond for each in group]
    )


def residual(groups: Groups, found: Curves) -> Section:
    """Return the probes of residual networks."""
    names = [
        name
        for name in found
        if factor(groups, name, "network").startswith("resnet")
        and "attention" not in factor(groups, name, "variant")
    ]
    rows = [
        (
            name,
            factor(groups, name, "border"),
            *_before_and_beyond(found[name]),
            percent([each.saturation_before for each in found[name]]),
            percent([each.saturation_beyond for each in found[name]]),
            percent(accuracies(groups[name])),
        )
        for name in names
        if found[name][0].has_tail
    ]
    header = (
        "network",
        "border layer",
        "probe gain before",
        "probe gain beyond",
        "saturation before",
        "saturation beyond",
        "test accuracy",
    )
    return Section(
        "Residual networks",
        (
            "A residual network has several paths. The border is the line in the authors' figures: "
            "the first convolution of the main path from which the smallest receptive fields of "
            "all later ones exceed the image. The screen of Borderline also counts the paths "
            "through later shortcuts. By that rule the last convolution alone is unproductive at "
            "32 pixels.",
            "Shortcuts are not counted as layers here.",
            "With less downsampling, stages 3 and 4 have stride 1.",
        ),
        (Table(header, tuple(rows)), *(both(name, found[name]) for name in names)),
    )
