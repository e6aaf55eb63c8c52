"""Selects networks from the results, and compares them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean

from experiments.published.border_layer.curves import Curve, EqualDepth, at_equal_depth
from experiments.published.summaries import (
    paired,
)
from experiments.reproduction.records import (
    Result,
)

Groups = Mapping[str, Sequence[Result]]
"""Results by the name of their case."""
Curves = Mapping[str, Sequence[Curve]]
"""Curves by the name of their case."""


def factor(groups: Groups, name: str, column: str) -> str:
    """Return a factor of a case as text."""
    return str(groups[name][0].case.factors[column])


def plain_networks(groups: Groups, found: Curves) -> dict[str, Sequence[Curve]]:
    """Return the curves of plain networks at 32 pixels without attention that have a tail."""
    return {
        name: each
        for name, each in found.items()
        if factor(groups, name, "network").startswith("vgg")
        and "attention" not in factor(groups, name, "variant")
        and each[0].has_tail
    }


def placement_names(groups: Groups) -> list[str]:
    """Return the names of VGG16 with all pooling placements."""
    return [
        name
        for name in groups
        if factor(groups, name, "network") == "vgg16"
        and any(word in factor(groups, name, "variant") for word in ("pool", "whole"))
    ]


def equal_depth(groups: Groups, found: Curves) -> EqualDepth | None:
    """Compare the layers of VGG16 with different pooling placements."""
    names = [name for name in placement_names(groups) if name in found]
    return at_equal_depth([each for name in names for each in found[name]])


def border_of(group: Sequence[Curve]) -> float:
    """Return the number of the border layer on the main path; 0 without one."""
    return float(group[0].border or 0)


def mean_plateau(group: Sequence[Curve]) -> float:
    """Return the mean of the plateau layers over seeds."""
    return fmean([each.plateau for each in group])


def truncation_differences(groups: Groups, family: str, variant: str) -> list[float]:
    """Return differences of test accuracy to the whole network, for each truncated training.

    Networks that are equal once truncated share their training. It counts once, with the mean
    difference to all of these networks.

    Args:
        groups: the results.
        family: ``vgg`` or ``resnet``.
        variant: of the truncated networks.
    """
    found: dict[tuple[str, int], list[float]] = {}
    for names in truncated_networks(groups, family, variant):
        for name in names:
            whole = groups.get(factor(groups, name, "network"), ())
            for each in groups[name]:
                key = (each.case.candidate.digest, each.outcome.seed)
                found.setdefault(key, []).extend(paired([each], whole))
    return [fmean(differences) for differences in found.values() if differences]


def truncated_networks(groups: Groups, family: str, variant: str) -> list[list[str]]:
    """Return the names of truncated networks; equal networks are in one list.

    Args:
        groups: the results.
        family: ``vgg`` or ``resnet``.
        variant: of the truncated networks.
    """
    equal: dict[str, list[str]] = {}
    for name, group in groups.items():
        if factor(groups, name, "variant") == variant and factor(
            groups, name, "network"
        ).startswith(family):
            equal.setdefault(group[0].case.candidate.digest, []).append(name)
    return list(equal.values())


def equal_when_truncated(groups: Groups) -> str:
    """Say which networks are equal once truncated; empty for none."""
    sentences = []
    for variant in ("truncated", "truncated, border kept"):
        for family in ("vgg", "resnet"):
            for names in truncated_networks(groups, family, variant):
                if len(names) > 1:
                    whole = " and ".join(factor(groups, name, "network") for name in names)
                    sentences.append(
                        f"{whole} are one network when {variant}. It is trained once for each seed "
                        "and counts once, with the mean difference to the whole networks."
                    )
    return " ".join(sentences)
