"""The page: its answer, and the measured numbers beside the published ones."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.published.border_layer.curves import EqualDepth, curves
from experiments.published.border_layer.sections import (
    aligned_probes,
    attention,
    flattening,
    placements,
    residual,
    truncation,
)
from experiments.published.border_layer.selection import (
    Curves,
    Groups,
    border_of,
    equal_depth,
    equal_when_truncated,
    factor,
    mean_plateau,
    plain_networks,
    truncation_differences,
)
from experiments.published.summaries import (
    accuracies,
    by_case,
    percent,
    plain,
    points,
    rank_correlation,
)
from experiments.reproduction.records import (
    Page,
    Result,
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


def describe(results: Sequence[Result]) -> Page:
    """Return the page about these results."""
    groups, found = by_case(results), curves(results)
    aligned = aligned_probes(groups, found)
    return Page(
        answer=_answer(groups, found),
        comparison=_comparison(groups),
        sections=(
            flattening(groups, found),
            placements(groups, found),
            truncation(groups),
            attention(groups, found),
            residual(groups, found),
        ),
        picture=aligned[0] if aligned else None,
    )


def _answer(groups: Groups, found: Curves) -> tuple[str, ...]:
    tails = plain_networks(groups, found)
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
    sentences += _equal_depth_sentences(equal_depth(groups, found))
    pairs = [(border_of(each), mean_plateau(each)) for each in tails.values()]
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


def _truncation_sentences(groups: Groups) -> list[str]:
    sentences = []
    for kind, family in (("plain", "vgg"), ("residual", "resnet")):
        without, kept = (
            truncation_differences(groups, family, variant)
            for variant in ("truncated", "truncated, border kept")
        )
        if without and kept:
            sentences.append(
                f"Truncated {kind} networks reach {points(without)} percentage points of test "
                f"accuracy relative to the whole ones, and {points(kept)} with the border kept "
                f"(seed by seed, {len(without)} and {len(kept)} trainings of truncated networks)."
            )
    equal = equal_when_truncated(groups)
    return [*sentences, equal] if sentences and equal else sentences


def _comparison(groups: Groups) -> Table:
    rows = []
    for name, border in PUBLISHED_BORDERS.items():
        if name in groups:
            rows.append((name, "border layer", str(border), factor(groups, name, "border")))
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
