"""The page: accuracy and overfitting over the depth at which a network has its features."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from statistics import fmean

from experiments.published.layerwise_features.cases import (
    FULL,
    PUBLISHED_PARAMS,
    PYRAMID,
    SKEW_NORMAL,
    UNIFORM,
    WIDE,
    amounts,
)
from experiments.published.layerwise_features.findings import (
    EARLY,
    LATE,
    Group,
    Trained,
    Value,
    accuracy,
    gap,
    groups,
)
from experiments.published.layerwise_features.networks import (
    SCALES,
    SKEWS,
    VGG_D,
    build,
    valid_distributions,
    weights,
)
from experiments.published.summaries import UNKNOWN, millions, percent, point, points
from experiments.reproduction.records import Chart, Mark, Page, Result, Section, Series, Table
from experiments.reproduction.scatter3d import Axis, Place, Scatter3D, draw_3d
from spaces.task import Task

VALID_D = 193
"""Published number of valid distributions of VGG-D."""


def page(results: Sequence[Result]) -> Page:
    """Describe the results."""
    found = groups(results)
    return Page(
        answer=tuple(_answer(found)),
        comparison=_comparison(found),
        sections=tuple(_section(group) for group in found),
        picture=_over_centre(found[0]) if found else None,
    )


def _answer(found: Sequence[Group]) -> Iterator[str]:
    yield from map(_summary, found)
    yield (
        f"Early-heavy: the centre of mass of the features lies in the first {100 * EARLY:.0f} % of "
        "the depth. A negative rank correlation of accuracy with the centre of mass favours early "
        "features. A positive one of training minus test accuracy means that early features "
        "overfit less."
    )
    ratios = [
        fmean(each.macs for each in group.early) / group.of(PYRAMID)[0].macs
        for group in found
        if group.early and group.of(PYRAMID)
    ]
    if ratios:
        yield (
            "The comparison is at a constant total of features, as published. The early-heavy "
            f"networks then take {min(ratios):.1f} to {max(ratios):.1f} times the "
            "multiply-accumulates of the pyramid. The wide pyramid has its shape and as many "
            "multiply-accumulates as a broad early-heavy network."
        )


def _summary(group: Group) -> str:
    pyramid = group.of(PYRAMID)
    if not (group.early and pyramid):
        return f"{_name(group)}: early-heavy networks and the pyramid are not both trained yet."
    text = (
        f"{_name(group)}: early-heavy networks classify {_mean(group.early, accuracy)} of the test "
        f"images, the pyramid {percent(pyramid[0].test)}, a difference of "
        f"{points(group.differences(group.early, PYRAMID, accuracy))} points; rank correlation of "
        f"accuracy with the centre of mass {_correlation(group, _centre, accuracy)}. Training "
        f"minus test accuracy differs by {points(group.differences(group.early, PYRAMID, gap))} "
        f"points; rank correlation {_correlation(group, _centre, gap)}."
    )
    wide = group.differences(group.early, WIDE, accuracy)
    return (
        f"{text} From the wide pyramid, accuracy differs by {points(wide)} points."
        if wide
        else text
    )


def _details(group: Group) -> Iterator[str]:
    if group.early and group.of(PYRAMID):
        best = max(group.early, key=lambda each: fmean(each.test))
        yield (
            f"The best early-heavy network, {best.label}, differs from the pyramid by "
            f"{points(group.differences([best], PYRAMID, accuracy))} points. It is chosen on the "
            "images that score it, so this is optimistic."
        )
    if group.early and group.late:
        yield (
            f"Training minus test accuracy: {_mean(group.early, gap, '+')} points for early-heavy "
            f"networks, {_mean(group.late, gap, '+')} for late-heavy ones."
        )
    if group.correlation(_centre, accuracy) is not None:
        yield (
            "Rank correlations over the skew-normal networks, of test accuracy with parameters: "
            f"{_correlation(group, _params, accuracy)}, with multiply-accumulates: "
            f"{_correlation(group, _macs, accuracy)}."
            f"{' In brackets: range of single seeds.' if group.seeds > 1 else ''}"
        )
    early, pyramid, wide = group.early, group.of(PYRAMID), group.of(WIDE)
    if early and pyramid and wide:
        yield (
            f"Parameters: {millions(fmean(each.params for each in early))} M on average for "
            f"early-heavy networks, {millions(pyramid[0].params)} M for the pyramid and "
            f"{millions(wide[0].params)} M for the wide pyramid, which classifies "
            f"{percent(wide[0].test)} with {wide[0].macs / 1e6:,.1f} M multiply-accumulates."
        )


def _name(group: Group) -> str:
    return f"{group.network} on {_IMAGES.get(group.images, group.images)}"


_IMAGES = {"cifar10": "CIFAR-10", "mnist": "MNIST", "fashion-mnist": "Fashion-MNIST"}


def _mean(networks: Sequence[Trained], value: Value, sign: str = "") -> str:
    means = [fmean(map(value, each.outcomes.values())) for each in networks]
    return f"{100 * fmean(means):{sign}.1f}" + ("" if sign else " %")


def _correlation(group: Group, of: Callable[[Trained], float], value: Value) -> str:
    found = group.correlation(of, value)
    if found is None:
        return UNKNOWN
    whole, low, high = found
    return f"{whole:+.2f}" + (f" ({low:+.2f} to {high:+.2f})" if group.seeds > 1 else "")


def _comparison(found: Sequence[Group]) -> Table:
    task = Task(channels=3, height=32, width=32, classes=10)
    grid = f"{(VGG_D.layers + 1) * len(SCALES) * len(SKEWS):,}"
    valid = len(valid_distributions(VGG_D))
    rows = [(f"valid of {grid} distributions of VGG-D", f"{VALID_D:,}", f"{valid:,}")]
    for distribution, published in PUBLISHED_PARAMS.items():
        network = build(VGG_D, amounts(VGG_D, distribution), task, FULL.dropout)
        rows.append(
            (f"parameters of {distribution}, VGG-D", f"{published:,}", f"{weights(network):,}")
        )
    for group in found:
        for value, what, published_finding in (
            (accuracy, "accuracy", "early features match or beat the pyramid"),
            (gap, "training minus test accuracy", "early features overfit less"),
        ):
            differences = group.differences(group.early, PYRAMID, value)
            rows.append(
                (
                    f"{what}, early-heavy minus pyramid, {_name(group)}",
                    published_finding,
                    f"{points(differences)} points" if differences else UNKNOWN,
                )
            )
    return Table(
        header=("", "published", "measured"),
        rows=tuple(rows),
        caption="Parameters are those of the full protocol, without batch norms and the "
        "classifier's bias. Differences: mean"
        f"{' and standard deviation over seeds' if any(each.seeds > 1 for each in found) else ''}.",
    )


def _section(group: Group) -> Section:
    name = _name(group)
    networks = group.trained
    return Section(
        name,
        (
            "Centre of mass: mean depth of the features, 0 for the first layer and 1 for the last "
            f"hidden layer. Early-heavy networks are below {EARLY:g}, late-heavy ones above "
            f"{LATE:g}. All networks but the wide pyramid have the same total of features; "
            "rounding and the narrowest layers change it by a few percent.",
            *_details(group),
        ),
        (
            draw_3d(_scatter(group)),
            _over_centre(group),
            _chart(
                group,
                "Training minus test accuracy over the centre of mass",
                "centre of mass",
                _centre,
                gaps=True,
            ),
            _chart(
                group,
                "Test accuracy over multiply-accumulates",
                "million multiply-accumulates",
                _macs,
                x_log=True,
            ),
            _chart(
                group,
                "Test accuracy over parameters",
                "million parameters",
                _params,
                x_log=True,
            ),
            _table(networks),
        ),
    )


def _over_centre(group: Group) -> Chart:
    return _chart(group, "Test accuracy over the centre of mass", "centre of mass", _centre)


def _centre(network: Trained) -> float:
    return network.centre


def _macs(network: Trained) -> float:
    return network.macs / 1e6


def _params(network: Trained) -> float:
    return network.params / 1e6


def _chart(
    group: Group,
    title: str,
    x_label: str,
    x: Callable[[Trained], float],
    *,
    gaps: bool = False,
    x_log: bool = False,
) -> Chart:
    """Return a scatter plot with a series for each shape."""
    series = [
        Series(
            shape,
            tuple(
                point(x(each), values, f"{each.label}: {percent(values)}")
                for each in group.of(shape)
                for values in [each.gaps if gaps else each.test]
            ),
            joined=False,
        )
        for shape in (SKEW_NORMAL, PYRAMID, UNIFORM, WIDE)
        if group.of(shape)
    ]
    return Chart(
        f"{title}, {_name(group)}",
        x_label,
        "training minus test accuracy" if gaps else "test accuracy",
        tuple(series),
        marks=() if x_log else (Mark(EARLY, "← early-heavy"), Mark(LATE, "late-heavy →")),
        percent=True,
        x_log=x_log,
    )


def _scatter(group: Group) -> Scatter3D:
    networks = group.of(SKEW_NORMAL)
    layers = len(networks[0].features.split()) if networks else 1
    axes = (
        Axis("xi: location", 0, layers),
        Axis("omega: scale", SCALES[0], SCALES[-1]),
        Axis("alpha: skew", SKEWS[0], SKEWS[-1]),
    )
    return Scatter3D(
        f"Test accuracy over the distribution of features, {_name(group)}",
        axes,
        "accuracy",
        tuple(map(_place, networks)),
    )


def _place(network: Trained) -> Place:
    factors = network.case.factors
    xi, omega, alpha = (float(factors[name]) for name in ("xi", "omega", "alpha"))
    return Place(
        (xi, omega, alpha),
        fmean(network.test),
        f"xi {xi:g}, omega {omega:g}, alpha {alpha:g}",
        (
            f"test accuracy {percent(network.test)}, training {percent(network.train)}",
            f"{network.params:,} parameters, {network.macs / 1e6:,.1f} M multiply-accumulates",
            f"features: {network.features}",
        ),
    )


def _table(networks: Sequence[Trained]) -> Table:
    rows = sorted(networks, key=lambda each: each.centre)
    return Table(
        header=(
            "network",
            "centre",
            "test",
            "training",
            "difference",
            "parameters",
            "M MACs",
            "features",
        ),
        rows=tuple(
            (
                each.label,
                f"{each.centre:.2f}",
                percent(each.test),
                percent(each.train),
                points(each.gaps),
                f"{each.params:,}",
                f"{each.macs / 1e6:.2f}",
                each.features,
            )
            for each in rows
        ),
        caption="From early to late features; mean and standard deviation over seeds. MACs: "
        "multiply-accumulates of a forward pass of one image.",
    )
