"""The page of the experiment ``border_layer``."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from experiments.published.border_layer_curves import Curve, EqualDepth, at_equal_depth, curves
from experiments.published.border_layer_networks import main_path
from experiments.published.summaries import (
    UNKNOWN,
    accuracies,
    by_case,
    millions,
    paired,
    percent,
    plain,
    point,
    points,
    rank_correlation,
)
from experiments.reproduction.records import (
    Chart,
    Mark,
    Page,
    Point,
    Result,
    Section,
    Series,
    Table,
)

PUBLISHED_BORDERS = {
    "vgg11": 6,
    "vgg13": 8,
    "vgg16": 8,
    "vgg19": 8,
    "resnet18": 11,
}
PUBLISHED_TRUNCATIONS = {
    "vgg11": (9.226, 152.8, 4.504, 133.9),
    "vgg13": (9.411, 228.3, 4.689, 209.4),
    "vgg16": (14.723, 313.2, 2.919, 209.4),
    "vgg19": (20.035, 398.1, 2.328, 228.3),
}
"""Million parameters and million MACs of the whole and the truncated network with its border."""
SMALL = {
    "resnet18 at 16 px": ("17 %", "1"),
    "resnet18 at 16 px, truncated": ("18 %", "about 0.2"),
    "resnet18 at 16 px, less downsampling": ("34 %", "about 8"),
}
"""Accuracy and relative compute in the README of the authors' toolbox."""

Groups = Mapping[str, Sequence[Result]]
Curves = Mapping[str, Sequence[Curve]]


def describe(results: Sequence[Result]) -> Page:
    """Return the page about these results."""
    groups, found = by_case(results), curves(results)
    return Page(
        answer=_answer(groups, found),
        comparison=_comparison(groups),
        sections=(
            _flattening(groups, found),
            _placements(groups, found),
            _truncation(groups),
            _attention(groups, found),
            _residual(groups, found),
        ),
        differences=(
            "The published result tables were not available, so most accuracies have no published "
            "number beside them. Borders, parameters and MACs have one.",
            "The README of the authors' toolbox does not name the images of its three accuracies. "
            "Compare their order and their ratios, and not their values.",
            "Narrow networks that train for few epochs on few images stay far below the accuracy "
            "of the full protocol. A receptive field depends on kernels and strides alone, so the "
            "border is the same for every width.",
            "Parameters and MACs of this page include the head. The published ones do not. The "
            "first layer costs a larger part of the MACs of narrow networks, because the number of "
            "its input channels stays 3.",
            "The images are JPEG copies of CIFAR-10, which differ slightly from the originals.",
        ),
    )


def _plain(groups: Groups, found: Curves) -> dict[str, Sequence[Curve]]:
    """Return the curves of plain networks at 32 pixels without attention that have a tail."""
    return {
        name: each
        for name, each in found.items()
        if _factor(groups, name, "network").startswith("vgg")
        and "attention" not in _factor(groups, name, "variant")
        and each[0].has_tail
    }


def _factor(groups: Groups, name: str, factor: str) -> str:
    return str(groups[name][0].case.factors[factor])


def _answer(groups: Groups, found: Curves) -> tuple[str, ...]:
    tails = _plain(groups, found)
    if not tails:
        return ("No probed network has finished yet.",)
    every = [each for group in tails.values() for each in group]
    flatter = sum(each.gain_beyond < each.gain_before for each in every)
    lower = sum(each.saturation_beyond < each.saturation_before for each in every)
    sentences = [
        f"Probe accuracy gains {points([each.gain_before for each in every])} percentage points "
        f"per layer before the border and {points([each.gain_beyond for each in every])} from the "
        f"border on (mean and standard deviation over {len(tails)} plain networks and their "
        f"seeds). The gain is smaller beyond the border in {flatter} of {len(every)} trainings.",
        f"Mean saturation is {percent([each.saturation_before for each in every])} before the "
        f"border and {percent([each.saturation_beyond for each in every])} from the border on. It "
        f"is lower beyond the border in {lower} of {len(every)} trainings.",
    ]
    sentences.append(
        "All layers before the border together gain "
        f"{points([each.whole_gain_before for each in every])} percentage points of probe accuracy "
        "over the first layer; all layers from the border on together gain "
        f"{points([each.whole_gain_beyond for each in every])}."
    )
    sentences += _equal_depth_sentences(_equal_depth(groups, found))
    pairs = [(_border(each), _plateau(each)) for each in tails.values()]
    correlation = rank_correlation(pairs)
    if correlation is not None:
        sentences.append(
            "Probe accuracy has made nine tenths of its gain "
            f"{plain([reached - border for border, reached in pairs])} layers after the border "
            "layer (mean and standard deviation over networks; negative numbers are layers before "
            f"it). The rank correlation of both layers over {len(pairs)} plain networks is "
            f"{correlation:.2f}."
        )
    sentences += _truncation_sentences(groups)
    return tuple(sentences)


def _equal_depth(groups: Groups, found: Curves) -> EqualDepth | None:
    """Compare the layers of VGG16 with different pooling placements."""
    names = [name for name in _placement_names(groups) if name in found]
    return at_equal_depth([each for name in names for each in found[name]])


def _equal_depth_sentences(compared: EqualDepth | None) -> list[str]:
    if compared is None:
        return []
    first, last = compared.layers[0], compared.layers[-1]
    return [
        f"At equal depth (layers {first} to {last} of VGG16 with different pooling placements), a "
        f"layer gains {points(compared.before)} percentage points where it is before the border, "
        f"and {points(compared.beyond)} where it is beyond it (mean and standard deviation over "
        f"seeds)."
    ]


def _border(group: Sequence[Curve]) -> float:
    return float(group[0].border or 0)


def _plateau(group: Sequence[Curve]) -> float:
    return fmean([each.plateau for each in group])


def _truncation_sentences(groups: Groups) -> list[str]:
    sentences = []
    for kind, family in (("plain", "vgg"), ("residual", "resnet")):
        without, kept = (
            _truncation_differences(groups, family, variant)
            for variant in ("truncated", "truncated, border kept")
        )
        if without and kept:
            sentences.append(
                f"Truncated {kind} networks reach {points(without)} percentage points of test "
                f"accuracy relative to the whole ones, and {points(kept)} with the border kept "
                f"(seed by seed, {len(without)} and {len(kept)} pairs)."
            )
    return sentences


def _truncation_differences(groups: Groups, family: str, variant: str) -> list[float]:
    return [
        difference
        for name, group in groups.items()
        if _factor(groups, name, "variant") == variant
        and _factor(groups, name, "network").startswith(family)
        for difference in paired(group, groups.get(_factor(groups, name, "network"), ()))
    ]


def _comparison(groups: Groups) -> Table:
    rows = []
    for name, border in PUBLISHED_BORDERS.items():
        if name in groups:
            rows.append((name, "border layer", str(border), _factor(groups, name, "border")))
    for name, (params, macs, fewer_params, fewer_macs) in PUBLISHED_TRUNCATIONS.items():
        cut = f"{name} truncated, border kept"
        if name in groups and cut in groups:
            whole, shorter = groups[name][0].outcome, groups[cut][0].outcome
            rows += [
                (
                    cut,
                    "parameters relative to the whole network",
                    f"{fewer_params / params:.3f}",
                    f"{shorter.params / whole.params:.3f}",
                ),
                (
                    cut,
                    "MACs relative to the whole network",
                    f"{fewer_macs / macs:.3f}",
                    f"{shorter.macs / whole.macs:.3f}",
                ),
            ]
    whole_small = next(iter(SMALL))
    for name, (accuracy, compute) in SMALL.items():
        if name in groups:
            rows.append((name, "test accuracy", accuracy, percent(accuracies(groups[name]))))
            if name != whole_small and whole_small in groups:
                ratio = groups[name][0].outcome.macs / groups[whole_small][0].outcome.macs
                rows.append((name, "MACs relative to the whole network", compute, f"{ratio:.2f}"))
    return Table(
        ("network", "quantity", "published", "measured"),
        tuple(rows),
        "Borders are for images of 32 pixels. Accuracies are mean and standard deviation over "
        "seeds.",
    )


def _flattening(groups: Groups, found: Curves) -> Section:
    tails = _plain(groups, found)
    rows = [
        (
            name,
            _factor(groups, name, "border"),
            str(len(group[0].probe) + 1 - int(_border(group))),
            points([each.gain_before for each in group]),
            points([each.gain_beyond for each in group]),
            percent([each.saturation_before for each in group]),
            percent([each.saturation_beyond for each in group]),
            plain([each.plateau for each in group]),
        )
        for name, group in tails.items()
    ]
    whole = {name: group for name, group in tails.items() if " " not in name}
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
            *(_both(name, group) for name, group in whole.items()),
            *_aligned("Probe accuracy of VGGs, aligned at the border", whole, "probe"),
            *_aligned("Saturation of VGGs, aligned at the border", whole, "saturation"),
        ),
    )


def _both(name: str, group: Sequence[Curve]) -> Chart:
    """Return probe accuracy and saturation of one network over its layers."""
    border = group[0].border
    return Chart(
        title=f"{name}: probe accuracy and saturation",
        x_label="convolution on the main path",
        y_label="fraction",
        series=(
            Series("probe accuracy", _points(group, "probe")),
            Series("saturation", _points(group, "saturation")),
        ),
        marks=() if border is None else (Mark(border, f"border layer {border}"),),
        percent=True,
        y_range=(0.0, 1.0),
    )


def _points(group: Sequence[Curve], quantity: str, origin: int = 0) -> tuple[Point, ...]:
    values = [getattr(each, quantity) for each in group]
    return tuple(
        point(number - origin, [each[number - 1] for each in values], f"layer {number}")
        for number in range(1, len(values[0]) + 1)
    )


def _aligned(title: str, group: Curves, quantity: str) -> tuple[Chart, ...]:
    """Return curves over the distance from the border, if there are two."""
    if len(group) < 2:
        return ()
    return (
        Chart(
            title=title,
            x_label="layers after the border layer",
            y_label="probe accuracy" if quantity == "probe" else quantity,
            series=tuple(
                Series(name, _points(each, quantity, each[0].border or 0))
                for name, each in group.items()
            ),
            marks=(Mark(0, "border layer"),),
            percent=True,
        ),
    )


def _placement_names(groups: Groups) -> list[str]:
    """Return the names of VGG16 with all pooling placements."""
    return [
        name
        for name in groups
        if _factor(groups, name, "network") == "vgg16"
        and any(word in _factor(groups, name, "variant") for word in ("pool", "whole"))
    ]


def _placements(groups: Groups, found: Curves) -> Section:
    names = _placement_names(groups)
    shown = {name: found[name] for name in names if name in found}
    rows = []
    for name in sorted(names, key=lambda name: int(_factor(groups, name, "border"))):
        group, outcome = groups[name], groups[name][0].outcome
        known = found.get(name, ())
        rows.append(
            (
                name,
                _pool_places(group[0]),
                _factor(groups, name, "border"),
                plain([each.plateau for each in known]),
                f"{outcome.macs / 1e6:.2f}",
                percent(accuracies(group)),
                points(paired(group, groups.get("vgg16", ()))) if name != "vgg16" else UNKNOWN,
            )
        )
    pairs = tuple(Point(_border(each), _plateau(each), label=name) for name, each in shown.items())
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
            *_aligned("Probe accuracy of VGG16, aligned at the border", shown, "probe"),
            *_aligned("Saturation of VGG16, aligned at the border", shown, "saturation"),
        ),
    )


def _pool_places(result: Result) -> str:
    architecture = result.case.candidate.architecture
    path = main_path(architecture)
    pools = [i for i, layer in enumerate(architecture.layers) if layer.operation.kind == "pooling"]
    return ", ".join(str(sum(conv < pool for conv in path)) for pool in pools)


def _truncation(groups: Groups) -> Section:
    rows = []
    for name, group in groups.items():
        network, variant = (_factor(groups, name, factor) for factor in ("network", "variant"))
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


def _attention(groups: Groups, found: Curves) -> Section:
    rows = []
    parts: list[Table | Chart] = []
    for network in ("vgg16", "resnet18"):
        names = [
            name
            for name in groups
            if _factor(groups, name, "network") == network
            and (name == network or "attention" in _factor(groups, name, "variant"))
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
            parts += _compared(network, shown, quantity)
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


def _compared(network: str, shown: Curves, quantity: str) -> list[Chart]:
    if len(shown) < 2:
        return []
    border = next(iter(shown.values()))[0].border
    what = "probe accuracy" if quantity == "probe" else quantity
    return [
        Chart(
            title=f"{network} with attention: {what}",
            x_label="convolution on the main path",
            y_label=what,
            series=tuple(Series(name, _points(each, quantity)) for name, each in shown.items()),
            marks=() if border is None else (Mark(border, f"border layer {border}"),),
            percent=True,
        )
    ]


def _residual(groups: Groups, found: Curves) -> Section:
    names = [
        name
        for name in found
        if _factor(groups, name, "network").startswith("resnet")
        and "attention" not in _factor(groups, name, "variant")
    ]
    rows = [
        (
            name,
            _factor(groups, name, "border"),
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
        (Table(header, tuple(rows)), *(_both(name, found[name]) for name in names)),
    )
