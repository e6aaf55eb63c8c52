"""Screens reject candidates before they cost a trial.

A screen takes a candidate and returns a `Rejection` or None. The violation grows with the distance
from an accepted candidate, so that the sampler learns a direction.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from search.experiment.sections import BorderRule, ScreensSection
from search.loop.packing import Packing, predicted_memory
from search.study.records import Rejection
from spaces.architecture import CollapsedLayerError
from spaces.border import Rule, find_border
from spaces.candidate import Candidate
from spaces.errors import InvalidCandidateError
from spaces.operations import Norm

Screen: TypeAlias = Callable[[Candidate], Rejection | None]


def judge(candidate: Candidate, screens: Sequence[Screen]) -> Rejection | None:
    """Return the first rejection; None if every screen accepts the candidate."""
    for screen in screens:
        rejection = screen(candidate)
        if rejection is not None:
            return rejection
    return None


def build_screens(section: ScreensSection, packing: Packing | None = None) -> list[Screen]:
    """Return the screens of an experiment in the order in which they run.

    Three kinds of candidates are always rejected: a network with a collapsed feature map, a network
    in which nothing is trained, and a network that fits on no GPU of the cluster.

    Args:
        section: of the experiment.
        packing: how trials share the cluster; None while it is unknown.
    """
    screens: list[Screen] = [reject_collapsed, reject_untrainable]
    if section.border is not BorderRule.OFF:
        screens.append(BorderScreen(section.rule, section.allow_beyond, section.several_paths))
    memory = int(section.max_memory_mb * 1e6) if section.max_memory_mb else None
    bfloat16 = packing is not None and packing.bfloat16
    least, most = (section.min_params, section.min_macs), (section.max_params, section.max_macs)
    if any((*least, *most, memory)):
        screens.append(CostScreen(*most, memory, bfloat16, *least))
    if packing is not None and packing.largest_training is not None:
        screens.append(GpuScreen(packing.largest_training, packing.bfloat16))
    return screens


def reject_invalid(error: InvalidCandidateError) -> Rejection:
    """Return the rejection of drawn values that describe no network."""
    return Rejection("invalid", error.violation, error.detail)


def reject_untrainable(candidate: Candidate) -> Rejection | None:
    """Reject networks without batch norm when only batch norms are trained."""
    if candidate.recipe.trainable != "batchnorm":
        return None
    layers = candidate.architecture.layers
    norms = (layers[i].operation for i in candidate.architecture.indices(Norm))
    if any(isinstance(norm, Norm) and norm.norm == "batch" and norm.affine for norm in norms):
        return None
    return Rejection("untrainable", 1.0, "only batch norms are trained, and it has none")


def reject_collapsed(candidate: Candidate) -> Rejection | None:
    """Reject a network in which a feature map has no pixels left."""
    try:
        _ = candidate.architecture.shapes
    except CollapsedLayerError as error:
        # More remaining layers mean a larger distance from a network that fits.
        left_over = len(candidate.architecture.layers) - error.index
        return Rejection("collapsed", float(left_over), str(error))
    return None


@dataclass(frozen=True)
class BorderScreen:
    """Reject networks with convolutions beyond the border layer.

    Attributes:
        rule: published rule that finds the border layer.
        allow_beyond: number of convolutions allowed beyond it. The border layer itself is always
            allowed, as in some truncated networks of Richter et al. 2021.
        several_paths: whether networks with several paths, such as residual ones, are rejected,
            too. By the smallest fields, their shortest path decides.
    """

    rule: Rule
    allow_beyond: int
    several_paths: bool = False

    def __call__(self, candidate: Candidate) -> Rejection | None:
        """Judge one candidate."""
        analysis = find_border(candidate.architecture, self.rule)
        excess = analysis.beyond - self.allow_beyond
        if excess <= 0 or (analysis.has_several_paths and not self.several_paths):
            return None
        detail = (
            f"{analysis.beyond} of {len(analysis.convolutions)} convolutions "
            f"lie beyond the border layer ({analysis.border})"
        )
        return Rejection("border", float(excess), detail)


@dataclass(frozen=True)
class CostScreen:
    """Reject networks whose costs exceed a limit or fall below one; None is no limit.

    Attributes:
        max_params: limit of the parameters.
        max_macs: limit of the multiply-accumulates for one image.
        max_memory: limit of the predicted training memory, in bytes.
        bfloat16: whether trials train in bfloat16; float32 needs more memory.
        min_params: least number of parameters.
        min_macs: least multiply-accumulates for one image.
    """

    max_params: int | None
    max_macs: int | None
    max_memory: int | None
    bfloat16: bool = False
    min_params: int | None = None
    min_macs: int | None = None

    def __call__(self, candidate: Candidate) -> Rejection | None:
        """Judge one candidate."""
        found = candidate.costs
        for reason, value, least in (
            ("params", found.params, self.min_params),
            ("macs", found.macs, self.min_macs),
        ):
            if least is not None and value < least:
                return Rejection(
                    reason, 1 - value / least, f"{reason} {value:,} are under {least:,}"
                )
        memory = candidate.training_memory(bfloat16=self.bfloat16) if self.max_memory else 0
        for reason, value, limit in (
            ("params", found.params, self.max_params),
            ("macs", found.macs, self.max_macs),
            ("memory", memory, self.max_memory),
        ):
            if limit is not None and value > limit:
                return Rejection(reason, value / limit - 1, f"{reason} {value:,} exceed {limit:,}")
        return None


@dataclass(frozen=True)
class GpuScreen:
    """Reject networks that no GPU of the cluster can train with their batch size.

    Attributes:
        largest_training: limit of the predicted training memory, in bytes.
        bfloat16: whether trials train in bfloat16.
    """

    largest_training: int
    bfloat16: bool

    def __call__(self, candidate: Candidate) -> Rejection | None:
        """Judge one candidate."""
        memory = predicted_memory(candidate, bfloat16=self.bfloat16)
        if memory <= self.largest_training:
            return None
        detail = f"memory {memory:,} exceeds the {self.largest_training:,} of the largest GPU"
        return Rejection("memory", memory / self.largest_training - 1, detail)
